package bench

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/limber-edge/limber/agent/bench/desk"
	"github.com/limber-edge/limber/agent/bench/figure"
	"github.com/limber-edge/limber/agent/fleet"
	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/wire"
)

// fate is what became of one frame.
type fate struct {
	camera int
	due    time.Duration // when it was to be sent, since the beginning
	lag    time.Duration // from then until it was on its way
	took   time.Duration // from when it was due to the result; of no meaning if none came
	status wire.Status   // empty: no result came
	reason wire.Reason   // of a refusal
	met    bool          // the deadline, by the agent's own clock
	top1   float64       // expected, of the member that answered
}

func newFate(f fate, took time.Duration, r *wire.Result) fate {
	f.took, f.status, f.reason, f.met = took, r.Status, r.Reason, r.Met
	if r.ExpectedTop1 != nil {
		f.top1 = *r.ExpectedTop1
	}
	return f
}

// ledger is what became of all frames of a load that was offered.
type ledger struct {
	deadline time.Duration
	fates    []fate
}

// join takes in the frames of another ledger, whose deadline is the same.
func (a *ledger) join(other *ledger) {
	a.deadline, a.fates = other.deadline, append(a.fates, other.fates...)
}

// inTime tells whether a frame was answered within the deadline, from when it was
// due to leave until its answer was back.
func (a *ledger) inTime(f fate) bool { return f.status == wire.OK && f.took <= a.deadline }

// count is the frames that something holds of.
func (a *ledger) count(holds func(fate) bool) (n int) {
	for _, f := range a.fates {
		if holds(f) {
			n++
		}
	}
	return n
}

// goodput is answers in time a second, of a load that was offered for a while.
func (a *ledger) goodput(d time.Duration) float64 { return float64(a.count(a.inTime)) / d.Seconds() }

func (a *ledger) of(camera int) *ledger {
	own := &ledger{deadline: a.deadline}
	for _, f := range a.fates {
		if f.camera == camera {
			own.fates = append(own.fates, f)
		}
	}
	return own
}

// share is the part of the frames that was answered in time; 0 if there were none.
func (a *ledger) share() float64 { return float64(a.count(a.inTime)) / float64(max(len(a.fates), 1)) }

// worst is the smallest share of the first n cameras.
func (a *ledger) worst(n int) float64 {
	least := 1.0
	for camera := range n {
		least = min(least, a.of(camera).share())
	}
	return least
}

// top1 is the mean expected accuracy of the answers in time; 0 if there were none.
func (a *ledger) top1() float64 {
	sum, n := 0.0, 0
	for _, f := range a.fates {
		if a.inTime(f) {
			sum, n = sum+f.top1, n+1
		}
	}
	return sum / float64(max(n, 1))
}

// reasons counts refusals; those without a reason are under the empty one.
func (a *ledger) reasons() map[wire.Reason]int {
	n := map[wire.Reason]int{}
	for _, f := range a.fates {
		if f.status == wire.Refused {
			n[f.reason]++
		}
	}
	return n
}

// check is an error unless every frame was answered, or refused with a reason.
func (a *ledger) check() error {
	mute := a.count(func(f fate) bool { return f.status == "" })
	if mute > 0 {
		return fmt.Errorf("%d of %d frames were neither answered nor refused", mute, len(a.fates))
	}
	if n := a.reasons()[""]; n > 0 {
		return fmt.Errorf("%d of %d frames were refused without a reason", n, len(a.fates))
	}
	return nil
}

// String says what became of the frames, in percent.
func (a *ledger) String() string {
	percent := func(n int) float64 { return 100 * float64(n) / float64(max(len(a.fates), 1)) }
	ok := a.count(func(f fate) bool { return f.status == wire.OK })
	in := a.count(a.inTime)
	met := a.count(func(f fate) bool { return f.status == wire.OK && f.met })
	parts := []string{fmt.Sprintf("%d frames: %.1f %% in time (%.1f %% by the agent's clock), %.1f %% late",
		len(a.fates), percent(in), percent(met), percent(ok-in))}
	reasons := a.reasons()
	for _, r := range slices.Sorted(maps.Keys(reasons)) {
		parts = append(parts, fmt.Sprintf("%.1f %% refused, %s", percent(reasons[r]), r))
	}
	if mute := a.count(func(f fate) bool { return f.status == "" }); mute > 0 {
		parts = append(parts, fmt.Sprintf("%.1f %% without an answer", percent(mute)))
	}
	return fmt.Sprintf("%s; they left %.1f ms late (95th percentile)", strings.Join(parts, ", "), a.lag())
}

// lag is the 95th percentile of how late frames left, in milliseconds: how well
// this process kept its own time.
func (a *ledger) lag() float64 {
	var all figure.Sample
	for _, f := range a.fates {
		all = append(all, wire.Millis(f.lag))
	}
	return all.Percentile(95)
}

