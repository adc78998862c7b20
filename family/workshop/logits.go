package workshop

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/family/ofa"
	"github.com/limber-edge/limber/store"
)

// Logits names the files of one run of a sub-network on raw input, little-endian
// float32.
type Logits struct {
	Supernet  string   // checkpoint
	Arch      string   // JSON of a family.Arch
	Input     string   // N×3×R×R
	Calibrate []string // batches of the same form to compute BN statistics from, or none
	Out       string   // to be written, N×classes
}

// Logits writes what a sub-network gives.
func (s Shop) Logits(l Logits) (err error) {
	sub, err := s.cut(l)
	if err != nil {
		return err
	}
	in, err := readImages(l.Input, sub.Arch().R)
	if err != nil {
		return err
	}
	rt, err := OpenRuntime()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rt.Close()) }()
	load := Loader(rt, 2)
	if len(l.Calibrate) > 0 {
		if err := sub.Calibrate(load, l.batches(sub.Arch().R)); err != nil {
			return err
		}
	}
	logits, err := Infer(sub, load, in)
	if err != nil {
		return err
	}
	return store.WriteFile(l.Out, family.FloatBytes(logits))
}

func (s Shop) cut(l Logits) (*ofa.Subnet, error) {
	b, err := os.ReadFile(l.Arch)
	if err != nil {
		return nil, fmt.Errorf("architecture: %w", err)
	}
	arch, err := family.ParseArch(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", l.Arch, err)
	}
	net, err := s.LoadSupernet(l.Supernet)
	if err != nil {
		return nil, err
	}
	return net.Cut(arch)
}

func (l Logits) batches(r int) ofa.Batches {
	return func(i int) ([]float32, error) {
		if i == len(l.Calibrate) {
			return nil, nil
		}
		return readImages(strings.TrimSpace(l.Calibrate[i]), r)
	}
}

// readImages reads raw images of 3×r×r.
func readImages(path string, r int) ([]float32, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("images: %w", err)
	}
	v, err := family.Floats(b)
	if err == nil && (len(v) == 0 || len(v)%(3*r*r) != 0) {
		err = fmt.Errorf("%d bytes are not a whole number of images of 3×%d×%d float32 (%d bytes each)",
			len(b), r, r, 4*3*r*r)
	}
	if err != nil {
		return nil, fmt.Errorf("images %s: %w", path, err)
	}
	return v, nil
}
