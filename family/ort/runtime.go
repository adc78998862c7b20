//go:build cgo

package ort

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	onnxruntime "github.com/yalue/onnxruntime_go"
)

// Runtime is the loaded library. It must be closed after its sessions.
type Runtime struct {
	path    string
	version string
}

// Open loads the library at path, which Find returned. Its error wraps
// ErrMissing when the library is too old or cannot be loaded.
func Open(path string) (*Runtime, error) {
	if onnxruntime.IsInitialized() {
		return nil, errors.New("open ONNX Runtime: this process has one open already")
	}
	if err := keepToOurselves(); err != nil {
		return nil, fmt.Errorf("open ONNX Runtime: %w", err)
	}
	onnxruntime.SetSharedLibraryPath(path)
	if err := onnxruntime.InitializeEnvironment(onnxruntime.WithLogLevelError()); err != nil {
		return nil, fmt.Errorf("%w: load %s: %w; it must be ONNX Runtime %s or newer for this machine (make build fetches "+
			"it, ONNXRUNTIME_LIB names another)",
			ErrMissing, path, err, MinVersion)
	}
	r := &Runtime{path: path, version: onnxruntime.GetVersion()}
	if err := shareMemory(); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	if older(r.version, MinVersion) {
		err := fmt.Errorf("%w: %s is version %s, too old: %s or newer is needed; run `make build`, or set ONNXRUNTIME_LIB",
			ErrMissing, path, r.version, MinVersion)
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

// keepToOurselves turns off the telemetry that the library, from 1.29 on, sends
// to its maker from Linux unless this variable is set before it is loaded. Who
// wants it sets the variable to 0.
func keepToOurselves() error {
	const variable = "ORT_DISABLE_TELEMETRY"
	if _, decided := os.LookupEnv(variable); decided {
		return nil
	}
	return os.Setenv(variable, "1")
}

// Version of the library, for example "1.30.0".
func (r *Runtime) Version() string { return r.version }

// Path the library was loaded from.
func (r *Runtime) Path() string { return r.path }

// Close unloads the library. Every session must be closed before.
func (r *Runtime) Close() error {
	if err := onnxruntime.DestroyEnvironment(); err != nil {
		return fmt.Errorf("close ONNX Runtime: %w", err)
	}
	return nil
}

// older compares versions of the form 1.30.0, part by part. A part that is
// no number counts as 0.
func older(version, than string) bool {
	a, b := strings.Split(version, "."), strings.Split(than, ".")
	for i := range min(len(a), len(b)) {
		x, _ := strconv.Atoi(a[i])
		y, _ := strconv.Atoi(b[i])
		if x != y {
			return x < y
		}
	}
	return len(a) < len(b)
}

// shareMemory makes one arena for the buffers of all optimised sessions: they
// run one after the other, and what one of them frees the next can use.
func shareMemory() error {
	memory, err := onnxruntime.GetMemoryInfo()
	if err == nil {
		err = onnxruntime.CreateAndRegisterAllocator(memory, nil)
	}
	if err != nil {
		return fmt.Errorf("open ONNX Runtime: shared memory: %w", err)
	}
	return nil
}

// options turns Options into the library's, which the caller must destroy.
func options(o Options) (*onnxruntime.SessionOptions, error) {
	opts, err := onnxruntime.NewSessionOptions()
	if err != nil {
		return nil, fmt.Errorf("session options: %w", err)
	}
	level := onnxruntime.GraphOptimizationLevel(onnxruntime.GraphOptimizationLevelEnableAll)
	if o.Optimized {
		level = onnxruntime.GraphOptimizationLevelDisableAll
		err = errors.Join(
			// The weights are in the order the kernels want already; packing
			// them would copy what is mapped from the file.
			opts.AddSessionConfigEntry("session.disable_prepacking", "1"),
			opts.AddSessionConfigEntry("session.use_env_allocators", "1"),
		)
	}
	err = errors.Join(err,
		opts.SetIntraOpNumThreads(o.Threads),
		opts.SetInterOpNumThreads(1),
		opts.SetGraphOptimizationLevel(level),
		opts.AddSessionConfigEntry("session.intra_op.allow_spinning", "0"),
		opts.AddSessionConfigEntry("session.inter_op.allow_spinning", "0"),
		// Denormal numbers in a frame must not slow an inference down.
		opts.AddSessionConfigEntry("session.set_denormal_as_zero", "1"),
	)
	if err == nil {
		err = provide(opts, o)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("session options: %w", err), opts.Destroy())
	}
	return opts, nil
}
