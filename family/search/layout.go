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

// keysOf are the rows of the sections of a sub-network, front to back.
func keysOf(sections []ofa.Section, resolution int) (keys []string) {
	pooled := false
	for _, s := range sections {
		keys = append(keys, keyOf(s, resolution, pooled))
		pooled = pooled || s.Pool
	}
	return keys
}

// keyOf is the row of a section; pooled tells whether it lies behind the pool.
func keyOf(s ofa.Section, resolution int, pooled bool) string {
	name := "Conv_1"
	switch {
	case s.Classifier:
		return fmt.Sprintf("Logits-input:%v-output:%d", s.In, s.Out.Channels)
	case s.Kernel > 0:
		return fmt.Sprintf("expanded_conv-input:%v-output:%v-expand:%d-kernel:%d-stride:%d-idskip:%d-se:%d-hs:%d",
			s.In, s.Out, s.Middle, s.Kernel, s.Stride, bit(s.Shortcut), bit(s.SE), bit(s.HSwish))
	case s.Pool:
		name = "AvgPool2D"
	case s.In == ofa.Map{Side: resolution, Channels: 3}:
		name = "Conv"
	case pooled:
		name = "Conv_2"
	}
	return fmt.Sprintf("%s-input:%v-output:%v", name, s.In, s.Out)
}

// blockOf is a block of a stage: its first, or one of those behind it, which
// are all alike. Stage 0 is the static block before the first stage.
func (l *Layout) blockOf(stage int, in ofa.Map, first bool, middle, kernel int) ofa.Section {
	stride, width := 1, l.First
	if first {
		stride = l.Strides[stage]
	}
	mayShortcut := l.Kind != ofa.ProxylessNAS // whose block 0 has none
	if stage > 0 {
		width, mayShortcut = l.Stages[stage-1], true
	}
	return ofa.Section{In: in, Out: ofa.Map{Side: half(in.Side, stride), Channels: width}, Middle: middle, Kernel: kernel,
		Stride: stride, Shortcut: mayShortcut && stride == 1 && in.Channels == width, SE: l.SE[stage],
		HSwish: l.Acts[stage] == "h_swish"}
}

// staticKeys lists the rows that every architecture of a resolution has: the
// layers before and behind the stages.
func (l *Layout) staticKeys(resolution int) []string {
	stem := ofa.Map{Side: half(resolution, l.StemStride), Channels: l.Stem}
	last := ofa.Map{Side: half(stem.Side, l.Strides[0]), Channels: l.Stages[len(l.Stages)-1]}
	for _, stride := range l.Strides[1:] {
		last.Side = half(last.Side, stride)
	}
	final, features := ofa.Map{Side: last.Side, Channels: l.Final}, ofa.Map{Side: 1, Channels: l.Final}
	sections := []ofa.Section{
		{In: ofa.Map{Side: resolution, Channels: 3}, Out: stem},
		l.blockOf(0, stem, true, l.Stem, 3),
		{In: last, Out: final},
		{In: final, Out: features, Pool: true},
	}
	if l.Mix > 0 {
		mix := ofa.Map{Side: 1, Channels: l.Mix}
		sections, features = append(sections, ofa.Section{In: features, Out: mix}), mix
	}
	sections = append(sections, ofa.Section{In: features, Out: ofa.Map{Side: 1, Channels: l.Classes}, Classifier: true})
	return keysOf(sections, resolution)
}
