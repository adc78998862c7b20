package governor

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

// six is a family like the one the policy was developed with.
func six() []Member {
	var members []Member
	for j, top1 := range []float64{0.74202, 0.74968, 0.76134, 0.7754, 0.78346, 0.7903} {
		members = append(members, Member{Name: fmt.Sprintf("s%d", j), Top1: top1, Latency: ms([]float64{3, 4, 6.5, 8.5, 13.5,
			23}[j])})
	}
	return members
}

// ms converts milliseconds to the nearest nanosecond.
func ms(x float64) time.Duration { return time.Duration(math.Round(x * 1e6)) }

func mustGovernor(t testing.TB, members []Member, mode Mode) *Governor {
	t.Helper()
	g, err := New(members, mode, nil)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func mustMode(t testing.TB, name string) Mode {
	t.Helper()
	m, err := ParseMode(name)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// device serves jobs one after the other, each asked for when the one before
// is done, at most one per gap.
type device struct {
	g        *Governor
	now      time.Duration
	gap      time.Duration
	deadline time.Duration
	floor    float64
	latency  func(member int) time.Duration
}

// newDevice is unloaded, with a little jitter that is the same in every run.
func newDevice(g *Governor, gap, deadline time.Duration) *device {
	d := &device{g: g, gap: gap, deadline: deadline}
	d.load(1)
	return d
}

// load makes every member slower by a factor.
func (d *device) load(factor float64) {
	r := rand.New(rand.NewPCG(1, 2))
	d.latency = func(member int) time.Duration {
		return time.Duration(float64(d.g.members[member].Latency) * factor * math.Exp(0.05*math.Abs(r.NormFloat64())))
	}
}

// job decides and runs one job.
func (d *device) job() Decision {
	d.g.Arrive(d.now)
	decision := d.g.Decide(d.now, Queue{Deadline: d.now + d.deadline, Floor: d.floor})
	next := d.now + d.gap
	if !decision.Shed {
		took := d.latency(decision.Member)
		d.now += took
		d.g.Observe(d.now, decision.Member, 1, took)
	}
	d.now = max(d.now, next)
	return decision
}

func (d *device) jobs(n int) (decisions []Decision) {
	for range n {
		decisions = append(decisions, d.job())
	}
	return decisions
}
