//go:build torture

package agent_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent/config"
)

// asked is a job that was answered before a kill.
type asked struct {
	*entry
	after time.Duration // from the answer's coming to the kill
}

// killAfterAnswers asks n times: a job in a stream of others, a kill so long after its
// answer came, a start, and the same id and bytes again. Every second time the broker
// hears no more of the device once the answer came, such as that it has the job. It
// returns those of which all answers were the same, and those with another.
func (s *storm) killAfterAnswers(n int, after func(*rand.Rand) time.Duration) (same, other []asked) {
	s.tb.Helper()
	p := s.first()
	ctx, stop := context.WithCancel(s.tb.Context())
	var busy sync.WaitGroup
	busy.Go(func() { s.client.traffic(ctx, s.source(1), 40) })
	var all []asked
	for r := s.source(4); len(all) < n && !s.tb.Failed(); {
		one := asked{s.client.job(ctx, fmt.Sprintf("asked-%d", len(all)), len(all)%pictures), after(r)}
		s.await(one.entry, 1, p)
		if len(all)%2 == 0 {
			s.network.stall()
		}
		idle(ctx, one.after)
		s.end(p, true)
		s.network.reset()
		s.network.resume()
		p = s.spawn()
		s.client.again(ctx, one.entry)
		s.await(one.entry, 2, p)
		all = append(all, one)
	}
	stop()
	busy.Wait()
	s.rest(p)
	for _, one := range all {
		if len(one.answers) == 1 {
			same = append(same, one)
		} else {
			other = append(other, one)
		}
	}
	return same, other
}

// await returns when so many answers of an id came.
func (s *storm) await(e *entry, n int, p *process) {
	s.tb.Helper()
	if !s.client.until(patience, func() bool { return e.came >= n }) {
		s.tb.Errorf("seed %d: %s has %d answers, want %d; the device's log:\n%s", s.seed, e.topic, e.came, n,
			tail(p.log.String()))
	}
}

func exactly(d time.Duration) func(*rand.Rand) time.Duration {
	return func(*rand.Rand) time.Duration { return d }
}

func upTo(most time.Duration) func(*rand.Rand) time.Duration {
	return func(r *rand.Rand) time.Duration { return time.Duration(r.Int64N(int64(most) + 1)) }
}

func TestN2_AnIDIsAnsweredAlikeFromFiftyMillisecondsAfterItsAnswer(t *testing.T) {
	t.Parallel()
	for _, after := range []time.Duration{50, 75, 100, 200, 500, 900, 1500} {
		after *= time.Millisecond
		t.Run(after.String(), func(t *testing.T) {
			s := newStorm(t, func(*config.Config) {})
			same, other := s.killAfterAnswers(20, exactly(after))
			t.Logf("killed %v after the answer: %d answered alike, %d not", after, len(same), len(other))
			if len(other) > 0 {
				t.Errorf("seed %d: %d ids have two answers, want none", s.seed, len(other))
			}
		})
	}
}

// The window that the README names: each answer but the last was made just before a kill.
func TestN2_AKillAtOnceMayLeaveAnIDWithTwoAnswers(t *testing.T) {
	t.Parallel()
	s := newStorm(t, func(*config.Config) {})
	same, other := s.killAfterAnswers(50, exactly(0))
	t.Logf("killed at once: %d answered alike, %d not", len(same), len(other))
	s.count()
}

func TestN2_WithDurableFirstNoIDHasTwoAnswers(t *testing.T) {
	t.Parallel()
	s := newStorm(t, func(c *config.Config) { c.Outbox.DurableFirst = true })
	s.killAfterAnswers(200, upTo(60*time.Millisecond))
	if got := s.count(); got.Twice > 0 || got.Answered != got.Accepted {
		t.Errorf("seed %d: got %+v, want one answer for each", s.seed, got)
	}
}
