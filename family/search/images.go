package search

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"github.com/limber-edge/limber/family"
)

// Images is a set of labelled pictures.
type Images interface {
	Len() int
	Label(i int) int
	// Tensor writes picture i, preprocessed for resolution r, to dst (3×r×r).
	Tensor(dst []float32, i, r int) error
}

// Sets are the images a search needs.
type Sets struct {
	Calibration Images
	Validation  Images // choices are made on these
}

// picked is some images of a set.
type picked struct {
	Images
	at []int
}

// Pick is the images of a set with those indices, in their order.
func Pick(images Images, at []int) Images { return picked{images, at} }

func (p picked) Len() int                             { return len(p.at) }
func (p picked) Label(i int) int                      { return p.Images.Label(p.at[i]) }
func (p picked) Tensor(dst []float32, i, r int) error { return p.Images.Tensor(dst, p.at[i], r) }

// firstOf is the first n images of a set.
func firstOf(images Images, n int) Images {
	at := make([]int, min(n, images.Len()))
	for i := range at {
		at[i] = i
	}
	return Pick(images, at)
}

// Fingerprint is the digest of images as a network of resolution r sees them:
// their tensors one after the other.
func Fingerprint(images Images, r int) (family.Digest, error) {
	h, one := sha256.New(), make([]float32, 3*r*r)
	for i := range images.Len() {
		if err := images.Tensor(one, i, r); err != nil {
			return "", fmt.Errorf("fingerprint: %w", err)
		}
		h.Write(family.FloatBytes(one)) // a hash returns no error
	}
	return family.Digest(hex.EncodeToString(h.Sum(nil))), nil
}
