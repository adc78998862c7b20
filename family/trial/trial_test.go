package trial_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/limber-edge/limber/family/onnx"
	"github.com/limber-edge/limber/family/ort"
	"github.com/limber-edge/limber/family/ort/orttest"
	"github.com/limber-edge/limber/family/trial"
)

// What the test binary is when a test starts it.
const (
	role   = "LIMBER_TEST_ROLE"
	tried  = "tried" // the process that a trial starts
	trying = "trying"
)

func TestMain(m *testing.M) {
	var err error
	switch os.Getenv(role) {
	case tried:
		err = beTried()
	case trying:
		_, err = trial.New(trial.LimitsOf, os.Args[1:]...).Try(context.Background(), nil, shape, input())
	default:
		os.Exit(m.Run())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func beTried() error {
	path, err := ort.Find()
	if err != nil {
		return err
	}
	rt, err := ort.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(trial.Serve(rt, os.Stdin, os.Stdout), rt.Close())
}

var shape = ort.Shape{Input: "x", R: 2, Output: "y", Classes: 3}

func input() []float32 { return []float32{1, 2, 3, 4, 10, 20, 30, 40, 100, 200, 300, 400} }

// mustTrial tries with the test binary and the limits of small models, some of
// them changed.
func mustTrial(t *testing.T, change func(*trial.Limits)) *trial.Trial {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv(role, tried)
	t.Setenv("ONNXRUNTIME_LIB", orttest.Path(t))
	return trial.New(func(n int) trial.Limits {
		l := trial.LimitsOf(n)
		change(&l)
		return l
	}, exe)
}

func asTheyAre(*trial.Limits) {}

// mustModel is a model of x, 1×3×2×2, to y, 1×3: the mean of each channel,
// before build makes something of it.
func mustModel(t *testing.T, build func(g *onnx.Graph, mean string) (out string)) []byte {
	t.Helper()
	g := onnx.New("test", onnx.Value{Name: "x", Dims: []int{1, 3, 2, 2}})
	out := build(g, g.Node("GlobalAveragePool", "mean", []string{"x"})) // 1×3×1×1
	g.Node("ReduceMean", "y", []string{out}, onnx.Ints("axes", 2, 3), onnx.Int("keepdims", 0))
	g.Output(onnx.Value{Name: "y", Dims: []int{1, 3}})
	b, err := g.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := onnx.Scan(b); err != nil {
		t.Fatalf("a model that a scan refuses needs no trial: %v", err)
	}
	return b
}

// bomb expands each mean to side×side numbers, 12×side² bytes.
func bomb(side int) func(g *onnx.Graph, mean string) string {
	return func(g *onnx.Graph, mean string) string {
		shape := g.Weight("shape", []int{4}, []float32{1, 3, float32(side), float32(side)})
		return g.Node("Expand", "big", []string{mean, g.Node("Cast", "int64", []string{shape}, onnx.Int("to", 7))})
	}
}

// constantBomb is one that the library computes when it optimises the model.
func constantBomb(side int) func(g *onnx.Graph, mean string) string {
	return func(g *onnx.Graph, mean string) string {
		shape := g.Weight("shape", []int{4}, []float32{1, 3, float32(side), float32(side)})
		zeros := g.Node("ConstantOfShape", "zeros", []string{g.Node("Cast", "int64", []string{shape}, onnx.Int("to", 7))})
		return g.Node("Add", "sum", []string{mean, zeros})
	}
}

// grind multiplies matrices of 512×512 that many times.
func grind(times int) func(g *onnx.Graph, mean string) string {
	return func(g *onnx.Graph, mean string) string {
		at := bomb(512)(g, mean)
		for i := range times {
			at = g.Node("MatMul", "product"+strconv.Itoa(i), []string{at, at})
			at = g.Node("Sigmoid", "sigmoid"+strconv.Itoa(i), []string{at})
		}
		return at
	}
}

func TestAGoodModelGivesItsLogits(t *testing.T) {
	model := mustModel(t, func(_ *onnx.Graph, mean string) string { return mean })
	got, err := mustTrial(t, asTheyAre).Try(t.Context(), model, shape, input())
	if want := []float32{2.5, 25, 250}; err != nil || !slices.Equal(got, want) {
		t.Errorf("got %v, %v; want the mean of each channel %v", got, err, want)
	}
}

func TestTheProcessUsesTheLibraryThatTheUserNamesFromHere(t *testing.T) {
	tr, library := mustTrial(t, asTheyAre), orttest.Path(t)
	t.Chdir(filepath.Dir(library))
	t.Setenv("ONNXRUNTIME_LIB", "./"+filepath.Base(library))
	if _, err := tr.Try(t.Context(), mustModel(t, func(_ *onnx.Graph, mean string) string { return mean }), shape,
		input()); err != nil {
		t.Error(err)
	}
}

func TestM11_ABombAtRunTimeIsRefusedAndThisProcessDoesNotGrow(t *testing.T) {
	for name, build := range map[string]func(int) func(*onnx.Graph, string) string{"when it runs": bomb,
		"when it is optimised": constantBomb} {
		t.Run(name, func(t *testing.T) {
			before := mustAnonymous(t)
			_, err := mustTrial(t, asTheyAre).Try(t.Context(), mustModel(t, build(40000)), shape, input()) // 18 GiB
			complains(t, err, "trial", "1024 MiB of memory", "take a smaller model")
			if grown := mustAnonymous(t) - before; grown > 64<<20 {
				t.Errorf("this process grew by %d MiB", grown>>20)
			}
		})
	}
}

// TestM11_ItIsTheLimitThatDecides lets the same 300 MiB in or not.
func TestM11_ItIsTheLimitThatDecides(t *testing.T) {
	model := mustModel(t, bomb(5120))
	if _, err := mustTrial(t, asTheyAre).Try(t.Context(), model, shape, input()); err != nil {
		t.Errorf("with a limit of 1 GiB: %v", err)
	}
	small := mustTrial(t, func(l *trial.Limits) { l.Memory = 128 << 20 })
	_, err := small.Try(t.Context(), model, shape, input())
	complains(t, err, "128 MiB of memory")
}

func TestM11_AModelThatWritesWithoutEndIsRefused(t *testing.T) {
	_, err := mustTrial(t, func(l *trial.Limits) { l.File = 1 << 20 }).Try(t.Context(), mustModel(t, constantBomb(1000)),
		shape, input())
	complains(t, err, "a file of 1 MiB", "take a smaller model")
}

func TestM11_AModelThatDoesNotEndIsEnded(t *testing.T) {
	model := mustModel(t, grind(2000))
	for _, tt := range []struct {
		name   string
		change func(*trial.Limits)
		want   string
	}{
		{"by processor time", func(l *trial.Limits) { l.CPU = time.Second }, "more than 1s of processor time"},
		{"by the clock", func(l *trial.Limits) { l.Wall = 200 * time.Millisecond }, "did not end within 200ms"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			begin := time.Now()
			_, err := mustTrial(t, tt.change).Try(t.Context(), model, shape, input())
			complains(t, err, tt.want, "take a smaller model")
			if took := time.Since(begin); took > 20*time.Second {
				t.Errorf("it took %v", took)
			}
		})
	}
	t.Run("by who asked", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
		if _, err := mustTrial(t, asTheyAre).Try(ctx, model, shape, input()); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want the context's error", err)
		}
	})
}

