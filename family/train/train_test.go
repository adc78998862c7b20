// Package train_test runs the training program where PyTorch is installed.
package train_test

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"io"
	"math"
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
	stock := filepath.Join("..", "stock", "supernet.pth")
	mustTrain(t, python, dir, "--warm", stock)
	begun := mustLog(t, dir)
	if first := begun[0]; first.Step != 0 || first.Top1 == nil {
		t.Errorf("the log begins with %+v, want the checkpoint's accuracy at step 0", first)
	}
	const name = "first_conv.conv.weight"
	if got := mustCosine(t, name, stock, filepath.Join(dir, "supernet.pth")); got < 0.9 {
		t.Errorf("%s: got a cosine of %.2f to that of the checkpoint, want what a few steps leave of it", name, got)
	}

	mustTrain(t, python, dir, "--resume")
	stopped, more := begun[len(begun)-1], mustLog(t, dir)[len(begun):]
	if len(more) != 1 || more[0].Step != stopped.Step || more[0].Top1 == nil || stopped.Step == 0 {
		t.Errorf("resumed after the end at step %d: got %+v, want an evaluation there and no more steps", stopped.Step, more)
	}
	mustLoad(t, filepath.Join(dir, "supernet.pth"))
}

// line is one of the log.
type line struct {
	Step int
	Top1 map[string]float64 // of an evaluation; a step has none
}

func mustLog(t *testing.T, dir string) []line {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, "log.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	var lines []line
	for dec := json.NewDecoder(bytes.NewReader(b)); ; {
		var l line
		if err := dec.Decode(&l); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, l)
	}
	if len(lines) == 0 {
		t.Fatal("the log is empty")
	}
	return lines
}

// mustCosine is how alike a tensor of two checkpoints is: 1 is the same, 0 what
// two random ones have.
func mustCosine(t *testing.T, name, one, other string) float64 {
	t.Helper()
	a, ok := mustTensors(t, one).Tensor(name)
	b, ok2 := mustTensors(t, other).Tensor(name)
	if !ok || !ok2 || len(a.Data) != len(b.Data) {
		t.Fatalf("%s: got shapes %v and %v", name, a.Shape, b.Shape)
	}
	var ab, aa, bb float64
	for i := range a.Data {
		x, y := float64(a.Data[i]), float64(b.Data[i])
		ab, aa, bb = ab+x*y, aa+x*x, bb+y*y
	}
	return ab / math.Sqrt(aa*bb)
}

func mustTensors(t *testing.T, path string) *ofa.Checkpoint {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	c, err := ofa.ReadCheckpoint(b)
	if err != nil {
		t.Fatal(err)
	}
	return c
}
