// Package orttest opens ONNX Runtime for the tests of other packages.
package orttest

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/limber-edge/limber/family/ort"
)

// Open returns the runtime that ONNXRUNTIME_LIB names or that `make runtime`
// put into the project, closed when the test ends. A test cannot pass without
// it: it fails and says what to do. There is one runtime in a process, so tests
// that open it must not be parallel.
func Open(tb testing.TB) *ort.Runtime {
	tb.Helper()
	rt, err := ort.Open(Path(tb))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := rt.Close(); err != nil {
			tb.Error(err)
		}
	})
	return rt
}

// Path returns the library's path.
func Path(tb testing.TB) string {
	tb.Helper()
	if path := os.Getenv("ONNXRUNTIME_LIB"); path != "" {
		return path
	}
	found, err := filepath.Glob(filepath.Join(ort.InProject(Root(tb)), "libonnxruntime.so*"))
	if err != nil || len(found) == 0 {
		tb.Fatalf("no ONNX Runtime in the project (%v): run `make runtime`, or set ONNXRUNTIME_LIB", err)
	}
	return found[0]
}

// Root is the project's folder, found upwards from where the test runs.
func Root(tb testing.TB) string {
	tb.Helper()
	dir, err := os.Getwd()
	if err != nil {
		tb.Fatal(err)
	}
	for ; dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
	}
	tb.Fatal("no go.mod above the test's folder")
	return ""
}
