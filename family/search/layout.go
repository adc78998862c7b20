package search

import (
	"fmt"

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
	wide := func(channels float64) int { return ofa.Divisible(channels * width) }
	l := Layout{Description: ofa.Published(), Classes: 1000, Stem: wide(16), First: wide(16), Final: wide(960),
		Mix: wide(1280)}
	for _, channels := range []float64{24, 40, 80, 112, 160} {
		l.Stages = append(l.Stages, wide(channels))
	}
	return l
}

// LayoutOf reads a supernet's widths off its largest sub-network.
func LayoutOf(net *ofa.Supernet) (Layout, error) {
	l := Layout{Description: net.Description(), Classes: net.Classes()}
	space, err := SpaceOf(l.Description)
	if err != nil {
		return Layout{}, err
	}
	largest, err := net.Cut(net.Largest())
	if err != nil {
		return Layout{}, err
	}
	sections := largest.Sections()
	const before = 2 // the stem and block 0
	l.Stem, l.First = sections[0].Out.Channels, sections[1].Out.Channels
	for _, stage := range space.Stages {
		l.Stages = append(l.Stages, sections[before+stage.First].Out.Channels)
	}
	behind := sections[before+space.slots():]
	l.Final = behind[0].Out.Channels
	if mix := behind[2]; !mix.Classifier { // an OFA-ProxylessNASNet has none there
		l.Mix = mix.Out.Channels
	}
	return l, nil
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

func stemKey(in, out shape) string  { return fmt.Sprintf("Conv-input:%v-output:%v", in, out) }
func finalKey(in, out shape) string { return fmt.Sprintf("Conv_1-input:%v-output:%v", in, out) }
func poolKey(in shape) string {
	return fmt.Sprintf("AvgPool2D-input:%v-output:%v", in, shape{1, in.channels})
}
func mixKey(in, out int) string {
	return fmt.Sprintf("Conv_2-input:%v-output:%v", shape{1, in}, shape{1, out})
}
func classifierKey(in, classes int) string {
	return fmt.Sprintf("Logits-input:%v-output:%d", shape{1, in}, classes)
}

// keyOf is the key of a section of a sub-network; pooled tells whether it lies
// behind the pool.
func keyOf(s ofa.Section, resolution int, pooled bool) string {
	in, out := shape{s.In.Side, s.In.Channels}, shape{s.Out.Side, s.Out.Channels}
	switch {
	case s.Classifier:
		return classifierKey(in.channels, out.channels)
	case s.Pool:
		return poolKey(in)
	case s.Kernel > 0:
		return block{in: in, out: out, middle: s.Middle, kernel: s.Kernel, stride: s.Stride, shortcut: s.Shortcut, se: s.SE,
			hSwish: s.HSwish}.key()
	case in == shape{resolution, 3}:
		return stemKey(in, out)
	case pooled:
		return mixKey(in.channels, out.channels)
	}
	return finalKey(in, out)
}

// blockOf is a block of a stage: its first, or one of those behind it, which
// are all alike. Stage 0 is the static block before the first stage.
func (l *Layout) blockOf(stage int, in shape, first bool, middle, kernel int) block {
	stride, width := 1, l.First
	if first {
		stride = l.Strides[stage]
	}
	mayShortcut := l.Kind != ofa.ProxylessNAS // whose block 0 has none
	if stage > 0 {
		width, mayShortcut = l.Stages[stage-1], true
	}
	return block{in: in, out: shape{half(in.side, stride), width}, middle: middle, kernel: kernel, stride: stride,
		shortcut: mayShortcut && stride == 1 && in.channels == width, se: l.SE[stage], hSwish: l.Acts[stage] == "h_swish"}
}

// staticKeys lists the rows that every architecture of a resolution has: the
// layers before and behind the stages.
func (l *Layout) staticKeys(resolution int) []string {
	stem := shape{half(resolution, l.StemStride), l.Stem}
	side := half(stem.side, l.Strides[0])
	for _, stride := range l.Strides[1:] {
		side = half(side, stride)
	}
	keys := []string{
		stemKey(shape{resolution, 3}, stem),
		l.blockOf(0, stem, true, l.Stem, 3).key(),
		finalKey(shape{side, l.Stages[len(l.Stages)-1]}, shape{side, l.Final}),
		poolKey(shape{side, l.Final}),
	}
	features := l.Final
	if l.Mix > 0 {
		keys, features = append(keys, mixKey(l.Final, l.Mix)), l.Mix
	}
	return append(keys, classifierKey(features, l.Classes))
}
