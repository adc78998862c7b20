package family

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
)

// Preprocess says how a picture becomes the input of a network. It is part of
// every supernet description.
type Preprocess struct {
	Mean      [3]float32 `json:"mean"` // of pixels/255, red green blue
	Std       [3]float32 `json:"std"`
	Resize    string     `json:"resize"` // "bilinear"
	Antialias bool       `json:"antialias"`
	Crop      string     `json:"crop"` // "none", or the fraction of the shorter side kept, "0.875"
}

// Check joins what is wrong.
func (p *Preprocess) Check() error {
	var errs []error
	if p.Resize != "bilinear" {
		errs = append(errs, fmt.Errorf(`resize %q: known is "bilinear"`, p.Resize))
	}
	for _, s := range p.Std {
		if !(s > 0) {
			errs = append(errs, fmt.Errorf("std %v: wants positive numbers", p.Std))
			break
		}
	}
	_, err := p.CropFraction()
	return errors.Join(append(errs, err)...)
}

// CropFraction is how much of the shorter side the centre crop keeps; 0 means
// that nothing but the sides of a non-square image is cut.
func (p *Preprocess) CropFraction() (float64, error) {
	if p.Crop == "none" {
		return 0, nil
	}
	f, err := strconv.ParseFloat(p.Crop, 64)
	if err != nil || !(f > 0 && f <= 1) {
		return 0, fmt.Errorf(`crop %q: wants "none" or a fraction such as "0.875"`, p.Crop)
	}
	return f, nil
}

// Preprocessing reads it from the family's description, whatever else that
// holds.
func (f *Family) Preprocessing() (Preprocess, error) {
	var p Preprocess
	err := json.Unmarshal(f.Describe, &p)
	if err == nil {
		err = p.Check()
	}
	if err != nil {
		return Preprocess{}, fmt.Errorf("family %s: preprocessing: %w", f.Name, err)
	}
	return p, nil
}
