package search

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/family/ofa"
)

// Score is how well a sub-network classifies.
type Score struct {
	Top1, Top5 float64 // fractions
	Images     int
}

// Calibrate computes the sub-network's BN statistics on images, in their order
// and in batches of so many: each batch is normalised by itself, so that other
// batches give other statistics. OFA's own are of 200.
func Calibrate(sub *ofa.Subnet, load ofa.Loader, images Images, batch int) error {
	r := sub.Arch().R
	buffer := make([]float32, batch*3*r*r)
	return sub.Calibrate(load, func(i int) ([]float32, error) {
		return tensors(buffer, images, i*batch, r)
	})
}

// tensors fills buffer with the images from first on, as many as it holds;
// nil when there are none.
func tensors(buffer []float32, images Images, first, r int) ([]float32, error) {
	size := 3 * r * r
	n := min(len(buffer)/size, images.Len()-first)
	if n <= 0 {
		return nil, nil
	}
	for i := range n {
		if err := images.Tensor(buffer[i*size:][:size], first+i, r); err != nil {
			return nil, err
		}
	}
	return buffer[:n*size], nil
}

// pixelsAtOnce bounds what an evaluation keeps in memory: 200 images of 100×100
// pixels, 40 of 224×224.
const pixelsAtOnce = 2_000_000

// atOnce is how many images are evaluated in one run.
func atOnce(r int) int { return min(max(pixelsAtOnce/(r*r), 1), 200) }

// Guess is what a sub-network takes an image for.
type Guess struct {
	Class int // of the highest logit
	Rank  int // of the right class among the logits; 0 is right
}

// Guesses runs a sub-network on labelled images.
func Guesses(ctx context.Context, sub *ofa.Subnet, load ofa.Loader, images Images) (guesses []Guess, err error) {
	run, err := sub.Load(load)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, run.Close()) }()
	r := sub.Arch().R
	return Classifier{Run: run.Run, R: r, Classes: sub.Classes(), AtOnce: atOnce(r)}.Guesses(ctx, images)
}

// Classifier is a network that is ready to run, a sub-network or not.
type Classifier struct {
	// Run infers n images of r×r pixels; the first of what it returns holds
	// n × Classes logits.
	Run     func(in []float32, n, r int) ([][]float32, error)
	R       int // pixels a side
	Classes int
	AtOnce  int // images of a run
}

// Guesses runs a classifier on labelled images, until ctx ends.
func (c Classifier) Guesses(ctx context.Context, images Images) (guesses []Guess, err error) {
	if err := labelled(images, c.Classes); err != nil {
		return nil, err
	}
	r, classes := c.R, c.Classes
	buffer := make([]float32, c.AtOnce*3*r*r)
	for at := 0; at < images.Len(); at += c.AtOnce {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		in, err := tensors(buffer, images, at, r)
		if err != nil {
			return nil, err
		}
		out, err := c.Run(in, len(in)/(3*r*r), r)
		if err != nil {
			return nil, err
		}
		for i := 0; i*classes < len(out[0]); i++ {
			logits := out[0][i*classes:][:classes]
			guesses = append(guesses, Guess{Class: highest(logits), Rank: Rank(logits, images.Label(at+i))})
		}
	}
	return guesses, nil
}

// highest is the index of the highest number, the first of equals.
func highest(v []float32) int {
	at := 0
	for i := range v {
		if v[i] > v[at] {
			at = i
		}
	}
	return at
}

// ScoreOf counts how many guesses are right.
func ScoreOf(guesses []Guess) Score {
	var first, five int
	for _, g := range guesses {
		first += bit(g.Rank < 1)
		five += bit(g.Rank < 5)
	}
	n := len(guesses)
	return Score{Top1: float64(first) / float64(n), Top5: float64(five) / float64(n), Images: n}
}

// Evaluate counts how many images a sub-network classifies right.
func Evaluate(ctx context.Context, sub *ofa.Subnet, load ofa.Loader, images Images) (Score, error) {
	guesses, err := Guesses(ctx, sub, load, images)
	if err != nil {
		return Score{}, err
	}
	return ScoreOf(guesses), nil
}

// Agreement is the fraction of images that two sub-networks take for the same.
func Agreement(a, b []Guess) float64 {
	same := 0
	for i := range a {
		same += bit(a[i].Class == b[i].Class)
	}
	return float64(same) / float64(len(a))
}

// Confusion counts, for each class (row), what its images were taken for
// (column).
func Confusion(guesses []Guess, images Images, classes int) [][]int {
	counts := make([][]int, classes)
	for i := range counts {
		counts[i] = make([]int, classes)
	}
	for i, g := range guesses {
		counts[images.Label(i)][g.Class]++
	}
	return counts
}

// labelled tells why images cannot be counted as right or wrong.
func labelled(images Images, classes int) error {
	if images.Len() == 0 {
		return errors.New("evaluate: there are no images")
	}
	for i := range images.Len() {
		if label := images.Label(i); label < 0 || label >= classes {
			return fmt.Errorf("evaluate: image %d has label %d, the network knows %d classes", i, label, classes)
		}
	}
	return nil
}

// Rank is how many classes come before the label: 0 is right. A logit that is
// no number comes before every other, so it never makes an answer right.
func Rank(logits []float32, label int) int {
	rank := 0
	for i, v := range logits {
		rank += bit(i != label && !(v <= logits[label]))
	}
	return rank
}

func bit(b bool) int {
	if b {
		return 1
	}
	return 0
}

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
