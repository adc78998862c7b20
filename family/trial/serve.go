package trial

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/family/ort"
)

// Serve is the other side of Try: it reads the request, limits this process for
// the rest of its life, runs the model and writes the outcome. A model that fails
// is an outcome; the error is about the trial.
func Serve(rt *ort.Runtime, in io.Reader, out io.Writer) error {
	r, input, model, err := readRequest(in)
	if err != nil {
		return fmt.Errorf("trial: %w", err)
	}
	if err := r.Limits.impose(); err != nil {
		return fmt.Errorf("trial: %w", err)
	}
	logits, other, err := run(rt, r, input, model)
	o := outcome{Logits: logits}
	if err != nil {
		o = outcome{Fault: err.Error()}
	} else if err := usable(logits, other); err != nil {
		o = outcome{Fault: err.Error(), Ran: true}
	}
	return json.NewEncoder(out).Encode(o)
}

// maxSide keeps the size of an input within an int64.
const maxSide = 1 << 20

func readRequest(in io.Reader) (r request, input []float32, model []byte, err error) {
	b := bufio.NewReader(in)
	line, err := b.ReadBytes('\n')
	if err != nil {
		return r, nil, nil, fmt.Errorf("request: %w", err)
	}
	if err := json.Unmarshal(line, &r); err != nil {
		return r, nil, nil, fmt.Errorf("request: %w", err)
	}
	if r.Shape.R < 1 || r.Shape.R > maxSide {
		return r, nil, nil, fmt.Errorf("input: %d pixels a side, wants 1 to %d", r.Shape.R, maxSide)
	}
	want := 4 * 3 * int64(r.Shape.R) * int64(r.Shape.R)
	numbers, err := io.ReadAll(io.LimitReader(b, want))
	if err == nil && int64(len(numbers)) != want {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return r, nil, nil, fmt.Errorf("input: %w", err)
	}
	if input, err = family.Floats(numbers); err != nil {
		return r, nil, nil, fmt.Errorf("input: %w", err)
	}
	if model, err = io.ReadAll(b); err != nil {
		return r, nil, nil, fmt.Errorf("model: %w", err)
	}
	return r, input, model, nil
}

// run does with a model what the device will do with it, and returns what it
// gives for the input and for its negative.
func run(rt *ort.Runtime, r request, input []float32, model []byte) (logits, other []float32, err error) {
	path, o := filepath.Join(r.Folder, "model.onnx"), ort.DefaultOptions()
	if err := rt.Optimize(model, path, r.Shape, o); err != nil {
		return nil, nil, err
	}
	o.Optimized = true
	session, err := rt.NewSession(path, r.Shape, o)
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, session.Close()) }()
	negative := make([]float32, len(input))
	for i, v := range input {
		negative[i] = -v
	}
	logits, other = make([]float32, r.Shape.Classes), make([]float32, r.Shape.Classes)
	if err := session.Run(other, negative); err != nil {
		return nil, nil, err
	}
	return logits, other, session.Run(logits, input)
}

// usable tells what is wrong with the logits of two images.
func usable(logits, other []float32) error {
	for i, v := range logits {
		if math.IsNaN(float64(v)) || math.IsInf(float64(v), 0) {
			return fmt.Errorf("logit %d is %v: the model computes no numbers", i, v)
		}
	}
	if slices.Equal(logits, other) {
		return errors.New("two different images give the same logits: the model does not look at its input")
	}
	return nil
}

// impose limits this process. What it has taken so far, for itself and for the
// library, does not count against the model. Memory is what can be written and
// is shared with nobody (RLIMIT_DATA), not addresses: the library and Go reserve
// more of those than any model needs.
func (l Limits) impose() error {
	data, err := dataBytes()
	if err != nil {
		return fmt.Errorf("memory in use: %w", err)
	}
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		return fmt.Errorf("processor time used: %w", err)
	}
	spent := time.Duration(used.Utime.Nano() + used.Stime.Nano())
	for resource, value := range map[int]uint64{
		syscall.RLIMIT_DATA:  uint64(data + l.Memory),
		syscall.RLIMIT_CPU:   uint64(math.Ceil((spent + l.CPU).Seconds())),
		syscall.RLIMIT_FSIZE: uint64(l.File),
		syscall.RLIMIT_CORE:  0,
	} {
		if err := lower(resource, value); err != nil {
			return err
		}
	}
	// Where the whole device runs out of memory, this process goes first. If
	// the system does not allow that, the limits hold all the same.
	_ = os.WriteFile("/proc/self/oom_score_adj", []byte("1000"), 0)
	return nil
}

// lower sets a limit, the hard one too: at the soft limit of processor time the
// kernel sends a signal that Go ignores, at the hard one it kills. A limit that
// is lower already stays.
func lower(resource int, value uint64) error {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(resource, &limit); err != nil {
		return fmt.Errorf("limit %d: %w", resource, err)
	}
	value = min(value, limit.Max)
	if err := syscall.Setrlimit(resource, &syscall.Rlimit{Cur: value, Max: value}); err != nil {
		return fmt.Errorf("limit %d to %d: %w", resource, value, err)
	}
	return nil
}

// dataBytes is what counts against RLIMIT_DATA.
func dataBytes() (int64, error) {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if kb, ok := strings.CutPrefix(line, "VmData:"); ok {
			n, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(kb), "kB")), 10, 64)
			return n << 10, err
		}
	}
	return 0, errors.New("/proc/self/status says nothing of VmData")
}
