package main

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

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
		{"stopped", 1000, warmUp*millis(10) + millis(1500), 150, "context canceled"},
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
