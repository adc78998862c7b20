//go:build cgo

package ort_test

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/limber-edge/limber/family/familytest"
	"github.com/limber-edge/limber/family/onnx"
	"github.com/limber-edge/limber/family/ort"
	"github.com/limber-edge/limber/family/ort/orttest"
)

func TestM18_FindSaysWhatIsWrongWithALibrary(t *testing.T) {
	whole := familytest.Read(t, orttest.Path(t))
	for _, tt := range []struct {
		name string
		path string
		says []string
	}{
		{"nowhere", filepath.Join(t.TempDir(), "none.so"), []string{"none.so", "no such file", "unset it"}},
		{"empty", mustFile(t, nil), []string{"not a whole shared library", "fetch it again"}},
		{"text", mustFile(t, []byte("#!/bin/sh\necho\n")), []string{"not a whole shared library"}},
		{"cut off in the header", mustFile(t, whole[:20]), []string{"not a whole shared library"}},
		{"cut off", mustFile(t, whole[:4096]), []string{"not a whole shared library"}},
		{"folder", t.TempDir(), []string{"is a directory", "set ONNXRUNTIME_LIB"}},
		{"another machine", mustFile(t, header(elf.EM_RISCV)), []string{"built for EM_RISCV", "linux/" + runtime.GOARCH,
			"fetch.sh"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv("ONNXRUNTIME_LIB", tt.path)
			path, err := ort.Find()
			complains(t, err, tt.says...)
			if path != "" {
				t.Errorf("got path %s beside the error", path)
			}
		})
	}
}

func TestM18_FindWithoutAnyLibraryNamesTheRemedy(t *testing.T) {
	t.Setenv("ONNXRUNTIME_LIB", "")
	if path, err := ort.Find(); err == nil {
		t.Skipf("the system has a library of its own, %s", path)
	} else {
		complains(t, err, "make build", "ONNXRUNTIME_LIB", ort.MinVersion)
	}
}

func TestFindTakesTheLibraryThatTheUserNames(t *testing.T) {
	t.Setenv("ONNXRUNTIME_LIB", orttest.Path(t))
	if got, err := ort.Find(); err != nil || got != orttest.Path(t) {
		t.Errorf("got %s, %v; want %s", got, err, orttest.Path(t))
	}
}

// After each failure the process is as it was: the right library still opens.
func TestM18_OpenRefusesALibraryThatDoesNotDo(t *testing.T) {
	const base = `typedef struct { const void *(*api)(unsigned); const char *(*version)(void); } base;`
	for _, tt := range []struct {
		name, source string
		says         []string
	}{
		{"another library", `int answer(void) { return 42; }`, []string{"OrtGetApiBase"}},
		{"no API at all", base + `base *OrtGetApiBase(void) { return 0; }`, []string{"load"}},
		{"an API too old", base + `
			static const void *api(unsigned version) { return 0; }
			static const char *name(void) { return "1.16.3"; }
			static base b = { api, name };
			base *OrtGetApiBase(void) { return &b; }`, []string{"load"}},
		{"a version too old", fmt.Sprintf(base+`
			#include <dlfcn.h>
			static const char *name(void) { return "1.29.1"; }
			static base b;
			base *OrtGetApiBase(void) {
				base *(*real)(void) = dlsym(dlopen(%q, RTLD_LAZY), "OrtGetApiBase");
				b.api = real()->api;
				b.version = name;
				return &b;
			}`, orttest.Path(t)), []string{"version 1.29.1, too old"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := mustCompile(t, tt.source)
			rt, err := ort.Open(path)
			complains(t, err, append(tt.says, path, ort.MinVersion, "ONNXRUNTIME_LIB")...)
			if rt != nil {
				t.Error("got a runtime beside the error")
			}
			orttest.Open(t)
		})
	}
	t.Run("not a library", func(t *testing.T) {
		_, err := ort.Open(mustFile(t, []byte("text")))
		complains(t, err, "load", ort.MinVersion)
		orttest.Open(t)
	})
}

