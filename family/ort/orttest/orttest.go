// Package orttest opens ONNX Runtime for the tests of other packages.
package orttest

import (
	"errors"
	"fmt"
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

// Use has ONNXRUNTIME_LIB name the library for what a test calls or starts. It is for a
// TestMain: where there is no library, it is the test that fails and says what to do.
func Use() {
	if path, err := library(); err == nil {
		os.Setenv("ONNXRUNTIME_LIB", path)
	}
}

// Path returns the library's path.
func Path(tb testing.TB) string {
	tb.Helper()
	path, err := library()
	if err != nil {
		tb.Fatal(err)
	}
	return path
}

func library() (path string, err error) {
	if path := os.Getenv("ONNXRUNTIME_LIB"); path != "" {
		return path, nil
	}
	project, err := root()
	if err != nil {
		return "", err
	}
	found, err := filepath.Glob(filepath.Join(ort.InProject(project), "libonnxruntime.so*"))
	if err != nil || len(found) == 0 {
		return "", fmt.Errorf("no ONNX Runtime in the project (%v): run `make runtime`, or set ONNXRUNTIME_LIB", err)
	}
	return found[0], nil
}

// Root is the project's folder, found upwards from where the test runs.
func Root(tb testing.TB) string {
	tb.Helper()
	dir, err := root()
	if err != nil {
		tb.Fatal(err)
	}
	return dir
}

func root() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for ; dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
	}
	return "", errors.New("no go.mod above the test's folder")
}
