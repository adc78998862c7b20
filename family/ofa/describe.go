package ofa

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/limber-edge/limber/family"
)

// Description says what the shapes of a checkpoint cannot: the file X.json
// beside X.pth.
type Description struct {
	Kind        string    `json:"kind"` // MobileNetV3, ProxylessNAS or ResNet50
	BNEps       float64   `json:"bn_eps"`
	StemStride  int       `json:"stem_stride"`
	Strides     []int     `json:"strides"`        // of block 0 (not ResNet50) and of each stage's first block
	Acts        []string  `json:"acts,omitempty"` // "relu", "relu6" or "h_swish", likewise; none for ResNet50
	SE          []bool    `json:"se,omitempty"`   // squeeze-and-excite, likewise
	KS          []int     `json:"ks"`             // kernel sizes that were trained
	E           []float64 `json:"e"`              // expand ratios that were trained
	D           []int     `json:"d"`              // depths that were trained; of ResNet50 what is added to the fewest
	W           []float64 `json:"w,omitempty"`    // width multipliers that were trained, ResNet50 only
	Resolutions []int     `json:"resolutions"`

	family.Preprocess
	Classes []string `json:"classes"` // label of each logit
}

// The kinds of supernet.
const (
	MobileNetV3  = "ofa_mbv3"
	ProxylessNAS = "ofa_proxyless"
	ResNet50     = "ofa_resnet50"
)

// Kinds lists them.
func Kinds() []string { return []string{MobileNetV3, ProxylessNAS, ResNet50} }

// Published describes the published ImageNet supernets of OFA-MobileNetV3 (any
// width). Class labels are not part of it.
func Published() Description {
	d := Description{
		Kind: MobileNetV3, BNEps: 1e-5, StemStride: 2,
		Strides: []int{1, 2, 2, 2, 1, 2},
		Acts:    []string{"relu", "relu", "relu", "h_swish", "h_swish", "h_swish"},
		SE:      []bool{false, false, true, false, true, true},
		KS:      []int{3, 5, 7}, E: []float64{3, 4, 6}, D: []int{2, 3, 4},
		Preprocess: family.Preprocess{Mean: [3]float32{0.485, 0.456, 0.406}, Std: [3]float32{0.229, 0.224, 0.225},
			Resize: "bilinear", Antialias: true, Crop: "0.875"},
	}
	for r := 128; r <= 224; r += 4 {
		d.Resolutions = append(d.Resolutions, r)
	}
	return d
}

// PublishedProxylessNAS describes the published OFA-ProxylessNASNets (w1.3).
func PublishedProxylessNAS() Description {
	d := Published()
	d.Kind, d.BNEps = ProxylessNAS, 1e-3
	d.Strides = []int{1, 2, 2, 2, 1, 2, 1}
	d.Acts, d.SE = slices.Repeat([]string{string(relu6)}, len(d.Strides)), make([]bool, len(d.Strides))
	return d
}

// PublishedResNet50 describes the published OFA-ResNet50.
func PublishedResNet50() Description {
	d := Published()
	d.Kind, d.Strides, d.Acts, d.SE = ResNet50, []int{1, 2, 2, 2}, nil, nil
	d.KS, d.E, d.D, d.W = []int{3}, []float64{0.2, 0.25, 0.35}, []int{0, 1, 2}, []float64{0.65, 0.8, 1}
	return d
}

// ParseDescription reads the JSON form. Unknown keys are errors: a misspelt
// stride would otherwise give a wrong network.
func ParseDescription(b []byte) (Description, error) {
	var d Description
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&d); err != nil {
		return Description{}, fmt.Errorf("supernet description: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return Description{}, errors.New("supernet description: something follows the object")
	}
	if err := d.validate(); err != nil {
		return Description{}, fmt.Errorf("supernet description: %w", err)
	}
	return d, nil
}

// Marshal writes what ParseDescription reads.
func (d Description) Marshal() ([]byte, error) {
	b, err := json.MarshalIndent(d, "", " ")
	if err != nil {
		return nil, fmt.Errorf("supernet description: %w", err)
	}
	return b, nil
}

