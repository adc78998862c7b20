package ofa

import (
	"errors"
	"fmt"
	"math"
)

// Stats returns the statistics of every BN, layer by layer: the means of its
// channels, then their variances. Their order follows from the architecture
// alone, so they can be kept apart from the weights.
func (n *Subnet) Stats() []float32 {
	var stats []float32
	for _, bn := range n.norms() {
		stats = append(append(stats, bn.mean...), bn.variance...)
	}
	return stats
}

// SetStats puts statistics in the order of Stats into the sub-network.
func (n *Subnet) SetStats(stats []float32) error {
	want, norms := 0, n.norms()
	for _, bn := range norms {
		want += 2 * len(bn.mean)
	}
	if len(stats) != want {
		return fmt.Errorf("BN statistics: %d numbers do not fit this architecture, which has %d", len(stats), want)
	}
	for i, v := range stats {
		if math.IsNaN(float64(v)) || math.IsInf(float64(v), 0) {
			return fmt.Errorf("BN statistics: number %d is %v", i, v)
		}
	}
	for i, at := 0, 0; i < len(norms); i++ {
		at += len(norms[i].mean)
		for channel, v := range stats[at:][:len(norms[i].mean)] {
			if v < 0 {
				return fmt.Errorf("BN statistics: variance %d of BN %d is %v", channel, i, v)
			}
		}
		at += len(norms[i].mean)
	}
	for _, bn := range norms {
		c := len(bn.mean)
		bn.mean, bn.variance, stats = stats[:c], stats[c:2*c], stats[2*c:]
	}
	return nil
}

func (n *Subnet) norms() []*batchNorm {
	var norms []*batchNorm
	for i := range n.layers {
		if bn := n.layers[i].conv.bn; bn != nil {
			norms = append(norms, bn)
		}
	}
	return norms
}

// statNames are the outputs of the calibration model: mean and variance of
// each BN, in the order of Stats.
func (n *Subnet) statNames() []string {
	var names []string
	for i, l := range n.layers {
		if l.conv.bn != nil {
			names = append(names, fmt.Sprintf("l%d.mean", i), fmt.Sprintf("l%d.var", i))
		}
	}
	return names
}

// BatchRunner runs a model on n images of r×r pixels and returns its outputs.
// ONNX Runtime is the one that does.
type BatchRunner interface {
	Run(in []float32, n, r int) ([][]float32, error)
	Close() error
}

// Loader turns a model into a BatchRunner with the named outputs.
type Loader func(model []byte, input string, outputs []string) (BatchRunner, error)

// Load makes a BatchRunner of the folded sub-network, for a batch of any size, whose
// input and output are InputName and OutputName.
func (s *Subnet) Load(load Loader) (BatchRunner, error) {
	model, err := s.Model(0)
	if err != nil {
		return nil, err
	}
	return load(model, InputName, []string{OutputName})
}

// Batches gives the images to calibrate on: batch i, preprocessed, n×3×R×R, or
// nil after the last one. The slice may be used again for the next batch.
type Batches func(i int) ([]float32, error)

// Calibrate recomputes the BN statistics as OFA's set_running_statistics does:
// each BN normalises with its own batch's mean and biased variance, and its
// statistics are the means of those over the batches, weighted by their sizes.
func (n *Subnet) Calibrate(load Loader, batches Batches) error {
	model, err := n.calibrationModel()
	if err != nil {
		return fmt.Errorf("calibrate: %w", err)
	}
	run, err := load(model, InputName, n.statNames())
	if err != nil {
		return fmt.Errorf("calibrate: %w", err)
	}
	stats, err := n.average(run, batches)
	if err = errors.Join(err, run.Close()); err != nil {
		return fmt.Errorf("calibrate: %w", err)
	}
	return n.SetStats(stats)
}

// average runs every batch and returns the weighted mean of its statistics.
func (n *Subnet) average(run BatchRunner, batches Batches) ([]float32, error) {
	sum := make([]float64, len(n.Stats()))
	images, pixels := 0, 3*n.arch.R*n.arch.R
	for i := 0; ; i++ {
		batch, err := batches(i)
		if err != nil {
			return nil, err
		}
		if batch == nil {
			break
		}
		size := len(batch) / pixels
		outs, err := run.Run(batch, size, n.arch.R)
		if err != nil {
			return nil, fmt.Errorf("batch %d: %w", i, err)
		}
		at := 0
		for _, out := range outs {
			for _, v := range out {
				sum[at] += float64(v) * float64(size)
				at++
			}
		}
		images += size
	}
	if images == 0 {
		return nil, errors.New("no images to compute statistics from")
	}
	stats := make([]float32, len(sum))
	for i, v := range sum {
		stats[i] = float32(v / float64(images))
	}
	return stats, nil
}
