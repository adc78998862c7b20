package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/limber-edge/limber/family/familytest"
	"github.com/limber-edge/limber/family/resident"
)

// cortex is what an emulated program reads as /proc/cpuinfo: ONNX Runtime looks
// there for the features of the processor, and the desk's own would mislead it.
// This one is half of a Jetson Nano.
const cortex = `processor	: %d
Features	: fp asimd evtstrm aes pmull sha1 sha2 crc32 cpuid
CPU implementer	: 0x41
CPU architecture: 8
CPU variant	: 0x1
CPU part	: 0xd07
CPU revision	: 1

`

// board runs a program for arm64 under emulation.
type board struct {
	program, root string
	library       string // empty: the program finds it
}

// mustBoard builds the program, with cgo, and has the library that was fetched.
func mustBoard(t *testing.T) board {
	t.Helper()
	b := mustEmulator(t)
	b.program = filepath.Join(t.TempDir(), "limber")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", b.program, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=1", "GOARCH=arm64", "CC=aarch64-linux-gnu-gcc")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build for arm64: %v\n%s", err, out)
	}
	return b
}

// mustEmulator is a board without a program. Where a tool is missing the test is
// skipped; `make arm64` says which.
func mustEmulator(t *testing.T) board {
	t.Helper()
	project, err := filepath.Abs(filepath.Join("..", "..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	found, err := filepath.Glob(filepath.Join(project, ".onnxruntime", "linux-arm64", "libonnxruntime.so*"))
	if err != nil || len(found) == 0 {
		t.Skip("no ONNX Runtime for arm64: `make arm64` fetches it")
	}
	for _, tool := range []string{"qemu-aarch64", "aarch64-linux-gnu-gcc"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("no %s: install Debian's qemu-user and gcc-aarch64-linux-gnu", tool)
		}
	}
	b := board{root: filepath.Join(t.TempDir(), "root"), library: found[0]}
	err = os.MkdirAll(filepath.Join(b.root, "proc"), 0o700)
	if err == nil {
		err = os.Symlink("/usr/aarch64-linux-gnu/lib", filepath.Join(b.root, "lib"))
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(b.root, "proc", "cpuinfo"), fmt.Appendf(nil, cortex+cortex, 0, 1), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (b board) command(t *testing.T, args ...string) *exec.Cmd {
	c := exec.CommandContext(t.Context(), "qemu-aarch64", append([]string{"-L", b.root, b.program}, args...)...)
	c.Env = append(os.Environ(), "ONNXRUNTIME_LIB="+b.library)
	return c
}

func (b board) mustRun(t *testing.T, args ...string) string {
	t.Helper()
	out, err := b.command(t, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("limber %s on arm64: %v\n%.4000s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

func TestArm64AnswersAFrameAndComputesTheSameLogits(t *testing.T) {
	t.Parallel()
	b := mustBoard(t)
	if out := b.mustRun(t, "version"); !strings.Contains(out, "linux/arm64") {
		t.Errorf("got version %q, want one for arm64", out)
	}
	// An agent whose member passes its canary, and that answers a frame.
	b.mustRun(t, "coldstart", "--state", mustSmallest(t))

	dir := filepath.Join(fixtures, "imagenet")
	cases, _ := familytest.Cases(t, dir)
	for _, c := range cases[:2] { // the largest and the smallest
		out := filepath.Join(t.TempDir(), "Y.f32")
		b.mustRun(t, logitsCommand(t, dir, c, out)...)
		if off := resident.Distance(familytest.Floats(t, out), familytest.Floats(t, filepath.Join(dir, c.Logits))); !(off <= 1e-4) {
			t.Errorf("%s: a logit is %.2g standard deviations from PyTorch's, want at most 1e-4", c.Logits, off)
		}
	}
}

// mustSmallest is the state of a device that has the smallest member alone: emulated, the
// library takes seconds to optimise each.
func mustSmallest(t *testing.T) (state string) {
	t.Helper()
	f := familytest.Stock(t)
	f.Name, f.Members = "smallest", f.Members[:1]
	state = filepath.Join(t.TempDir(), "state")
	says(t, 0, "1 members", "family", "install", "--family", mustPack(t, f), "--state", state)
	return state
}
