package ort

import (
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
)

// machines maps Go's architecture names to what an ELF header says.
var machines = map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}

// Find returns the path of the ONNX Runtime library: the value of
// ONNXRUNTIME_LIB, else the first of: beside the executable, in lib/limber beside its
// folder, as the package has it, in .onnxruntime of the project the executable was built
// in, in the system's library folders.
// Its error wraps ErrMissing.
func Find() (string, error) {
	if path := os.Getenv("ONNXRUNTIME_LIB"); path != "" {
		if err := check(path); err != nil {
			return "", fmt.Errorf("ONNXRUNTIME_LIB=%s: %w", path, err)
		}
		return path, nil
	}
	return find(append(beside(), shared()...))
}

// FindShared is Find of a program in a folder of its own, without a library beside it.
func FindShared() (string, error) {
	if os.Getenv("ONNXRUNTIME_LIB") != "" {
		return Find()
	}
	return find(shared())
}

// find returns the first library in folders, in the order of preference.
func find(dirs []string) (string, error) {
	var wrong error
	for _, dir := range dirs {
		pattern := filepath.Join(dir, "libonnxruntime.so*")
		found, err := filepath.Glob(pattern)
		if err != nil {
			return "", fmt.Errorf("look for ONNX Runtime in %s: %w", pattern, err)
		}
		for _, path := range found {
			if err := check(path); err == nil {
				return path, nil
			} else if wrong == nil {
				wrong = fmt.Errorf("%s: %w", path, err)
			}
		}
	}
	if wrong != nil {
		return "", wrong
	}
	return "", fmt.Errorf("%w: no libonnxruntime.so was found; run `make build` in the project, or set ONNXRUNTIME_LIB "+
		"to the library (version %s or newer)",
		ErrMissing, MinVersion)
}

// beside are the folders that belong to this executable.
func beside() []string {
	exe, err := os.Executable()
	if err != nil {
		return nil
	}
	if real, err := filepath.EvalSymlinks(exe); err == nil {
		exe = real
	}
	dir := filepath.Dir(exe)
	up := filepath.Dir(dir)
	return []string{dir, filepath.Join(up, "lib", "limber"), InProject(up)}
}

// shared are the folders of all programs.
func shared() []string {
	return []string{"/usr/local/lib", "/usr/lib", "/usr/lib/" + multiarch() + "-linux-gnu", "/opt/onnxruntime/lib"}
}

// InProject is the ignored folder of a source tree that `make build` fetches
// the library into.
func InProject(root string) string {
	return filepath.Join(root, ".onnxruntime", runtime.GOOS+"-"+runtime.GOARCH)
}

func multiarch() string {
	if runtime.GOARCH == "arm64" {
		return "aarch64"
	}
	return "x86_64"
}

// check looks at the file's header before the dynamic linker does: its own
// words for a wrong machine help nobody.
func check(path string) error {
	f, err := elf.Open(path)
	var format *elf.FormatError
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w: no such file; set ONNXRUNTIME_LIB to libonnxruntime.so, or unset it", ErrMissing)
	case errors.As(err, &format), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("%w: not a whole shared library (%v); set ONNXRUNTIME_LIB to libonnxruntime.so, or fetch it "+
			"again (make build)", ErrMissing, err)
	case err != nil:
		return fmt.Errorf("%w: %w; set ONNXRUNTIME_LIB to libonnxruntime.so, or unset it", ErrMissing, err)
	}
	defer f.Close()
	if want, ok := machines[runtime.GOARCH]; ok && f.Machine != want {
		return fmt.Errorf("%w: built for %v, this program runs on linux/%s; fetch the library for %s (family/ort/fetch.sh "+
			"%s)",
			ErrMissing, f.Machine, runtime.GOARCH, runtime.GOARCH, runtime.GOARCH)
	}
	return nil
}
