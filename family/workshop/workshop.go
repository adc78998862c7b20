// Package workshop makes families and measures them, on a developer's machine or on
// a device that is idle. The command line above it parses flags and prints.
//
//	supernet, images ──Build──▶ search, measure, canaries ──┐
//	ONNX models ──────Import──▶ plain, trial, canary ───────┴──Pack──▶ X.family
//
//	X.family ──Verify────▶ every blob, every canary
//	         ──Evaluator─▶ guesses on labelled images
//	         ──Profile───▶ latency by provider, threads and batch
//	         ──Export────▶ one member as an ONNX file
//	supernet ──Table─────▶ latency of every layer
//	         ──Logits────▶ what one sub-network gives, to compare with PyTorch
//
// The rule: a file that is written is whole, and what it claims has been checked by
// running it. Work that takes hours keeps what it measured; the same call goes on
// from there.
package workshop

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"

	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/family/ofa"
	"github.com/limber-edge/limber/family/ort"
	"github.com/limber-edge/limber/family/resident"
	"github.com/limber-edge/limber/family/search"
)

// Progress is told how far work is, and what there is to say of it.
type Progress interface {
	// Tell says that done of so many steps of what are behind.
	Tell(what string, done, of int)
	// Say names work of which nobody knows how long it takes.
	Say(what string)
	// Note is a line about what was done, to be kept.
	Note(line string)
	// Warn is a line about what whoever asked for the work should know.
	Warn(line string)
}

// A Shop is what work on families is done with.
type Shop struct {
	Guard    resident.Guard // tries foreign models; nil refuses them
	Progress Progress
}

// OpenRuntime finds and loads ONNX Runtime.
func OpenRuntime() (*ort.Runtime, error) {
	path, err := ort.Find()
	if err != nil {
		return nil, err
	}
	return ort.Open(path)
}

// LoadSupernet reads a checkpoint, and warns of what it took of one that holds more
// than it needs.
func (s Shop) LoadSupernet(path string) (*ofa.Supernet, error) {
	net, err := ofa.Load(path)
	if err != nil {
		return nil, err
	}
	if taken := net.Taken(); taken != "" {
		s.Progress.Warn(path + ": took " + taken)
	}
	return net, nil
}

// Loader makes batch sessions with as many threads as asked for.
func Loader(rt *ort.Runtime, threads int) ofa.Loader {
	o := ort.DefaultOptions()
	o.Threads = threads
	return func(model []byte, input string, outputs []string) (ofa.BatchRunner, error) {
		return rt.NewBatch(model, input, outputs, o)
	}
}

// prober makes sessions to be timed, with as many threads as asked for.
func prober(rt *ort.Runtime, threads int) search.Prober {
	o := ort.DefaultOptions()
	o.Threads = threads
	return func(model []byte, input string, in []int, output string, out []int) (search.Probe, error) {
		return rt.NewProbe(model, ort.Port{Name: input, Dims: in}, ort.Port{Name: output, Dims: out}, o)
	}
}

// A scratch is the runtime with a folder for what sessions cache.
type scratch struct {
	rt  *ort.Runtime
	dir string
}

func openScratch() (*scratch, error) {
	rt, err := OpenRuntime()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "limber-")
	if err != nil {
		return nil, errors.Join(err, rt.Close())
	}
	return &scratch{rt, dir}, nil
}

// Close comes after every session's.
func (s *scratch) Close() error { return errors.Join(s.rt.Close(), os.RemoveAll(s.dir)) }

// shelf makes a family's members ready to run, as on a device.
func (s *scratch) shelf(f *family.Folder, o ort.Options, guard resident.Guard) (*resident.Shelf, error) {
	cache := filepath.Join(s.dir, o.Provider) // a shelf sweeps what is not its own
	if err := os.MkdirAll(cache, 0o700); err != nil {
		return nil, err
	}
	return resident.New(s.rt, &f.Family, f, cache, o, guard), nil
}

// Infer runs the folded sub-network on a batch (N×3×R×R) and wants numbers for
// logits (N×classes).
func Infer(sub *ofa.Subnet, load ofa.Loader, in []float32) (logits []float32, err error) {
	run, err := sub.Load(load)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, run.Close()) }()
	r := sub.Arch().R
	out, err := run.Run(in, len(in)/(3*r*r), r)
	if err != nil {
		return nil, err
	}
	for i, v := range out[0] {
		if math.IsNaN(float64(v)) || math.IsInf(float64(v), 0) {
			return nil, fmt.Errorf("logit %d of image %d is %v: the image or the weights are out of the range of a float32",
				i%sub.Classes(), i/sub.Classes(), v)
		}
	}
	return out[0], nil
}

// Noise is a fixed input that is neither constant nor denormal.
func Noise(n int) []float32 {
	v := make([]float32, n)
	for i := range v {
		v[i] = float32(i*7919%1000)/500 - 1
	}
	return v
}

// Verify checks that every blob has the bytes its digest names, and that every
// member passes its canary on this machine.
func (s Shop) Verify(ctx context.Context, f *family.Folder) (err error) {
	for _, d := range f.Digests() {
		if _, err := f.Blob(d); err != nil {
			return err
		}
	}
	room, err := openScratch()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, room.Close()) }()
	shelf, err := room.shelf(f, ort.DefaultOptions(), s.Guard)
	if err != nil {
		return err
	}
	for i := range f.Members {
		if err := ctx.Err(); err != nil {
			return err
		}
		s.Progress.Tell("canaries", i, len(f.Members))
		session, err := shelf.Session(i)
		if err != nil {
			return err
		}
		if err := session.Close(); err != nil {
			return err
		}
	}
	return nil
}

// whole leaves no blob out.
func whole(family.Digest) bool { return false }