// Package managers rename a new library over the old one, or remove it; the one
// that is mapped stays. To write into the mapped file itself would end any
// process, and no test outlives it.
func TestM18_ALibraryReplacedAtRunTimeStaysInUse(t *testing.T) {
	whole := orttest.Path(t)
	library := familytest.Read(t, whole)
	for _, tt := range []struct {
		name    string
		replace func(path string) error
	}{
		{"by another file", func(path string) error { return os.Rename(mustFile(t, []byte("text")), path) }},
		{"by half a library", func(path string) error { return os.Rename(mustFile(t, library[:len(library)/2]), path) }},
		{"by nothing", os.Remove},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := mustFile(t, library)
			rt, err := ort.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			before := mustAdder(t, rt)
			adds(t, before)
			if err := tt.replace(path); err != nil {
				t.Fatal(err)
			}
			adds(t, before)
			after := mustAdder(t, rt) // a session of a member that had none yet
			adds(t, after)
			if err := errors.Join(rt.Provides(ort.CPU), before.Close(), after.Close(), rt.Close()); err != nil {
				t.Error(err)
			}
			// The next start looks at what lies there now.
			t.Setenv("ONNXRUNTIME_LIB", path)
			_, err = ort.Find()
			complains(t, err, path)
			t.Setenv("ONNXRUNTIME_LIB", whole)
			adds(t, mustSession(t, orttest.Open(t), mustFile(t, sums(t, 1))))
		})
	}
}

// mustAdder is a session of sums that the test closes.
func mustAdder(t *testing.T, rt *ort.Runtime) *ort.Session {
	t.Helper()
	s, err := rt.NewSession(mustFile(t, sums(t, 1)), shape, ort.DefaultOptions())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func adds(t *testing.T, s *ort.Session) {
	t.Helper()
	out := make([]float32, 3)
	if err := s.Run(out, []float32{1, 2, 3, 4, 10, 20, 30, 40, 100, 200, 300, 400}); err != nil || out[0] != 10 ||
		out[1] != 100 || out[2] != 1000 {
		t.Errorf("got %v, %v; want the sum of each channel: 10 100 1000", out, err)
	}
}

func TestOnlyOneRuntimeIsOpenInAProcess(t *testing.T) {
	rt := orttest.Open(t)
	if _, err := ort.Open(rt.Path()); err == nil || !strings.Contains(err.Error(), "one open already") {
		t.Errorf("second: got %v, want that one is open already", err)
	}
	if rt.Version() == "" {
		t.Error("the first one has no version any more")
	}
}

func TestSessionAddsWhatTheModelAdds(t *testing.T) {
	rt := orttest.Open(t)
	adds(t, mustSession(t, rt, mustFile(t, sums(t, 1))))
}

// TestR4_InterruptEndsARunThatTakesTooLong has a model that works for many
// seconds.
func TestR4_InterruptEndsARunThatTakesTooLong(t *testing.T) {
	rt := orttest.Open(t)
	const side, layers = 256, 3000
	g := onnx.New("long", onnx.Value{Name: "x", Dims: []int{1, 3, side, side}})
	kernel := g.Weight("kernel", []int{3, 3, 5, 5}, slices.Repeat([]float32{0.01}, 3*3*5*5))
	last := "x"
	for n := range layers {
		last = g.Node("Conv", fmt.Sprintf("c%d", n), []string{last, kernel}, onnx.Ints("pads", 2, 2, 2, 2))
	}
	mean := g.Node("ReduceMean", "mean", []string{last}, onnx.Ints("axes", 2, 3), onnx.Int("keepdims", 0))
	g.Output(onnx.Value{Name: mean, Dims: []int{1, 3}})
	model, err := g.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	s, err := rt.NewSession(mustFile(t, model), ort.Shape{R: side, Classes: 3, Input: "x", Output: mean},
		ort.DefaultOptions())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	in, out := make([]float32, 3*side*side), make([]float32, 3)

	began := time.Now()
	soon := time.AfterFunc(50*time.Millisecond, s.Interrupt)
	defer soon.Stop()
	err = s.Run(out, in)
	if err == nil || !strings.Contains(err.Error(), "terminate") {
		t.Errorf("an interrupted run: got %v, want an error that says so", err)
	}
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("the run ended %v after its interruption", took-50*time.Millisecond)
	}
	s.Interrupt() // between runs: no effect on the next
	stop := time.AfterFunc(300*time.Millisecond, s.Interrupt)
	defer stop.Stop()
	began = time.Now()
	if err := s.Run(out, in); time.Since(began) < 200*time.Millisecond {
		t.Errorf("the next run ended after %v: %v", time.Since(began), err)
	}
}

