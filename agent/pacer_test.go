package agent

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/limber-edge/limber/agent/uplink"
)

// paced runs a pacer of ten frames a second against frames that come at these
// times, and returns when which ones went through, and which were superseded.
func paced(t *testing.T, arrivals ...time.Duration) (passed map[string]time.Duration, superseded []string) {
	t.Helper()
	passed = map[string]time.Duration{}
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		p, began, ended := newPacer(100*time.Millisecond), time.Now(), make(chan error, 1)
		go func() { ended <- p.run(ctx, func(f *job) { passed[f.ID] = time.Since(began) }) }()
		for i, at := range arrivals {
			time.Sleep(at - time.Since(began)) // of the bubble: takes no time
			if old := p.put(&job{Request: &uplink.Request{ID: string(rune('a' + i))}}); old != nil {
				superseded = append(superseded, old.ID)
			}
			synctest.Wait()
		}
		time.Sleep(time.Second)
		cancel()
		if err := <-ended; err != context.Canceled {
			t.Errorf("run: got %v, want the end of ctx", err)
		}
	})
	return passed, superseded
}

func TestAPacerLetsTheNewestThroughWhenItsTurnComes(t *testing.T) {
	const ms = time.Millisecond
	for _, tt := range []struct {
		name       string
		arrivals   []time.Duration
		passed     map[string]time.Duration
		superseded []string
	}{
		{"one", []time.Duration{50 * ms}, map[string]time.Duration{"a": 50 * ms}, nil},
		{"slower than the limit", []time.Duration{0, 150 * ms, 300 * ms},
			map[string]time.Duration{"a": 0, "b": 150 * ms, "c": 300 * ms}, nil},
		{"at the limit", []time.Duration{0, 100 * ms, 200 * ms},
			map[string]time.Duration{"a": 0, "b": 100 * ms, "c": 200 * ms}, nil},
		{"a little early", []time.Duration{0, 90 * ms}, map[string]time.Duration{"a": 0, "b": 100 * ms}, nil},
		{"three times too fast", []time.Duration{0, 33 * ms, 66 * ms, 99 * ms, 133 * ms, 166 * ms},
			map[string]time.Duration{"a": 0, "d": 100 * ms, "f": 200 * ms}, []string{"b", "c", "e"}},
		{"a burst", []time.Duration{10 * ms, 11 * ms, 12 * ms, 13 * ms},
			map[string]time.Duration{"a": 10 * ms, "d": 110 * ms}, []string{"b", "c"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			passed, superseded := paced(t, tt.arrivals...)
			if len(passed) != len(tt.passed) || !slices.Equal(superseded, tt.superseded) {
				t.Errorf("passed %v, superseded %v; want %v and %v", passed, superseded, tt.passed, tt.superseded)
			}
			for id, at := range tt.passed {
				if got, ok := passed[id]; !ok || got != at {
					t.Errorf("frame %s went through at %v, %v; want %v", id, got, ok, at)
				}
			}
		})
	}
}
