package check

import (
	"context"
	"errors"
	"strings"

	"github.com/limber-edge/limber/family/ort"
)

// reinstall is the remedy where the library is not what it should be.
const reinstall = "install the package limber again, run `make build`, or set ONNXRUNTIME_LIB to the library"

// Runtime looks for ONNX Runtime, and loads it. There may be none open in this process.
type Runtime struct{}

// Run implements Check.
func (Runtime) Run(context.Context) Finding {
	const check = "runtime"
	rt, err := openRuntime()
	if err != nil {
		return failsBy(check, Error, reinstall, err)
	}
	f := holds(check, Error, "ONNX Runtime %s, %s", rt.Version(), rt.Path())
	if err := rt.Close(); err != nil {
		return failsBy(check, Error, reinstall, err)
	}
	return f
}

func openRuntime() (*ort.Runtime, error) {
	path, err := ort.Find()
	if err != nil {
		return nil, err
	}
	return ort.Open(path)
}

// Providers asks the library for each execution provider that is configured.
type Providers struct {
	Names []string // by preference; the CPU is the last
}

// Run implements Check. Without one of them the device works on the next, so that is a
// warning; without the library the check before this one is an error.
func (p Providers) Run(context.Context) Finding {
	const check = "providers"
	rt, err := openRuntime()
	if err != nil {
		return fails(check, Warning, "as for runtime", "%s: not known without ONNX Runtime", strings.Join(p.Names, ", "))
	}
	var missing []error
	for _, name := range p.Names {
		if err := rt.Provides(name); err != nil {
			missing = append(missing, err)
		}
	}
	missing = append(missing, rt.Close())
	if err := errors.Join(missing...); err != nil {
		return failsBy(check, Warning, "point ONNXRUNTIME_LIB to a build of ONNX Runtime for this board's GPU", err)
	}
	return holds(check, Warning, "%s", strings.Join(p.Names, ", "))
}