func (d *Description) validate() error {
	var errs []error
	complain := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if !slices.Contains(Kinds(), d.Kind) {
		return fmt.Errorf("kind %q: known are %s", d.Kind, strings.Join(Kinds(), ", "))
	}
	if n := len(d.Strides); d.Kind == ResNet50 && (n != len(resNetBlocks) || len(d.Acts)+len(d.SE) > 0) {
		complain("strides, acts and se: a ResNet50 wants %d strides and nothing else, got %d, %d and %d", len(resNetBlocks),
			n, len(d.Acts), len(d.SE))
	} else if d.Kind != ResNet50 && (n < 2 || len(d.Acts) != n || len(d.SE) != n) {
		complain("strides, acts and se: want one entry each for block 0 and every stage, got %d, %d and %d", n, len(d.Acts),
			len(d.SE))
	}
	if !(d.BNEps > 0 && d.BNEps < 1) {
		complain("bn_eps %v: wants a small positive number", d.BNEps)
	}
	for _, s := range append([]int{d.StemStride}, d.Strides...) {
		if s != 1 && s != 2 {
			complain("stride %d: known are 1 and 2", s)
		}
	}
	for _, a := range d.Acts {
		if !slices.Contains([]activation{relu, relu6, hSwish}, activation(a)) {
			complain(`act %q: known are "relu", "relu6" and "h_swish"`, a)
		}
	}
	return errors.Join(append(errs, d.validateSpace(), d.Preprocess.Check())...)
}

func (d *Description) validateSpace() error {
	odd := func(k int) bool { return k >= 1 && k <= 15 && k%2 == 1 }
	leastE, leastD := 1.0, 1
	if d.Kind == ResNet50 {
		leastE, leastD = 1.0/16, 0
	}
	wide := func(w float64) bool { return w > 0 && w <= 4 }
	switch {
	case len(d.KS) == 0 || slices.ContainsFunc(d.KS, func(k int) bool { return !odd(k) }):
		return fmt.Errorf("ks %v: wants odd kernel sizes up to 15", d.KS)
	case len(d.E) == 0 || slices.ContainsFunc(d.E, func(e float64) bool { return !(e >= leastE && e <= 16) }):
		return fmt.Errorf("e %v: wants expand ratios from %v to 16", d.E, leastE)
	case len(d.D) == 0 || slices.ContainsFunc(d.D, func(n int) bool { return n < leastD || n > 16 }):
		return fmt.Errorf("d %v: wants depths from %d to 16", d.D, leastD)
	case (len(d.W) > 0) != (d.Kind == ResNet50) || slices.ContainsFunc(d.W, func(w float64) bool { return !wide(w) }):
		return fmt.Errorf("w %v: a ResNet50 wants width multipliers from 0 to 4, no other kind has them", d.W)
	case len(d.Resolutions) == 0 ||
		slices.ContainsFunc(d.Resolutions, func(r int) bool { return r < 8 || r > maxResolution }):
		return fmt.Errorf("resolutions %v: wants pixels a side from 8 to %d", d.Resolutions, maxResolution)
	}
	return nil
}

func (d *Description) maxDepth() int { return slices.Max(d.D) }

// lengths lists how many elastic blocks each stage has at most.
func (d *Description) lengths() []int {
	if d.Kind == ResNet50 {
		lengths := slices.Clone(resNetBlocks[:])
		for i := range lengths {
			lengths[i] += d.maxDepth()
		}
		return lengths
	}
	lengths := slices.Repeat([]int{d.maxDepth()}, len(d.Strides)-1)
	if d.Kind == ProxylessNAS {
		lengths[len(lengths)-1] = 1
	}
	return lengths
}

func (d *Description) slots() int {
	n := 0
	for _, length := range d.lengths() {
		n += length
	}
	return n
}

// depths is how many numbers say how deep an architecture is: one a stage, and
// one for the stem of a ResNet50.
func (d *Description) depths() int {
	if d.Kind == ResNet50 {
		return len(d.Strides) + 1
	}
	return len(d.Strides) - 1
}

// widths is how many numbers say how wide it is: two for the stem of a ResNet50
// and one a stage.
func (d *Description) widths() int {
	if d.Kind == ResNet50 {
		return len(d.Strides) + 2
	}
	return 0
}

