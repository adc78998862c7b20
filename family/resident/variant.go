package resident

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/family/ort"
)

// Open returns what makes the shelf of a variant of a family. All keep their files in
// dir: those on the CPU in its folder cache, which it makes, and those on another
// execution provider in one of their own, since a shelf sweeps what it does not know.
// The error of the function wraps ort.ErrNoProvider when the runtime cannot use a
// provider.
func Open(rt *ort.Runtime, f *family.Family, blobs family.Blobs, dir string, guard Guard) (
	func(family.Variant) (*Shelf, error), error) {
	shelf := func(v family.Variant, folder string) (*Shelf, error) {
		cache := filepath.Join(dir, folder)
		if err := os.MkdirAll(cache, 0o700); err != nil {
			return nil, fmt.Errorf("model cache: %w", err)
		}
		o := ort.DefaultOptions()
		o.Provider, o.Threads = v.Provider, v.Threads
		return New(rt, f, blobs, cache, o, guard), nil
	}
	onCPU, err := shelf(family.Variant{Provider: ort.CPU, Threads: 1}, "cache")
	if err != nil {
		return nil, err
	}
	return func(v family.Variant) (*Shelf, error) {
		if v.Provider == ort.CPU {
			return onCPU.WithThreads(v.Threads), nil
		}
		if err := rt.Provides(v.Provider); err != nil {
			return nil, err
		}
		return shelf(v, "cache-"+v.Provider)
	}, nil
}
