package pipeline

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/limber-edge/limber/agent/wire"
)

func TestR4_AnInferenceThatHangsIsInterrupted(t *testing.T) {
	inBubble(t, testConfig(), func(b *bench) {
		b.mode("fixed:large")
		b.sessions[2].stuck = make(chan struct{})
		began := time.Now()
		a := b.answer(Job{Body: picture(t, 8), Deadline: time.Minute})
		if took := time.Since(began); a.Reason != wire.Internal || !strings.Contains(a.Detail, "interrupted after 5s") ||
			took != hangLeast {
			t.Errorf("got %+v after %v, want it refused as internal after %v", a, took, hangLeast)
		}
		if got := b.answer(Job{Body: picture(t, 8), Deadline: time.Minute}); got.Reason != "" || got.Member != 1 {
			t.Errorf("the next job: got %+v, want another member", got)
		}
		if len(b.watch.hung) != 1 || b.watch.hung[0] != 2 {
			t.Errorf("told of %v, want member 2", b.watch.hung)
		}
		b.sessions[2].stuck = nil // a new session
		b.use(2, b.sessions[2])
		if got := b.answer(Job{Body: picture(t, 8), Deadline: time.Minute}); got.Member != 2 {
			t.Errorf("back in use: got %+v", got)
		}
	})
}

func TestR4_TheOnlyMemberStaysInUse(t *testing.T) {
	cfg := testConfig()
	cfg.Members = cfg.Members[:1]
	inBubble(t, cfg, func(b *bench) {
		b.sessions[0].stuck = make(chan struct{})
		if a := b.answer(Job{Body: picture(t, 8), Deadline: time.Minute}); a.Reason != wire.Internal {
			t.Errorf("got %+v, want it refused", a)
		}
		b.sessions[0].stuck = nil
		if a := b.answer(Job{Body: picture(t, 8), Deadline: time.Minute}); a.Reason != "" {
			t.Errorf("got %+v, want it answered", a)
		}
	})
}

// deaf is a session that does not heed an interruption.
type deaf struct {
	*fakeSession
	end chan struct{}
}

func (d *deaf) Run(out []float32, in ...[]float32) error { <-d.end; return nil }
func (d *deaf) Interrupt()                               {}

// deafened is a pipeline at work whose only session does not heed an interruption,
// and what its Run returns.
func deafened(t *testing.T, cfg Config) (b *bench, d *deaf, done <-chan error, cancel func()) {
	t.Helper()
	b = mustBench(t, cfg)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- b.Run(ctx) }()
	d = &deaf{b.sessions[0], make(chan struct{})}
	b.use(0, d)
	return b, d, ended, cancel
}

func TestR4_WhatCannotBeInterruptedEndsThePipeline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, d, done, cancel := deafened(t, testConfig())
		answer := b.submit(Job{Body: picture(t, 8), Deadline: time.Minute})
		waiting := b.submit(Job{Body: picture(t, 8), Deadline: time.Minute})
		began := time.Now()
		if err := <-done; !errors.Is(err, ErrHung) || time.Since(began) != 2*hangLeast {
			t.Errorf("Run ended with %v after %v, want ErrHung after %v", err, time.Since(began), 2*hangLeast)
		}
		if a := <-answer; a.Reason != wire.Internal {
			t.Errorf("the job that hangs: got %+v, want it refused", a)
		}
		if a := <-waiting; a.Reason != wire.Busy || !a.Abandoned {
			t.Errorf("the job behind it: got %+v, want it abandoned", a)
		}
		cancel()
		close(d.end) // it comes back after all: nothing is answered twice
		synctest.Wait()
		if len(answer) != 0 {
			t.Errorf("answered twice: %+v", <-answer)
		}
	})
}
