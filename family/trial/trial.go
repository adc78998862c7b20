// Package trial runs a foreign model for the first time where it can do no harm:
// in a process of its own.
//
//	Try ──request──▶ Serve ──limits──▶ optimise ──▶ session ──▶ a few runs
//	 ▲                                                              │
//	 └──────── logits, or why not, or how the process died ─────────┘
//
// A scan knows what a model declares; how much it allocates, how long it runs
// and whether the library survives it shows only when it runs. The rule: the
// process limits itself before it reads the first byte of the model's graph, so
// whatever happens then happens to it alone. It ends with whoever started it.
//
// What a trial promises: making a session of this very model, on one thread of the
// CPU, and running it on two inputs stayed within the limits, crashed nothing and
// gave finite logits that depend on the input. It does not promise the same of
// another input: operators whose sizes come from data may ask for more on another
// image, and nothing here limits the agent, which runs the model from then on;
// only what limits that process as a whole does, such as MemoryMax= in its systemd
// unit. Nor is the process a sandbox: it has the rights of whoever started it, so
// a model made to take over the library by a flaw in it is not held back. Whoever
// makes models must be trusted that far; the trial is against those that are too
// big, too slow or broken.
package trial

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/family/ort"
)

// Limits of a trial.
type Limits struct {
	Memory int64         // bytes that the model's session and runs may add
	File   int64         // bytes of one file that the library writes: the optimised model
	CPU    time.Duration // of processor time; counted in whole seconds
	Wall   time.Duration // by the clock, the start of the process included
}

// LimitsOf a model of that many bytes. With ONNX Runtime 1.30, making a session of
// 400 MiB of weights took between three and four times their size in memory, and
// 10 to 21 s on two cores that others used, too. What needs a gigabyte over four
// times its size, or half a minute over what its size takes, is of no use on a
// small device.
func LimitsOf(bytes int) Limits {
	size, mib := int64(bytes), time.Duration(bytes>>20)
	return Limits{Memory: 4*size + 1<<30, File: 4*size + 64<<20,
		CPU: 30*time.Second + mib*100*time.Millisecond, Wall: time.Minute + mib*500*time.Millisecond}
}

// String names what a model broke.
func (l Limits) String() string {
	return fmt.Sprintf("%d MiB of memory, a file of %d MiB, %v of processor time and %v by the clock", l.Memory>>20,
		l.File>>20, l.CPU, l.Wall)
}

// Trial starts the processes.
type Trial struct {
	command []string
	limits  func(bytes int) Limits
}

// New tries models with a program and its arguments, which must call Serve;
// limits is LimitsOf, but in a test.
func New(limits func(bytes int) Limits, command ...string) *Trial {
	return &Trial{command: command, limits: limits}
}

// request is the first line of what the process reads. The input's numbers and
// the model follow.
type request struct {
	Folder string    `json:"folder"` // for what the library writes; Try removes it
	Shape  ort.Shape `json:"shape"`
	Limits Limits    `json:"limits"`
}

// outcome is the one line that it writes.
type outcome struct {
	Logits []float32 `json:"logits,omitempty"`
	Fault  string    `json:"fault,omitempty"`
	Ran    bool      `json:"ran,omitempty"` // the fault is not that it did not run, but what it gave
}

// remedy is what helps whichever limit was broken.
const remedy = "take a smaller model, or export it again with fixed shapes"