// Uniform is the architecture with the same choice everywhere, and of a ResNet50
// the widest.
func (d *Description) Uniform(k int, e float64, depth, r int) family.Arch {
	a := family.Arch{E: slices.Repeat([]float64{e}, d.slots()), D: slices.Repeat([]int{depth}, d.depths()), R: r}
	if d.Kind == ResNet50 {
		a.W = slices.Repeat([]int{slices.Index(d.W, slices.Max(d.W))}, d.widths())
	} else {
		a.KS = slices.Repeat([]int{k}, d.slots())
	}
	return a
}

// maxResolution bounds the size of an input.
const maxResolution = 1024

// Check tells whether an architecture is one of this supernet's. Slots behind
// a stage's depth are not looked at.
func (d *Description) Check(a family.Arch) error {
	if err := d.checkLengths(a); err != nil {
		return err
	}
	if a.R < 8 || a.R > maxResolution {
		return fmt.Errorf("architecture: resolution %d is not from 8 to %d", a.R, maxResolution)
	}
	for i, w := range a.W {
		if w < 0 || w >= len(d.W) {
			return fmt.Errorf("architecture: width %d is number %d, this supernet has 0 to %d for %v", i+1, w, len(d.W)-1, d.W)
		}
	}
	for i, depth := range a.D {
		if !slices.Contains(d.D, depth) && !(depth == 1 && d.fixedDepth(i)) {
			return fmt.Errorf("architecture: stage %d has depth %d, this supernet has %v", i+1, depth, d.D)
		}
	}
	return d.checkBlocks(a)
}

// checkLengths tells whether there are as many numbers as choices.
func (d *Description) checkLengths(a family.Arch) error {
	n, depths, widths := d.slots(), d.depths(), d.widths()
	switch {
	case d.Kind == ResNet50:
		// Its one kernel size may be left out.
		if len(a.KS) != 0 && len(a.KS) != n || len(a.E) != n || len(a.D) != depths || len(a.W) != widths {
			return fmt.Errorf("architecture: wants %d e, %d d and %d w, got %d, %d and %d", n, depths, widths, len(a.E),
				len(a.D), len(a.W))
		}
	case len(a.KS) != n || len(a.E) != n || len(a.D) != depths:
		return fmt.Errorf("architecture: wants %d ks, %d e and %d d, got %d, %d and %d", n, n, depths, len(a.KS), len(a.E),
			len(a.D))
	case len(a.W) != 0:
		return fmt.Errorf("architecture: w is for OFA-ResNet50, this is an %s", d.title())
	}
	return nil
}

func (d *Description) title() string {
	switch d.Kind {
	case ProxylessNAS:
		return "OFA-ProxylessNASNet"
	case ResNet50:
		return "OFA-ResNet50"
	default:
		return "OFA-MobileNetV3"
	}
}

// fixedDepth tells whether entry i of the depths has but one meaning: the last
// stage of a ProxylessNASNet is one block.
func (d *Description) fixedDepth(i int) bool { return d.Kind == ProxylessNAS && i == d.depths()-1 }

// checkBlocks looks at the blocks that the depths leave.
func (d *Description) checkBlocks(a family.Arch) error {
	slot := 0
	for stage, length := range d.lengths() {
		for i := slot; i < slot+d.active(a, stage, length); i++ {
			if len(a.KS) > 0 && !slices.Contains(d.KS, a.KS[i]) {
				return fmt.Errorf("architecture: block %d has kernel size %d, this supernet has %v", i+1, a.KS[i], d.KS)
			}
			if !slices.Contains(d.E, a.E[i]) {
				return fmt.Errorf("architecture: block %d has expand ratio %v, this supernet has %v", i+1, a.E[i], d.E)
			}
		}
		slot += length
	}
	return nil
}

// active is how many of a stage's blocks an architecture uses.
func (d *Description) active(a family.Arch, stage, length int) int {
	if d.Kind == ResNet50 {
		return resNetBlocks[stage] + a.D[stage+1]
	}
	return min(a.D[stage], length)
}
