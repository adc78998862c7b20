//go:build cgo

package ort

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	onnxruntime "github.com/yalue/onnxruntime_go"
)

// Batch is a model that takes any number of images at once and gives any
// number of outputs: evaluation and calibration, not serving.
type Batch struct {
	session *onnxruntime.DynamicAdvancedSession
	outputs int
}

// NewBatch loads a model from memory, with the names of its input (N×3×R×R)
// and of the outputs wanted.
func (r *Runtime) NewBatch(model []byte, input string, outputs []string, o Options) (*Batch, error) {
	opts, err := options(o)
	if err != nil {
		return nil, err
	}
	defer opts.Destroy()
	s, err := onnxruntime.NewDynamicAdvancedSessionWithONNXData(model, []string{input}, outputs, opts)
	if err != nil {
		return nil, fmt.Errorf("batch session: %w", err)
	}
	return &Batch{session: s, outputs: len(outputs)}, nil
}

// Run infers n images of r×r pixels and returns a copy of every output.
func (b *Batch) Run(in []float32, n, r int) ([][]float32, error) {
	if n < 1 || len(in) != n*3*r*r {
		return nil, fmt.Errorf("infer a batch: %d numbers are not %d images of 3×%d×%d", len(in), n, r, r)
	}
	tensor, err := onnxruntime.NewTensor(onnxruntime.NewShape(int64(n), 3, int64(r), int64(r)), in)
	if err != nil {
		return nil, fmt.Errorf("infer a batch: input: %w", err)
	}
	defer tensor.Destroy()
	values := make([]onnxruntime.Value, b.outputs)
	defer destroy(values)
	if err := b.session.Run([]onnxruntime.Value{tensor}, values); err != nil {
		return nil, fmt.Errorf("infer a batch: %w", err)
	}
	out := make([][]float32, b.outputs)
	for i, v := range values {
		t, ok := v.(*onnxruntime.Tensor[float32])
		if !ok {
			return nil, fmt.Errorf("infer a batch: output %d is not a tensor of float32", i)
		}
		out[i] = append(out[i], t.GetData()...)
	}
	return out, nil
}

func destroy(values []onnxruntime.Value) {
	for _, v := range values {
		if v != nil {
			v.Destroy()
		}
	}
}

// Close frees the model.
func (b *Batch) Close() error { return b.session.Destroy() }

// Optimize lets the library rewrite a model for this very CPU and this very
// version and writes the result to path, and the larger weights to a file
// beside it, from which sessions map them. Load it with Options.Optimized.
func (r *Runtime) Optimize(model []byte, path string, shape Shape, o Options) error {
	opts, err := options(o)
	if err != nil {
		return err
	}
	defer opts.Destroy()
	err = errors.Join(
		opts.SetOptimizedModelFilePath(path),
		opts.AddSessionConfigEntry("session.optimized_model_external_initializers_file_name",
			filepath.Base(path)+WeightsSuffix),
		opts.AddSessionConfigEntry("session.optimized_model_external_initializers_min_size_in_bytes", "1024"),
	)
	if err != nil {
		return fmt.Errorf("optimize %s: %w", path, err)
	}
	// The session itself is not needed, only the file it leaves.
	s, err := onnxruntime.NewDynamicAdvancedSessionWithONNXData(model, []string{shape.Input}, []string{shape.Output}, opts)
	if err != nil {
		return fmt.Errorf("optimize %s: %w", path, err)
	}
	err = errors.Join(s.Destroy(), os.Chmod(path, 0o600))
	// A model of small weights has none beside it.
	if e := os.Chmod(path+WeightsSuffix, 0o600); !errors.Is(e, fs.ErrNotExist) {
		err = errors.Join(err, e)
	}
	if err != nil {
		return fmt.Errorf("optimize %s: %w", path, err)
	}
	return nil
}
