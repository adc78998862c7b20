package agent

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/limber-edge/limber/agent/engine"
	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/family/ort"
	"github.com/limber-edge/limber/family/resident"
)

// ONNXRuntime is that of this machine, as an Inference. Foreign models are tried by Guard; nil
// refuses them.
type ONNXRuntime struct {
	*ort.Runtime
	Config Config
	Guard  resident.Guard
}

// OpenONNXRuntime opens it.
func OpenONNXRuntime(cfg Config, guard resident.Guard) (Inference, error) {
	path, err := ort.Find()
	if err != nil {
		return nil, err
	}
	rt, err := ort.Open(path)
	if err != nil {
		return nil, err
	}
	return ONNXRuntime{rt, cfg, guard}, nil
}

// Members implements Inference.
func (r ONNXRuntime) Members(f *family.Family, blobs family.Blobs) (func(family.Variant) (engine.Loader, error),
	error) {
	onCPU, err := r.shelf(f, blobs, ort.CPU, "cache")
	if err != nil {
		return nil, err
	}
	return func(v family.Variant) (engine.Loader, error) {
		if v.Provider == ort.CPU {
			return onCPU.WithThreads(v.Threads), nil
		}
		if err := r.Provides(v.Provider); err != nil {
			return nil, err
		}
		return r.shelf(f, blobs, v.Provider, "cache-"+v.Provider)
	}, nil
}

// shelf makes members on an execution provider. Each has a folder of its own, for a
// shelf sweeps what it does not know.
func (r ONNXRuntime) shelf(f *family.Family, blobs family.Blobs, provider, folder string) (*resident.Shelf, error) {
	cache := filepath.Join(r.Config.State, folder)
	if err := os.MkdirAll(cache, 0o700); err != nil {
		return nil, fmt.Errorf("model cache: %w", err)
	}
	o := ort.DefaultOptions()
	o.Provider, o.Threads = provider, max(1, r.Config.Runtime.Threads)
	return resident.New(r.Runtime, f, blobs, cache, o, r.Guard), nil
}
