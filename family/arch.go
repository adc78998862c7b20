package family

import (
	"encoding/json"
	"fmt"
	"slices"
)

// Arch is the architecture of one sub-network, in the encoding of the
// Once-for-All code: stage-major, with as many slots per stage as its deepest
// form has blocks. Slots behind a stage's depth are kept and ignored.
type Arch struct {
	KS []int     `json:"ks,omitempty"` // kernel size of each elastic block
	E  []float64 `json:"e"`            // expand ratio of each elastic block
	D  []int     `json:"d"`            // depth of each stage
	W  []int     `json:"w,omitempty"`  // width index of each stage (OFA-ResNet50)
	R  int       `json:"r"`            // input resolution, pixels a side
}

// ParseArch reads the JSON form. Whether the numbers fit a supernet is the
// supernet's to say.
func ParseArch(b []byte) (Arch, error) {
	var a Arch
	if err := json.Unmarshal(b, &a); err != nil {
		return Arch{}, fmt.Errorf("architecture: %w", err)
	}
	if len(a.E) == 0 || len(a.D) == 0 || a.R <= 0 {
		return Arch{}, fmt.Errorf(`architecture: wants {"ks":[...],"e":[...],"d":[...],"r":N}, got %.80s`, b)
	}
	return a, nil
}

// Equal tells whether two architectures are the same, unused slots included.
func (a Arch) Equal(b Arch) bool {
	return a.R == b.R && slices.Equal(a.KS, b.KS) && slices.Equal(a.E, b.E) &&
		slices.Equal(a.D, b.D) && slices.Equal(a.W, b.W)
}