func TestM14_AModelWithoutUsableLogitsIsRefused(t *testing.T) {
	for _, tt := range []struct {
		name  string
		build func(g *onnx.Graph, mean string) string
		want  string
	}{
		{"NaN", func(g *onnx.Graph, mean string) string {
			zero := g.Node("Sub", "zero", []string{mean, mean})
			return g.Node("Div", "nan", []string{zero, zero})
		}, "NaN"},
		{"constant output", func(g *onnx.Graph, mean string) string { return g.Node("Sub", "zero", []string{mean, mean}) },
			"does not look at its input"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := mustTrial(t, asTheyAre).Try(t.Context(), mustModel(t, tt.build), shape, input())
			complains(t, err, tt.want)
		})
	}
}

func TestM13_OutputOfAnotherShapeIsRefused(t *testing.T) {
	wide := shape
	wide.Classes = 4
	_, err := mustTrial(t, asTheyAre).Try(t.Context(), mustModel(t, func(_ *onnx.Graph,
		mean string) string {
		return mean
	}), wide, input())
	complains(t, err, "trial")
}

func TestM10_AModelThatIsNoneIsAnOutcome(t *testing.T) {
	_, err := mustTrial(t, asTheyAre).Try(t.Context(), []byte("this is no model"), shape, input())
	complains(t, err, "trial", "optimize")
}

