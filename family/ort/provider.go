//go:build cgo

package ort

import (
	"errors"
	"fmt"
	"strings"

	onnxruntime "github.com/yalue/onnxruntime_go"
)

// Provides tells whether the library can run models on an execution provider.
// Its error wraps ErrNoProvider.
func (r *Runtime) Provides(provider string) error {
	o := DefaultOptions()
	o.Provider = provider
	opts, err := options(o)
	if err != nil {
		return fmt.Errorf("%s: %w", r.path, err)
	}
	return opts.Destroy()
}

// provide adds the execution provider. Operators that one does not know go to
// the next: from TensorRT to CUDA to the CPU.
func provide(opts *onnxruntime.SessionOptions, o Options) error {
	var err error
	switch o.Provider {
	case CPU:
		return nil
	case TensorRT:
		if err = provideTensorRT(opts, o.Engines); err == nil {
			err = provideCUDA(opts)
		}
	case CUDA:
		err = provideCUDA(opts)
	default:
		return fmt.Errorf("%w: %q is none of %q", ErrNoProvider, o.Provider, Providers())
	}
	if err != nil {
		return fmt.Errorf("%w: %s: %s; point ONNXRUNTIME_LIB to a build of ONNX Runtime for this board's GPU", ErrNoProvider,
			o.Provider, plain(err))
	}
	return nil
}

// plain is an error of the library without the place in its source.
func plain(err error) string {
	text := err.Error()
	if _, behind, ok := strings.Cut(text, " : FAIL : "); ok {
		return behind
	}
	return text
}

func provideCUDA(opts *onnxruntime.SessionOptions) error {
	cuda, err := onnxruntime.NewCUDAProviderOptions()
	if err != nil {
		return err
	}
	// Trying out every algorithm of cuDNN for every convolution takes minutes
	// on a small board; what the heuristic takes is nearly as fast.
	err = cuda.Update(map[string]string{"cudnn_conv_algo_search": "HEURISTIC"})
	if err == nil {
		err = opts.AppendExecutionProviderCUDA(cuda)
	}
	return errors.Join(err, cuda.Destroy())
}

// provideTensorRT keeps engines and timings in a folder: to build an engine takes
// minutes, to load one seconds. Engines are of half precision, which is what
// these boards have TensorRT for; the canary tells whether a member bears it.
func provideTensorRT(opts *onnxruntime.SessionOptions, engines string) error {
	trt, err := onnxruntime.NewTensorRTProviderOptions()
	if err != nil {
		return err
	}
	settings := map[string]string{"trt_fp16_enable": "1"}
	if engines != "" {
		settings["trt_engine_cache_enable"], settings["trt_engine_cache_path"] = "1", engines
		settings["trt_timing_cache_enable"], settings["trt_timing_cache_path"] = "1", engines
	}
	if err = trt.Update(settings); err == nil {
		err = opts.AppendExecutionProviderTensorRT(trt)
	}
	return errors.Join(err, trt.Destroy())
}
