package ofa

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"

	"github.com/limber-edge/limber/family"
)

// Description says what the shapes of a checkpoint cannot: the file X.json
// beside X.pth.
type Description struct {
	Kind        string    `json:"kind"` // "ofa_mbv3"
	BNEps       float64   `json:"bn_eps"`
	StemStride  int       `json:"stem_stride"`
	Strides     []int     `json:"strides"` // of block 0 and of each stage's first block
	Acts        []string  `json:"acts"`    // "relu" or "h_swish", likewise
	SE          []bool    `json:"se"`      // squeeze-and-excite, likewise
	KS          []int     `json:"ks"`      // kernel sizes that were trained
	E           []float64 `json:"e"`       // expand ratios that were trained
	D           []int     `json:"d"`       // depths that were trained
	Resolutions []int     `json:"resolutions"`

	Mean      [3]float32 `json:"mean"` // of pixels/255, red green blue
	Std       [3]float32 `json:"std"`
	Resize    string     `json:"resize"` // "bilinear"
	Antialias bool       `json:"antialias"`
	Crop      string     `json:"crop"`    // "none", or the fraction of the shorter side kept, "0.875"
	Classes   []string   `json:"classes"` // label of each logit
}

// Published describes the published ImageNet supernets of OFA-MobileNetV3 (any
// width). Class labels are not part of it.
func Published() Description {
	d := Description{
		Kind: "ofa_mbv3", BNEps: 1e-5, StemStride: 2,
		Strides: []int{1, 2, 2, 2, 1, 2},
		Acts:    []string{"relu", "relu", "relu", "h_swish", "h_swish", "h_swish"},
		SE:      []bool{false, false, true, false, true, true},
		KS:      []int{3, 5, 7}, E: []float64{3, 4, 6}, D: []int{2, 3, 4},
		Mean: [3]float32{0.485, 0.456, 0.406}, Std: [3]float32{0.229, 0.224, 0.225},
		Resize: "bilinear", Antialias: true, Crop: "0.875",
	}
	for r := 128; r <= 224; r += 4 {
		d.Resolutions = append(d.Resolutions, r)
	}
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
	if d.Kind != "ofa_mbv3" {
		complain(`kind %q: known is "ofa_mbv3"`, d.Kind)
	}
	if n := len(d.Strides); n < 2 || len(d.Acts) != n || len(d.SE) != n {
		complain("strides, acts and se: want one entry each for block 0 and every stage, got %d, %d and %d", n, len(d.Acts), len(d.SE))
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
		if a != string(relu) && a != string(hSwish) {
			complain(`act %q: known are "relu" and "h_swish"`, a)
		}
	}
	return errors.Join(append(errs, d.validateSpace(), d.validateInput())...)
}

func (d *Description) validateSpace() error {
	odd := func(k int) bool { return k >= 1 && k <= 15 && k%2 == 1 }
	switch {
	case len(d.KS) == 0 || slices.ContainsFunc(d.KS, func(k int) bool { return !odd(k) }):
		return fmt.Errorf("ks %v: wants odd kernel sizes up to 15", d.KS)
	case len(d.E) == 0 || slices.ContainsFunc(d.E, func(e float64) bool { return !(e >= 1 && e <= 16) }):
		return fmt.Errorf("e %v: wants expand ratios from 1 to 16", d.E)
	case len(d.D) == 0 || slices.ContainsFunc(d.D, func(n int) bool { return n < 1 || n > 16 }):
		return fmt.Errorf("d %v: wants depths from 1 to 16", d.D)
	case len(d.Resolutions) == 0 || slices.ContainsFunc(d.Resolutions, func(r int) bool { return r < 8 || r > maxResolution }):
		return fmt.Errorf("resolutions %v: wants pixels a side from 8 to %d", d.Resolutions, maxResolution)
	}
	return nil
}

func (d *Description) validateInput() error {
	if d.Resize != "bilinear" {
		return fmt.Errorf(`resize %q: known is "bilinear"`, d.Resize)
	}
	for _, s := range d.Std {
		if !(s > 0) {
			return fmt.Errorf("std %v: wants positive numbers", d.Std)
		}
	}
	_, err := d.CropFraction()
	return err
}

// CropFraction is how much of the shorter side the centre crop keeps; 0 means
// that nothing but the sides of a non-square image is cut.
func (d *Description) CropFraction() (float64, error) {
	if d.Crop == "none" {
		return 0, nil
	}
	f, err := strconv.ParseFloat(d.Crop, 64)
	if err != nil || !(f > 0 && f <= 1) {
		return 0, fmt.Errorf(`crop %q: wants "none" or a fraction such as "0.875"`, d.Crop)
	}
	return f, nil
}

func (d *Description) stages() int   { return len(d.Strides) - 1 }
func (d *Description) maxDepth() int { return slices.Max(d.D) }

// slots lists the stage of every elastic block, stage-major.
func (d *Description) slots() []int {
	var stages []int
	for s := range d.stages() {
		stages = append(stages, slices.Repeat([]int{s}, d.maxDepth())...)
	}
	return stages
}

// Uniform is the architecture with the same choice everywhere.
func (d *Description) Uniform(k int, e float64, depth, r int) family.Arch {
	n := len(d.slots())
	return family.Arch{
		KS: slices.Repeat([]int{k}, n), E: slices.Repeat([]float64{e}, n),
		D: slices.Repeat([]int{depth}, d.stages()), R: r,
	}
}

// maxResolution bounds the size of an input.
const maxResolution = 1024

// Check tells whether an architecture is one of this supernet's. Slots behind
// a stage's depth are not looked at.
func (d *Description) Check(a family.Arch) error {
	slots := d.slots()
	if len(a.KS) != len(slots) || len(a.E) != len(slots) || len(a.D) != d.stages() {
		return fmt.Errorf("architecture: wants %d ks, %d e and %d d, got %d, %d and %d",
			len(slots), len(slots), d.stages(), len(a.KS), len(a.E), len(a.D))
	}
	if len(a.W) != 0 {
		return errors.New("architecture: w is for OFA-ResNet50, this is an OFA-MobileNetV3")
	}
	if a.R < 8 || a.R > maxResolution {
		return fmt.Errorf("architecture: resolution %d is not from 8 to %d", a.R, maxResolution)
	}
	for stage, depth := range a.D {
		if !slices.Contains(d.D, depth) {
			return fmt.Errorf("architecture: stage %d has depth %d, this supernet has %v", stage+1, depth, d.D)
		}
		for slot := stage * d.maxDepth(); slot < stage*d.maxDepth()+depth; slot++ {
			if !slices.Contains(d.KS, a.KS[slot]) {
				return fmt.Errorf("architecture: block %d has kernel size %d, this supernet has %v", slot+1, a.KS[slot], d.KS)
			}
			if !slices.Contains(d.E, a.E[slot]) {
				return fmt.Errorf("architecture: block %d has expand ratio %v, this supernet has %v", slot+1, a.E[slot], d.E)
			}
		}
	}
	return nil
}
