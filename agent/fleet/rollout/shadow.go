package rollout

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/limber-edge/limber/agent/wire"
)

// compared is what a device told of a candidate beside its family, as far as it makes sense.
type compared struct {
	Frames int     `json:"f,omitempty"` // that both answered
	Agreed int     `json:"a,omitempty"` // of these, with the same first class
	Missed int     `json:"m,omitempty"` // of these, would be
	P95MS  float64 `json:"p,omitempty"` // of the candidate's infer, to a microsecond
}

// maxP95MS bounds a p95, so that a document keeps its bounds.
const maxP95MS = 1e6

// read is what a device told; ok is false for what no device can have found.
func read(a wire.Agreement) (c compared, ok bool) {
	c = compared{Frames: a.Frames, Agreed: a.Agreed, Missed: a.Missed}
	if a.P95MS != nil {
		c.P95MS = math.Round(*a.P95MS*1000) / 1000
	}
	return c, c.check() == nil
}

func (c compared) check() error {
	within := func(n, most int) bool { return n >= 0 && n <= most }
	if !within(c.Frames, wire.MaxShadowFrames) || !within(c.Agreed, c.Frames) || !within(c.Missed, c.Frames) ||
		!(c.P95MS >= 0 && c.P95MS <= maxP95MS) {
		return errors.New("what it told of the family cannot be")
	}
	return nil
}

// told is the same as others see it; nil for nothing.
func (c compared) told() *wire.Agreement {
	if c.Frames == 0 {
		return nil
	}
	share := digits(float64(c.Agreed) / float64(c.Frames))
	return &wire.Agreement{Frames: c.Frames, Agreed: c.Agreed, Agreement: &share, P95MS: new(c.P95MS), Missed: c.Missed}
}

// compare takes in what a device told of the candidate, unless that is of more frames than it
// was asked for, by which it would outweigh others. What it tells meanwhile is taken a tenth
// at a time, as each is written down and told.
func (r *Record) compare(d *device, told *wire.Agreement, final bool) {
	if told == nil || d.Back || r.Spec.Shadow == nil {
		return
	}
	c, ok := read(*told)
	grown, wants := c.Frames-d.Shadow.Frames, r.Spec.Shadow.Wants()
	if ok && c.Frames <= wants && (final || grown < 0 || grown >= max(1, wants/10)) {
		d.Shadow = c
	}
}

// only tells whether the candidate is compared, and nothing else.
func (r *Record) only() bool { return r.Spec.Shadow != nil && r.Spec.Shadow.Only }

// agreement judges by what the devices of a phase told of their own frames, all together. It
// fails before they are all through, as each is spared that has not taken the family by
// then; but where it is nothing but compared nobody is to be spared.
func (r *Record) agreement(g wire.Gate, p int, t turnout) wire.RolloutGate {
	l, _ := parseLimit(g) // the spec is complete
	is := wire.RolloutGate{Name: g.Name, Limit: l.figure, LimitBy: g.Limit, Verdict: wire.GateWait}
	agreed, devices := 0, r.of(p)
	for i := range devices {
		is.Frames += uint64(devices[i].Shadow.Frames)
		agreed += devices[i].Shadow.Agreed
	}
	if is.Frames == 0 {
		return is
	}
	share := float64(agreed) / float64(is.Frames)
	is.Value = new(digits(share))
	switch {
	case is.Frames < uint64(r.needs(g.Name)), r.only() && t.open > 0:
	case share < l.figure:
		is.Verdict = wire.GateFail
	default:
		is.Verdict = wire.GatePass
	}
	return is
}

// needs is how many frames a gate needs: no more are compared on one device than were asked for.
func (r *Record) needs(gate string) int {
	if gate == wire.GateAgreement {
		return min(r.Spec.Observe, r.Spec.Shadow.Wants())
	}
	return r.Spec.Observe
}

// completeShadow has devices compare, where the gate is to judge by that.
func completeShadow(s *wire.RolloutSpec) {
	i := slices.IndexFunc(s.Gates, func(g wire.Gate) bool { return g.Name == wire.GateAgreement })
	if s.Family == nil || i < 0 {
		return
	}
	var shadow wire.Shadow
	if s.Shadow != nil {
		shadow = *s.Shadow
	}
	shadow.Percent = new(shadow.Share())
	if shadow.Frames == nil && s.Observe > 0 {
		shadow.Frames = new(min(s.Observe, wire.MaxShadowFrames))
	}
	if l, err := parseLimit(s.Gates[i]); err == nil && shadow.Agreement == nil && !shadow.Only {
		shadow.Agreement = &l.figure // each device refuses by itself what it would not agree with
	}
	s.Shadow = &shadow
}

// checkShadow tells why a comparison cannot be judged so.
func checkShadow(s wire.RolloutSpec) error {
	only := s.Shadow != nil && s.Shadow.Only
	for _, g := range s.Gates {
		switch {
		case g.Name == wire.GateAgreement && s.Family == nil:
			return fmt.Errorf("gates: agreement is of a family, nothing else is compared: leave it out for a %s", s.Kind())
		case g.Name == wire.GateAgreement && s.Shadow == nil:
			return errors.New("gates: agreement needs a shadow") // of a record alone
		case only && g.Name != wire.GateAgreement && g.Name != wire.GateSuccess:
			return fmt.Errorf("gates: %s is of a family in use, and with shadow.only none is: leave it out", g.Name)
		}
	}
	if only && s.Rollback {
		return errors.New("rollback: with shadow.only nothing is taken into use, so there is nothing to go back from")
	}
	return nil
}
