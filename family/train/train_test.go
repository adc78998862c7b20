// Package train_test runs the training program where PyTorch is installed.
package train_test

import (
	"bytes"
	"cmp"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/limber-edge/limber/family/ofa"
)

// mustPython returns an interpreter that has PyTorch, or skips.
func mustPython(t *testing.T) string {
	t.Helper()
	python := cmp.Or(os.Getenv("PYTHON"), "/usr/bin/python3")
	if out, err := exec.Command(python, "-c", "import numpy, PIL, torch").CombinedOutput(); err != nil {
		t.Skipf("%s has no PyTorch (Debian: python3-torch python3-pil): %v\n%s", python, err, out)
	}
	return python
}

func mustTrain(t *testing.T, python, out string, more ...string) {
	t.Helper()
	cmd := exec.Command(python, append([]string{"train.py", "--smoke", "--out", out}, more...)...)
	cmd.Env = append(os.Environ(), "PYTHONDONTWRITEBYTECODE=1")
	if b, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("train.py %v: %v\n%s", more, err, b)
	}
}

func mustLoad(t *testing.T, path string) *ofa.Supernet {
	t.Helper()
	net, err := ofa.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	return net
}

func TestTrainingWritesASupernetOfTheStockShapeWithThePublishedNames(t *testing.T) {
	python, dir := mustPython(t), t.TempDir()
	mustTrain(t, python, dir)

	stock := filepath.Join("..", "stock", "supernet.pth")
	trained := filepath.Join(dir, "supernet.pth")
	got, want := mustTensors(t, trained), mustTensors(t, stock)
	if len(got.Names()) != len(want.Names()) {
		t.Errorf("got %d tensors, want the stock supernet's %d", len(got.Names()), len(want.Names()))
	}
	for _, name := range want.Names() {
		if _, ok := got.Tensor(name); !ok {
			t.Errorf("the trained checkpoint has no %s", name)
		}
	}
	net := mustLoad(t, trained)
	if _, err := net.Cut(net.Largest()); err != nil {
		t.Error(err)
	}
}

func TestTrainingStartsFromACheckpointAndGoesOnWhereItStopped(t *testing.T) {
	python, dir := mustPython(t), t.TempDir()
	mustTrain(t, python, dir, "--warm", filepath.Join("..", "stock", "supernet.pth"))
	stopped := mustLastStep(t, dir)
	mustTrain(t, python, dir, "--resume")
	if got := mustLastStep(t, dir); got != stopped || got == 0 {
		t.Errorf("resumed after the end at step %d, want %d and no more steps", got, stopped)
	}
	mustLoad(t, filepath.Join(dir, "supernet.pth"))
}

// mustLastStep reads the step count off the end of the log.
func mustLastStep(t *testing.T, dir string) int {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, "log.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	lines := bytes.Split(bytes.TrimSpace(b), []byte("\n"))
	var last struct {
		Step int `json:"step"`
	}
	if err := json.Unmarshal(lines[len(lines)-1], &last); err != nil {
		t.Fatal(err)
	}
	return last.Step
}

func mustTensors(t *testing.T, path string) *ofa.Checkpoint {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	c, err := ofa.ReadCheckpoint(f, info.Size())
	if err != nil {
		t.Fatal(err)
	}
	return c
}
