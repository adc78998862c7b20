package main

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/limber-edge/limber/family/familytest"
	"github.com/limber-edge/limber/family/resident"
)

// fixtures are the supernets of package ofa with what PyTorch computed.
var fixtures = filepath.Join("..", "..", "..", "family", "ofa", "testdata")

func TestLogitsWritesAFileAndSaysNothing(t *testing.T) {
	dir, out := filepath.Join(fixtures, "cifar"), filepath.Join(t.TempDir(), "y.f32")
	_, c := familytest.Cases(t, dir)
	var paths []string
	for _, name := range c.Batches {
		paths = append(paths, filepath.Join(dir, name))
	}
	args := append(logitsCommand(t, dir, c, out), "--calibrate", strings.Join(paths, ","))
	if got := limber(t, args...); got != (ran{}) {
		t.Fatalf("got %+v, want exit 0 and silence", got)
	}
	if off := resident.Distance(familytest.Floats(t, out),
		familytest.Floats(t, filepath.Join(dir, c.Logits))); !(off <= 1e-4) {
		t.Errorf("worst logit is %.3g standard deviations off, want at most 1e-4", off)
	}
	limber(t, append(args, "--supernet", "none.pth")...).complained(t, exitFailed, "none.pth", "no such file")
}

func TestLogitsWithoutARuntimeSaysWhatToDo(t *testing.T) {
	t.Setenv("ONNXRUNTIME_LIB", filepath.Join(t.TempDir(), "none.so"))
	dir := filepath.Join(fixtures, "cifar")
	cases, _ := familytest.Cases(t, dir)
	got := limber(t, logitsCommand(t, dir, cases[0], filepath.Join(t.TempDir(), "y.f32"))...)
	got.complained(t, exitFailed, "none.so", "ONNX Runtime is not usable", "set ONNXRUNTIME_LIB")
	if n := strings.Count(got.stderr, "\n"); n != 1 {
		t.Errorf("got %d lines, want one: %q", n, got.stderr)
	}
}

// logitsCommand is the command line for a case. A flag given again later wins.
func logitsCommand(t *testing.T, dir string, c familytest.Case, out string) []string {
	t.Helper()
	arch := filepath.Join(t.TempDir(), "a.json")
	mustWrite(t, arch, c.Arch)
	return []string{"family", "logits", "--supernet", filepath.Join(dir, "supernet.pth"), "--arch", arch,
		"--input", filepath.Join(dir, c.Input), "--out", out}
}
