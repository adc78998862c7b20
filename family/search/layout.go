package search

import (
	"fmt"
	"math"

	"github.com/limber-edge/limber/family/ofa"
)

// Layout is what the keys of a latency table tell of a supernet: its
// description, and the widths, which a description leaves to the checkpoint.
type Layout struct {
	ofa.Description
	Stem    int   // channels of the first convolution
	First   int   // channels of block 0
	Stages  []int // channels of each stage
	Final   int   // channels of the last convolution before the pool
	Mix     int   // channels of the convolution behind the pool
	Classes int
}

// PublishedLayout is that of the published ImageNet supernets of
// OFA-MobileNetV3; width is 1.0 or 1.2. The published tables are of 1.2.
func PublishedLayout(width float64) Layout {
	l := Layout{Description: ofa.Published(), Classes: 1000,
		Stem: rounded(16 * width), First: rounded(16 * width), Final: rounded(960 * width), Mix: rounded(1280 * width)}
	for _, w := range []float64{24, 40, 80, 112, 160} {
		l.Stages = append(l.Stages, rounded(w*width))
	}
	return l
}

// rounded is a width as a multiple of 8: the nearest, but never more than a
// tenth down.
func rounded(w float64) int {
	n := max(8, int(w+4)/8*8)
	if float64(n) < 0.9*w {
		n += 8
	}
	return n
}

// half is the side of a feature map behind a convolution of that stride.
func half(side, stride int) int { return (side-1)/stride + 1 }

// shape is a feature map: side × side × channels.
type shape struct{ side, channels int }

func (s shape) String() string { return fmt.Sprintf("%dx%dx%d", s.side, s.side, s.channels) }

// block is a row of a latency table that the architecture decides about.
type block struct {
	in, out        shape
	middle, kernel int
	stride         int
	shortcut       bool
	se, hSwish     bool
}

func (b block) key() string {
	return fmt.Sprintf("expanded_conv-input:%v-output:%v-expand:%d-kernel:%d-stride:%d-idskip:%d-se:%d-hs:%d",
		b.in, b.out, b.middle, b.kernel, b.stride, bit(b.shortcut), bit(b.se), bit(b.hSwish))
}

// blockOf is a block of a stage: its first, or one of those behind it, which
// are all alike. Stage 0 is the static block before the first stage.
func (l *Layout) blockOf(stage int, in shape, first bool, middle, kernel int) block {
	stride, width := 1, l.First
	if first {
		stride = l.Strides[stage]
	}
	if stage > 0 {
		width = l.Stages[stage-1]
	}
	return block{in: in, out: shape{half(in.side, stride), width}, middle: middle, kernel: kernel, stride: stride,
		shortcut: stride == 1 && in.channels == width, se: l.SE[stage], hSwish: l.Acts[stage] == "h_swish"}
}

// expanded is the width of a block's middle.
func expanded(in int, ratio float64) int { return rounded(math.RoundToEven(float64(in) * ratio)) }

// staticKeys lists the rows that every architecture of a resolution has: the
// layers before and behind the stages.
func (l *Layout) staticKeys(resolution int) []string {
	stem := shape{half(resolution, l.StemStride), l.Stem}
	side := half(stem.side, l.Strides[0])
	for _, stride := range l.Strides[1:] {
		side = half(side, stride)
	}
	return []string{
		fmt.Sprintf("Conv-input:%v-output:%v", shape{resolution, 3}, stem),
		l.blockOf(0, stem, true, l.Stem, 3).key(),
		fmt.Sprintf("Conv_1-input:%v-output:%v", shape{side, l.Stages[len(l.Stages)-1]}, shape{side, l.Final}),
		fmt.Sprintf("AvgPool2D-input:%v-output:%v", shape{side, l.Final}, shape{1, l.Final}),
		fmt.Sprintf("Conv_2-input:%v-output:%v", shape{1, l.Final}, shape{1, l.Mix}),
		fmt.Sprintf("Logits-input:%v-output:%d", shape{1, l.Mix}, l.Classes),
	}
}
