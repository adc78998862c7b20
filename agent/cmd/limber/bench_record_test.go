package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/limber-edge/limber/agent/governor/replay"
	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/family/ort/orttest"
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
				r := recorder{random: rand.New(rand.NewPCG(1, 0)), progress: &progress{}, inputs: make([][]float32, 1), logits: make([]float32, 2),
					sessions: []family.Session{tiredSession{slowSession{millis(10)}, &tt.runs}}}
				var out strings.Builder
				err := r.record(ctx, []stage{{length: time.Second}, {length: time.Second}}, &out)
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

func TestAStoppedRecordingLeavesTheEarlierTrace(t *testing.T) {
	t.Setenv("ONNXRUNTIME_LIB", orttest.Path(t))
	name := filepath.Join(t.TempDir(), "trace.txt")
	if err := os.WriteFile(name, []byte("earlier"), 0o600); err != nil {
		t.Fatal(err)
	}
	var out, complaint strings.Builder
	code := run(canceled(t), []string{"bench", "record", "--out", name}, &out, &complaint)
	if code != exitFailed || !strings.Contains(complaint.String(), "stopped in stage 1 of 7") {
		t.Errorf("exit %d, %s", code, complaint.String())
	}
	if got, err := os.ReadFile(name); err != nil || string(got) != "earlier" || exists(name+".part") {
		t.Errorf("got %q, %v, a part: %v; want the earlier trace alone", got, err, exists(name+".part"))
	}
}