// p95 is the 95th percentile of the frames due from a moment to another, in
// milliseconds; infinite where too few were answered. ok is false when none was due.
func (a *ledger) p95(from, to time.Duration) (ms float64, ok bool) {
	var all figure.Sample
	for _, f := range a.fates {
		switch {
		case f.due < from || f.due >= to:
		case f.status == wire.OK:
			all = append(all, wire.Millis(f.took))
		default:
			all = append(all, math.Inf(1))
		}
	}
	return all.Percentile(95), len(all) > 0
}

// How it is told that latencies are normal again after an overload.
const (
	backWindow = 250 * time.Millisecond // over which the percentile is taken
	backStep   = 50 * time.Millisecond
	backWithin = 1.5 // times the percentile before the overload
)

// back is how long after a moment, at most until another, the 95th percentile is
// normal again.
func (a *ledger) back(from, until time.Duration, normal float64) time.Duration {
	for at := from; at+backWindow <= until; at += backStep {
		if ms, ok := a.p95(at, at+backWindow); ok && ms <= backWithin*normal {
			return at - from
		}
	}
	return until - from
}

// sender is a camera that sends frames, by the clock and not by what comes back.
type sender struct {
	mailbox *fleet.Mailbox
	jobs    [][]byte        // payloads, in turns
	beats   []time.Duration // when its frames are due, since the beginning
}

// beats are the moments of one of several cameras that together send at a rate,
// each as far from the next as from the one before.
func beats(camera, of int, rate float64, from, until time.Duration) (due []time.Duration) {
	for i := camera; ; i += of {
		at := from + time.Duration(float64(i)/rate*float64(time.Second))
		if at >= until {
			return due
		}
		due = append(due, at)
	}
}

// postmark is a result as it came in; it is read when there is time for it.
type postmark struct {
	frame   int // in the ledger
	at      time.Duration
	payload []byte
}

// drive lets cameras send and returns what became of every frame. Results come to
// the client's mailbox.
func drive(ctx context.Context, c *desk.Client, cameras []sender, deadline time.Duration) (*ledger, error) {
	a := &ledger{deadline: deadline}
	name, frames := fleet.NewID()[:12], map[string]int{}
	for i, cam := range cameras {
		for k, due := range cam.beats {
			frames[frameID(name, i, k)] = len(a.fates)
			a.fates = append(a.fates, fate{camera: i, due: due})
		}
	}
	begin, next := time.Now().Add(leadTime), 0
	g, gctx := errgroup.WithContext(ctx)
	for i, cam := range cameras {
		own := a.fates[next:][:len(cam.beats)]
		next += len(own)
		g.Go(func() error {
			return cam.run(gctx, begin, own, func(k int) string { return c.Self.Job(frameID(name, i, k)) })
		})
	}
	var mail []postmark
	g.Go(func() (err error) {
		mail, err = collect(gctx, c.Mailbox, frames, begin)
		return err
	})
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return a, a.enter(mail)
}

// leadTime is what the cameras have to get ready before the first frame is due.
const leadTime = 20 * time.Millisecond

func frameID(name string, camera, k int) string { return fmt.Sprintf("%s-%d-%d", name, camera, k) }

// run sends every frame when it is due, and notes how late it left. One that
// leaves late does not delay the ones after it.
func (c *sender) run(ctx context.Context, begin time.Time, frames []fate, topic func(k int) string) error {
	for k := range frames {
		due := begin.Add(frames[k].due)
		if err := desk.Wait(ctx, due); err != nil {
			return err
		}
		outcome := c.mailbox.Send(ctx, mqtt.Message{Topic: topic(k), Payload: c.jobs[k%len(c.jobs)], QoS: 1})
		frames[k].lag = time.Since(due)
		if err := desk.Sent(outcome); err != nil {
			return fmt.Errorf("camera: %w", err)
		}
	}
	return nil
}

// collect takes in the results of frames until none is missing, or nothing comes
// any more.
func collect(ctx context.Context, st *fleet.Mailbox, frames map[string]int, begin time.Time) (
	mail []postmark, err error) {
	seen := make([]bool, len(frames))
	for len(mail) < len(frames) {
		wait, cancel := context.WithTimeout(ctx, desk.Silence)
		m, err := st.Next(wait)
		cancel()
		at := time.Since(begin)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err != nil {
			return mail, nil // what is missing the ledger tells
		}
		t, err := wire.ParseTopic(m.Topic)
		i, ours := frames[t.ID]
		if err != nil || t.Kind != wire.KindResult || !ours || seen[i] {
			continue
		}
		seen[i] = true
		mail = append(mail, postmark{i, at, m.Payload})
	}
	return mail, nil
}

func (a *ledger) enter(mail []postmark) error {
	var errs []error
	for _, m := range mail {
		var r wire.Result
		if err := wire.Decode(m.payload, &r); err != nil {
			errs = append(errs, fmt.Errorf("a result cannot be read: %w", err))
			continue
		}
		f := &a.fates[m.frame]
		*f = newFate(*f, m.at-f.due, &r)
	}
	return errors.Join(errs...)
}