// Try runs model on input, an image of 3×R×R, and returns the logits. The error
// says what the model did, the limits and the remedy; or ctx's, or why there was
// no trial.
func (t *Trial) Try(ctx context.Context, model []byte, shape ort.Shape, input []float32) ([]float32, error) {
	folder, err := os.MkdirTemp("", "limber-trial-")
	if err != nil {
		return nil, fmt.Errorf("trial: %w", err)
	}
	defer os.RemoveAll(folder) // in the system's folder for such, if it stays
	limits := t.limits(len(model))
	r, err := json.Marshal(request{Folder: folder, Shape: shape, Limits: limits})
	if err != nil {
		return nil, fmt.Errorf("trial: %w", err)
	}
	numbers := family.FloatBytes(input)
	line, err := t.start(ctx, limits, io.MultiReader(bytes.NewReader(append(r, '\n')), bytes.NewReader(numbers),
		bytes.NewReader(model)))
	if err != nil {
		return nil, err
	}
	o, err := parseOutcome(line, shape.Classes)
	switch {
	case err != nil:
		return nil, fmt.Errorf("trial: %w", err)
	case o.Ran:
		return nil, fmt.Errorf("trial: %s", o.Fault)
	case o.Fault != "":
		return nil, fmt.Errorf("trial: %s; the limits are %v; %s", o.Fault, limits, remedy)
	}
	return o.Logits, nil
}

// start runs the process to its end and returns what it wrote.
func (t *Trial) start(ctx context.Context, limits Limits, stdin io.Reader) ([]byte, error) {
	timed, cancel := context.WithTimeout(ctx, limits.Wall)
	defer cancel()
	c := exec.CommandContext(timed, t.command[0], t.command[1:]...)
	var stdout, stderr head
	c.Stdin, c.Stdout, c.Stderr = stdin, &stdout, &stderr
	// Whoever gives up takes the whole group along, and so does whoever dies:
	// the kernel watches the thread that started the process, which must
	// therefore stay as long as this goroutine does.
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	c.Cancel = func() error { return syscall.Kill(-c.Process.Pid, syscall.SIGKILL) }
	c.WaitDelay = time.Second
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := c.Start(); err != nil {
		return nil, fmt.Errorf("trial: its process cannot be started: %w; without it no foreign model is used", err)
	}
	err := c.Wait()
	switch {
	case ctx.Err() != nil:
		return nil, fmt.Errorf("trial: %w", ctx.Err())
	case timed.Err() != nil:
		return nil, fmt.Errorf("trial: the model did not end within %v; the limits are %v; %s", limits.Wall, limits, remedy)
	case c.ProcessState.ExitCode() == exitFailed:
		return nil, fmt.Errorf("trial: its process did not get to the model: %s", firstLine(stderr.kept.String()))
	case err != nil:
		return nil, fmt.Errorf("trial: %s; the limits are %v; %s", died(c.ProcessState, limits, stderr.kept.String()), limits,
			remedy)
	}
	return stdout.kept.Bytes(), nil
}

// exitFailed is how a program ends that tells an error and has not crashed.
const exitFailed = 1

// died says how a process ended that did not end well.
func died(s *os.ProcessState, limits Limits, stderr string) string {
	status, ok := s.Sys().(syscall.WaitStatus)
	if ok && status.Signaled() && status.Signal() == syscall.SIGKILL && s.UserTime()+s.SystemTime() >= limits.CPU {
		return fmt.Sprintf("the model took more than %v of processor time", limits.CPU)
	}
	return fmt.Sprintf("the process that ran the model died (%v): %s", s, firstLine(stderr))
}

func firstLine(stderr string) string {
	said, _, _ := strings.Cut(strings.TrimSpace(stderr), "\n")
	return cmp.Or(said, "it said nothing")
}

// parseOutcome reads the line of a process that a foreign model ran in.
func parseOutcome(line []byte, classes int) (outcome, error) {
	var o outcome
	if err := json.Unmarshal(line, &o); err != nil {
		return outcome{}, fmt.Errorf("the process that ran the model gave no answer: %w", err)
	}
	if o.Fault == "" && (o.Ran || len(o.Logits) != classes) {
		return outcome{}, fmt.Errorf("the process that ran the model gave %d logits, wants %d", len(o.Logits), classes)
	}
	return o, nil
}

// maxOutput is how much of a process's output is kept: a hundred thousand logits
// have room.
const maxOutput = 4 << 20

// head keeps the first bytes written to it.
type head struct{ kept bytes.Buffer }

func (h *head) Write(p []byte) (int, error) {
	h.kept.Write(p[:min(len(p), maxOutput-h.kept.Len())]) // a buffer returns no error
	return len(p), nil
}
