package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/limber-edge/limber/agent/bench/load"
	"github.com/limber-edge/limber/agent/governor/replay"
	"github.com/limber-edge/limber/family"
)

// tiredSession is a slowSession that fails from a run on.
type tiredSession struct {
	slowSession
	left *int // runs
}

var errTired = errors.New("out of memory")

func (s tiredSession) Run(out []float32, in ...[]float32) error {
	if *s.left--; *s.left < 0 {
		return errTired
	}
	return s.slowSession.Run(out, in...)
}

// TestARecordingKeepsWhatItMeasured ends recordings of a member that takes 10 ms.
func TestARecordingKeepsWhatItMeasured(t *testing.T) {
	for _, tt := range []struct {
		name  string
		runs  int           // the member fails after these
		stop  time.Duration // when the user does
		steps int           // written
		says  string        // "": nothing
	}{
		{"to the end", 1000, time.Hour, 200, ""},
		{"a member fails", warmUp + 130, time.Hour, 130, errTired.Error()},
		{"stopped", 1000, warmUp*millis(10) + millis(1495), 150, "stopped in stage 2 of 2, after 1.5s"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer time.AfterFunc(tt.stop, cancel).Stop()
				r := recorder{Bench: Bench{Progress: silent{}}, random: rand.New(rand.NewPCG(1, 0)),
					inputs: make([][]float32, 1), logits: make([]float32, 2),
					sessions: []family.Session{tiredSession{slowSession{millis(10)}, &tt.runs}}}
				var out strings.Builder
				err := r.record(ctx, []load.Stage{{Length: time.Second}, {Length: time.Second}}, &out)
				if (err == nil) != (tt.says == "") || err != nil && !strings.Contains(err.Error(), tt.says) {
					t.Errorf("got %v, want %q", err, tt.says)
				}
				trace, err := replay.Read(strings.NewReader(out.String()), 1)
				if err != nil || len(trace) != tt.steps {
					t.Errorf("got %d steps, %v; want %d", len(trace), err, tt.steps)
				}
			})
		})
	}
}

func TestAFileIsReplacedOnlyByAWholeOne(t *testing.T) {
	for _, tt := range []struct {
		name    string
		written string
		err     error
		want    string // in the file
		part    string // in its part; "": there is none
	}{
		{"whole", "new", nil, "new", ""},
		{"ended early", "ne", errTired, "old", "ne"},
		{"ended before it began", "", errTired, "old", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			name := filepath.Join(t.TempDir(), "trace.txt")
			if err := os.WriteFile(name, []byte("old"), 0o600); err != nil {
				t.Fatal(err)
			}
			err := fillFile(name, func(w io.Writer) error {
				_, err := io.WriteString(w, tt.written)
				return errors.Join(err, tt.err)
			})
			if !errors.Is(err, tt.err) || strings.Contains(fmt.Sprint(err), name+".part") != (tt.part != "") {
				t.Errorf("got %v, want %v, and the part named if there is one", err, tt.err)
			}
			if got, err := os.ReadFile(name); err != nil || string(got) != tt.want {
				t.Errorf("got %q, %v in the file, want %q", got, err, tt.want)
			}
			if got, err := os.ReadFile(name + ".part"); string(got) != tt.part || (err == nil) != (tt.part != "") {
				t.Errorf("got %q, %v in the part, want %q", got, err, tt.part)
			}
		})
	}
}

func TestAPipeIsWrittenToAndStays(t *testing.T) {
	name := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(name, 0o600); err != nil {
		t.Fatal(err)
	}
	reader, err := os.OpenFile(name, os.O_RDWR, 0) // does not wait for a writer
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	err = fillFile(name, func(w io.Writer) error { _, err := io.WriteString(w, "trace"); return err })
	i, e := os.Stat(name)
	if err != nil || e != nil || i.Mode()&os.ModeNamedPipe == 0 {
		t.Fatalf("got %v, %v, %v; want the pipe still there", err, e, i)
	}
	got := make([]byte, 5)
	if _, err := io.ReadFull(reader, got); err != nil || string(got) != "trace" {
		t.Errorf("got %q, %v", got, err)
	}
}

// With the members of the stock family: TestARecordedTraceHasAllMembers.
func TestARecordingFollowsItsScript(t *testing.T) {
	stages, err := load.Parse("30ms idle, 20ms cpu:1+low:1, 20ms memory:1")
	if err != nil {
		t.Fatal(err)
	}
	r := recorder{Bench: testBench(t, nil), random: rand.New(rand.NewPCG(1, 0)), inputs: make([][]float32, 2),
		logits:   make([]float32, 2),
		sessions: []family.Session{slowSession{time.Millisecond}, slowSession{time.Millisecond}}}
	var out strings.Builder
	if err := errors.Join(r.load.Prepare(stages), r.record(t.Context(), stages, &out), r.load.Clear()); err != nil {
		t.Fatal(err)
	}
	mustFollow(t, strings.NewReader(out.String()), 2, map[int]int{0: 0, 1: 2, 2: 1})
}

// mustFollow reads a trace whose loads, by phase, are known.
func mustFollow(t *testing.T, r io.Reader, members int, want map[int]int) {
	t.Helper()
	trace, err := replay.Read(r, members)
	if err != nil {
		t.Fatal(err)
	}
	loads := map[int]int{}
	for _, s := range trace {
		loads[s.Phase] = s.Load
	}
	if !maps.Equal(loads, want) {
		t.Errorf("got loads %v by phase, want %v", loads, want)
	}
}
