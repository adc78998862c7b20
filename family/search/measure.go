package search

import (
	"errors"
	"fmt"

	"github.com/limber-edge/limber/family/ofa"
)

// BatchSize is how many images run at once: OFA calibrates in batches of 200, and
// more would only cost memory.
const BatchSize = 200

// Score is how well a sub-network classifies.
type Score struct {
	Top1, Top5 float64 // fractions
	Images     int
}

// Calibrate computes the sub-network's BN statistics on images, in their order.
func Calibrate(sub *ofa.Subnet, load ofa.Loader, images Images) error {
	r := sub.Arch().R
	buffer := make([]float32, BatchSize*3*r*r)
	return sub.Calibrate(load, func(i int) ([]float32, error) {
		return tensors(buffer, images, i*BatchSize, r)
	})
}

// tensors fills buffer with the images from first on, as many as it holds;
// nil when there are none.
func tensors(buffer []float32, images Images, first, r int) ([]float32, error) {
	n := min(BatchSize, images.Len()-first)
	if n <= 0 {
		return nil, nil
	}
	for i := range n {
		if err := images.Tensor(buffer[i*3*r*r:][:3*r*r], first+i, r); err != nil {
			return nil, err
		}
	}
	return buffer[:n*3*r*r], nil
}

// Evaluate counts how many images a sub-network classifies right.
func Evaluate(sub *ofa.Subnet, load ofa.Loader, images Images) (score Score, err error) {
	if err := labelled(images, sub.Classes()); err != nil {
		return Score{}, err
	}
	model, err := sub.Model(0)
	if err != nil {
		return Score{}, err
	}
	run, err := load(model, ofa.InputName, []string{ofa.OutputName})
	if err != nil {
		return Score{}, err
	}
	defer func() { err = errors.Join(err, run.Close()) }()
	r, classes := sub.Arch().R, sub.Classes()
	buffer := make([]float32, BatchSize*3*r*r)
	var first, five int
	for at := 0; at < images.Len(); at += BatchSize {
		in, err := tensors(buffer, images, at, r)
		if err != nil {
			return Score{}, err
		}
		out, err := run.Run(in, len(in)/(3*r*r), r)
		if err != nil {
			return Score{}, err
		}
		for i := 0; i*classes < len(out[0]); i++ {
			rank := Rank(out[0][i*classes:][:classes], images.Label(at+i))
			first += bit(rank < 1)
			five += bit(rank < 5)
		}
	}
	n := images.Len()
	return Score{Top1: float64(first) / float64(n), Top5: float64(five) / float64(n), Images: n}, nil
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

// part is a stretch of a set.
type part struct {
	Images
	first, n int
}

// Part is the n images of a set from first on.
func Part(images Images, first, n int) Images { return part{images, first, n} }

func (p part) Len() int                             { return p.n }
func (p part) Label(i int) int                      { return p.Images.Label(p.first + i) }
func (p part) Tensor(dst []float32, i, r int) error { return p.Images.Tensor(dst, p.first+i, r) }

func firstOf(images Images, n int) Images { return Part(images, 0, min(n, images.Len())) }