func TestSessionTakesAsManyImagesAsComeAtOnce(t *testing.T) {
	rt := orttest.Open(t)
	s := mustSession(t, rt, mustFile(t, sums(t, onnx.Dynamic)))
	image := func(v float32) []float32 { return slices.Repeat([]float32{v}, 12) }
	for _, n := range []int{1, 3, 2, 4, 1, 4} { // more than before, fewer, as many
		var in [][]float32
		var want []float32
		for i := range n {
			in = append(in, image(float32(i+1)))
			want = append(want, slices.Repeat([]float32{4 * float32(i+1)}, 3)...)
		}
		out := make([]float32, 3*n)
		if err := s.Run(out, in...); err != nil || !slices.Equal(out, want) {
			t.Errorf("%d images: got %v, %v; want %v", n, out, err, want)
		}
		if err := s.Run(out[:3*n-1], in...); err == nil {
			t.Errorf("%d images and room for less: got no error", n)
		}
	}
	one := mustSession(t, rt, mustFile(t, sums(t, 1)))
	if err := one.Run(make([]float32, 6), image(1), image(2)); err == nil {
		t.Error("two images into a model of one: got no error")
	}
	if err := one.Run(make([]float32, 3), image(1)); err != nil {
		t.Errorf("one image after that: %v", err)
	}
	if err := one.Run(nil); err == nil {
		t.Error("no image: got no error")
	}
}

func TestSessionRefusesWrongLengths(t *testing.T) {
	rt := orttest.Open(t)
	s := mustSession(t, rt, mustFile(t, sums(t, 1)))
	for _, tt := range []struct{ in, out int }{{0, 3}, {11, 3}, {13, 3}, {12, 2}, {12, 4}, {12, 0}} {
		err := s.Run(make([]float32, tt.out), make([]float32, tt.in))
		if err == nil || !strings.Contains(err.Error(), "this model") {
			t.Errorf("%d in, %d out: got %v, want an error with the right lengths", tt.in, tt.out, err)
		}
	}
	if err := s.Run(make([]float32, 3), make([]float32, 12)); err != nil {
		t.Errorf("right lengths after wrong ones: %v", err)
	}
}

func TestSessionRunAllocatesNothingOfOurs(t *testing.T) {
	rt := orttest.Open(t)
	s := mustSession(t, rt, mustFile(t, sums(t, 1)))
	in, out := make([]float32, 12), make([]float32, 3)
	if n := testing.AllocsPerRun(100, func() {
		if err := s.Run(out, in); err != nil {
			t.Fatal(err)
		}
	}); n > 4 { // pointers to what enters and leaves, for the call into C
		t.Errorf("got %v allocations a run", n)
	}
}

func TestM10_ModelThatIsNoneIsRefused(t *testing.T) {
	rt := orttest.Open(t)
	model := sums(t, 1)
	for name, b := range map[string][]byte{
		"empty": nil, "text": []byte("hello"), "cut off": model[:len(model)/2],
	} {
		t.Run(name, func(t *testing.T) {
			path := mustFile(t, b)
			if _, err := rt.NewSession(path, shape, ort.DefaultOptions()); err == nil || !strings.Contains(err.Error(), path) {
				t.Errorf("session: got %v, want an error that names %s", err, path)
			}
			if _, err := rt.NewBatch(b, "x", []string{"y"}, ort.DefaultOptions()); err == nil {
				t.Error("batch: got a session of no model")
			}
		})
	}
	t.Run("other names", func(t *testing.T) {
		wrong := shape
		wrong.Output = "z"
		s, err := rt.NewSession(mustFile(t, model), wrong, ort.DefaultOptions())
		if err == nil {
			err = errors.Join(s.Run(make([]float32, 3), make([]float32, 12)), s.Close())
		}
		if err == nil {
			t.Error("an output that does not exist was read")
		}
	})
}

func TestBatchRunsAnyNumberOfImages(t *testing.T) {
	rt := orttest.Open(t)
	b, err := rt.NewBatch(sums(t, onnx.Dynamic), "x", []string{"y"}, ort.DefaultOptions())
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	for _, n := range []int{1, 3, 2} {
		in := bytes.Repeat([]byte{1}, 12*n)
		out, err := b.Run(floats(in), n, 2)
		if err != nil || len(out) != 1 || len(out[0]) != 3*n || out[0][3*n-1] != 4 {
			t.Errorf("%d images: got %v, %v; want %d sums of 4", n, out, err, 3*n)
		}
	}
	for _, tt := range []struct{ numbers, n, r int }{{12, 0, 2}, {12, 2, 2}, {11, 1, 2}, {0, 0, 0}, {12, -1, 2}} {
		if _, err := b.Run(make([]float32, tt.numbers), tt.n, tt.r); err == nil {
			t.Errorf("%d numbers as %d images of %d pixels: got no error", tt.numbers, tt.n, tt.r)
		}
	}
}