func TestM18_ATrialWithoutARuntimeSaysSo(t *testing.T) {
	tr := mustTrial(t, asTheyAre)
	t.Setenv("ONNXRUNTIME_LIB", filepath.Join(t.TempDir(), "none.so"))
	_, err := tr.Try(t.Context(), nil, shape, input())
	complains(t, err, "did not get to the model", "none.so", "set ONNXRUNTIME_LIB")
}

func TestWhatIsWrongWithTheProcessIsSaid(t *testing.T) {
	for _, tt := range []struct {
		name    string
		command []string
		want    []string
	}{
		{"no such program", []string{filepath.Join(t.TempDir(), "none")}, []string{"cannot be started", "none",
			"no foreign model is used"}},
		{"not executable", []string{mustFile(t)}, []string{"cannot be started", "permission denied"}},
		{"crash", []string{"sh", "-c", "kill -SEGV $$"}, []string{"died (signal: segmentation fault", "it said nothing",
			"take a smaller model"}},
		{"abort with a word", []string{"sh", "-c", "echo terminate called >&2; kill -ABRT $$"},
			[]string{"signal: aborted", "terminate called"}},
		{"no answer", []string{"sh", "-c", "exit 0"}, []string{"gave no answer"}},
		{"endless answer", []string{"sh", "-c", "head -c 50000000 /dev/zero"}, []string{"gave no answer"}},
		{"another number of logits", []string{"echo", `{"logits":[1,2]}`}, []string{"gave 2 logits, wants 3"}},
		{"logits of text", []string{"echo", `{"logits":["a"]}`}, []string{"gave no answer"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			logits, err := trial.New(trial.LimitsOf, tt.command...).Try(t.Context(), nil, shape, input())
			complains(t, err, tt.want...)
			if logits != nil {
				t.Errorf("got logits %v beside the error", logits)
			}
		})
	}
}

// A process that holds a pipe's end shows its own death: the other end reads to
// the end.
func TestNoProcessOutlivesItsTrial(t *testing.T) {
	const holds = `exec 3>"$PIPE"; echo up >&3; `
	t.Run("those that the process started", func(t *testing.T) {
		pipe := mustPipe(t)
		tr := trial.New(func(int) trial.Limits { return trial.Limits{Wall: time.Second} }, "sh", "-c",
			holds+"sleep 600 & wait")
		go tr.Try(t.Context(), nil, shape, input()) // its error is not the subject
		mustEnd(t, pipe, func() {})
	})
	t.Run("when the device is killed", func(t *testing.T) {
		pipe := mustPipe(t)
		t.Setenv("TMPDIR", t.TempDir()) // who is killed cleans nothing up
		exe, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		c := exec.Command(exe, "sh", "-c", holds+"exec sleep 600")
		c.Env = append(os.Environ(), role+"="+trying)
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		mustEnd(t, pipe, func() {
			if err := c.Process.Kill(); err != nil {
				t.Error(err)
			}
			c.Wait() // it was killed, and says so
		})
	})
}

// mustPipe makes a named pipe, which $PIPE names.
func mustPipe(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PIPE", path)
	return path
}

// mustEnd waits for the first line, calls then, and waits until nobody holds the
// pipe any more.
func mustEnd(t *testing.T, pipe string, then func()) {
	t.Helper()
	f, err := os.Open(pipe)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	stuck := time.AfterFunc(30*time.Second, func() { panic("a process outlives its trial") })
	defer stuck.Stop()
	b := bufio.NewReader(f)
	if line, err := b.ReadString('\n'); err != nil || line != "up\n" {
		t.Fatalf("got %q, %v; want that the process is up", line, err)
	}
	then()
	if rest, err := io.ReadAll(b); err != nil || len(rest) > 0 {
		t.Errorf("got %q, %v; want the end", rest, err)
	}
}

func mustFile(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(path, []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// mustAnonymous is this process's anonymous memory in bytes.
func mustAnonymous(t *testing.T) int64 {
	t.Helper()
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if fields := strings.Fields(line); len(fields) == 3 && fields[0] == "RssAnon:" {
			kb, err := strconv.ParseInt(fields[1], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return kb << 10
		}
	}
	t.Fatal("/proc/self/status says nothing of RssAnon")
	return 0
}

func complains(t *testing.T, err error, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("got %v, want it to say %q", err, part)
		}
	}
}