func TestOptimizedModelGivesTheSame(t *testing.T) {
	rt := orttest.Open(t)
	path := filepath.Join(t.TempDir(), "optimized.onnx")
	if err := rt.Optimize(sums(t, 1), path, shape, ort.DefaultOptions()); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("got %v, %v; want a file of mode 0600", info, err)
	}
	o := ort.DefaultOptions()
	o.Optimized = true
	s, err := rt.NewSession(path, shape, o)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	out := make([]float32, 3)
	if err := s.Run(out, floats(bytes.Repeat([]byte{2}, 12))); err != nil || out[0] != 8 {
		t.Errorf("got %v, %v; want sums of 8", out, err)
	}
}

// shape is that of sums for one image.
var shape = ort.Shape{Input: "x", R: 2, Output: "y", Classes: 3}

// sums is a model that adds the pixels of each channel of 2×2 images.
func sums(t *testing.T, batch int) []byte {
	t.Helper()
	g := onnx.New("sums", onnx.Value{Name: "x", Dims: []int{batch, 3, 2, 2}})
	mean := g.Node("ReduceMean", "mean", []string{"x"}, onnx.Ints("axes", 2, 3), onnx.Int("keepdims", 0))
	g.Node("Mul", "y", []string{mean, g.Weight("four", []int{1}, []float32{4})})
	g.Output(onnx.Value{Name: "y", Dims: []int{batch, 3}})
	b, err := g.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func mustSession(t *testing.T, rt *ort.Runtime, path string) *ort.Session {
	t.Helper()
	s, err := rt.NewSession(path, shape, ort.DefaultOptions())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// complains checks that an error wraps ErrMissing and is one line that says
// every part.
func complains(t *testing.T, err error, parts ...string) {
	t.Helper()
	if !errors.Is(err, ort.ErrMissing) || strings.Contains(err.Error(), "\n") {
		t.Errorf("got %v, want one sentence that wraps %v", err, ort.ErrMissing)
		return
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("got %q, want it to say %q", err, part)
		}
	}
}

// header is an ELF file of nothing but its header.
func header(machine elf.Machine) []byte {
	h := elf.Header64{Type: uint16(elf.ET_DYN), Machine: uint16(machine), Version: 1, Ehsize: 64}
	copy(h.Ident[:], elf.ELFMAG)
	h.Ident[elf.EI_CLASS], h.Ident[elf.EI_DATA], h.Ident[elf.EI_VERSION] = byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), 1
	b, err := binary.Append(nil, binary.LittleEndian, h)
	if err != nil {
		panic(err)
	}
	return b
}

// mustCompile makes a shared library of C source.
func mustCompile(t *testing.T, source string) string {
	t.Helper()
	gcc, err := exec.LookPath("gcc")
	if err != nil {
		t.Skip("no gcc to build a library with")
	}
	dir := t.TempDir()
	path, c := filepath.Join(dir, "libfake.so"), filepath.Join(dir, "fake.c")
	if err := os.WriteFile(c, []byte(source), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), gcc, "-shared", "-fPIC", "-o", path, c,
		"-ldl").CombinedOutput(); err != nil {
		t.Fatalf("gcc: %v\n%s", err, out)
	}
	return path
}

func mustFile(t *testing.T, b []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func floats(b []byte) []float32 {
	v := make([]float32, len(b))
	for i := range b {
		v[i] = float32(b[i])
	}
	return v
}

func TestProvidesSaysWhichProviderTheLibraryLacks(t *testing.T) {
	rt := orttest.Open(t)
	if err := rt.Provides(ort.CPU); err != nil {
		t.Errorf("cpu: got %v", err)
	}
	for _, provider := range []string{ort.CUDA, ort.TensorRT, "abacus"} {
		err := rt.Provides(provider)
		if !errors.Is(err, ort.ErrNoProvider) || !strings.Contains(err.Error(), provider) {
			t.Errorf("%s: got %v, want an error that names it: this library is for the CPU", provider, err)
		}
		t.Log(err)
	}
}
