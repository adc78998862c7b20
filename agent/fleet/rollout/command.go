package rollout

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/limber-edge/limber/agent/fleet"
	"github.com/limber-edge/limber/agent/wire"
)

// starter starts devices in one Step.
type starter struct {
	*Record
	now  time.Time
	view View

	made map[making]int // what was made of a command, by what it is made of
	busy map[string]int // devices that may be unavailable, by the value of their label
}

// making is what the commands of one Step differ in.
type making struct {
	attempt int
	retry   bool
	before  int    // of a way back
	arch    string // of a release
	cancel  int    // what is taken back
}

func (r *Record) starter(now time.Time, v View) *starter {
	return &starter{Record: r, now: now, view: v, made: map[making]int{}}
}

// startPhase starts the devices of a phase that may start, and says why others may not.
func (s *starter) startPhase(p int) (held string, started bool) {
	devices := s.of(p)
	for i := range devices {
		d := &devices[i]
		if d.State != wire.DevicePending || d.Off {
			continue
		}
		why := s.start(d)
		held, started = cmp.Or(why, held), started || why == ""
	}
	return held, started
}

// start starts a device, or its way back, or says why not. One that is there already has
// nothing to start; but a mode or goal that is reported under a name that was commanded
// before may be that of the machine before.
func (s *starter) start(d *device) (held string) {
	is := s.view.Picture.Device(d.Name)
	value := ""
	if u := s.Spec.MaxUnavailable; u != nil {
		value = is.Labels[u.Label]
	}
	switch {
	case !d.Back && (updating(s.Spec) || d.Attempt == 0) && s.has(is):
		d.end(wire.DeviceAlready, "", "", s.now)
		return ""
	case !d.Back && s.Spec.Shadow != nil && is.Caps == nil:
		return d.Name + " has not told yet whether it can compare families"
	case !d.Back && s.lacks(is) != "":
		d.end(wire.DeviceFailed, wire.Unsupported, s.lacks(is), s.now)
		return ""
	case updating(s.Spec) && updates(is) != "":
		return d.Name + " is at another update"
	case slices.ContainsFunc(s.view.Others, s.awaited(d)):
		return d.Name + " has still to answer another rollout"
	case s.full(value):
		return fmt.Sprintf("as many of %s=%s are unavailable as may be", s.Spec.MaxUnavailable.Label, value)
	}
	if s.Spec.MaxUnavailable != nil {
		s.busy[value]++
	}
	if d.Before == 0 && !d.Back {
		d.Before = s.remember(present(is, s.Spec.Kind()))
	}
	if base := s.view.Evidence.of(d.Name, s.now.Add(-hour), s.now); base.Frames > 0 && !d.Back {
		d.Base = base
	}
	d.State, d.Since, d.Due = wire.DeviceRunning, s.now.UnixMilli(), s.due(s.now)
	d.Reason, d.Detail, d.Heard, d.Stray, d.Cancel = "", "", false, false, 0
	if !d.Back {
		d.Shadow = compared{}
	}
	d.Attempt++
	making := making{attempt: d.Attempt, retry: d.Attempt > 1}
	switch {
	case d.Back:
		making.before = d.Before
	case s.Spec.Release != nil:
		making.arch = arch(is)
	}
	d.Sent = s.command(making, d.Due)
	return ""
}

// lacks says why a device cannot be commanded what it would have to do; "" if it can.
func (s *starter) lacks(is fleet.Device) string {
	r := s.Spec.Release
	switch {
	case s.Spec.Shadow != nil && !is.Caps.Shadow:
		return "its agent is too old to compare families: update it, or do without the gate agreement"
	case r == nil:
		return ""
	case arch(is) == "":
		return "it does not say for which architecture its program is"
	case r.Digest(arch(is)) == "":
		return fmt.Sprintf("there is no release %s for %s", r.Version, arch(is))
	}
	return ""
}

// awaited tells of another rollout whether the device has to answer that first. A way
// back comes after those of the rollouts that were started later.
func (s *starter) awaited(d *device) func(*Record) bool {
	return func(o *Record) bool {
		return s.excludes(o) && (o.commands(d.Name) || d.Back && s.before(o) && o.returns(d.Name))
	}
}

// full tells whether as many devices with a value of the label may be unavailable as may.
func (s *starter) full(value string) bool {
	u := s.Spec.MaxUnavailable
	if u == nil {
		return false
	}
	if s.busy == nil {
		s.busy = map[string]int{}
		s.count(s.Record)
		for _, o := range s.view.Others {
			if s.excludes(o) {
				s.count(o)
			}
		}
	}
	return s.busy[value] >= u.N
}

// count counts the devices of a rollout that were commanded and have not answered.
func (s *starter) count(r *Record) {
	for i := range r.Devices {
		if d := &r.Devices[i]; d.State == wire.DeviceRunning {
			s.busy[s.view.Picture.Device(d.Name).Labels[s.Spec.MaxUnavailable.Label]]++
		}
	}
}

// cancel takes the command of a device back.
func (s *starter) cancel(d *device) {
	d.Attempt++
	d.Cancel = s.command(making{attempt: d.Attempt, cancel: d.Sent}, d.Due)
}

// remember is the place of what a device goes back to; 0 where that is nothing.
func (r *Record) remember(b before) int {
	if b.same(before{}) {
		return 0
	}
	for i, known := range r.Before {
		if b.same(known) {
			return i + 1
		}
	}
	r.Before = append(r.Before, b)
	return len(r.Before)
}

// command is the place of a command in Sent, which is made but once for those that are
// the same.
func (s *starter) command(of making, due int64) int {
	key, ok := s.made[of]
	if ok {
		return key
	}
	c := s.content(of)
	c.ExpiresAt = new(wire.At(time.UnixMilli(due)))
	payload, _ := json.Marshal(c) // strings and numbers, which came as JSON
	key = s.keep(sent{Verb: c.Verb(), ID: fmt.Sprintf("%s.%d", s.ID, of.attempt), Payload: payload})
	s.made[of] = key
	return key
}

// content is what a command says, but for its expiry.
func (s *starter) content(of making) (c wire.Command) {
	switch {
	case of.cancel > 0:
		c.Cancel = s.Sent[of.cancel].ID
	case of.before > 0:
		b := s.Before[of.before-1]
		c.Mode, c.Goal = b.Aim.Mode, b.Aim.Goal
		switch {
		case b.Release != nil:
			c.ReleaseOrder = wire.ReleaseOrder{Version: b.Release.Version, Digest: b.Release.Digest, Downgrade: true,
				OneWay: true} // whatever it is, as it was there before
			c.Sources, c.Retry = s.Spec.Sources, true
		case b.Family != nil:
			c.Update = wire.Update{Family: b.Family, Sources: s.Spec.Sources, Retry: true, Force: s.Spec.Force,
				Probation: &wire.Probation{MaxMissed: wire.MaxProbationFrames}} // it is no trial: nothing else is left
		}
	case s.Spec.Family != nil:
		c.Update = s.Spec.Update
		c.Retry = c.Retry || of.retry // a device refuses what failed on it
	case s.Spec.Release != nil:
		r := s.Spec.Release
		c.ReleaseOrder = wire.ReleaseOrder{Version: r.Version, Digest: r.Digest(of.arch), Downgrade: r.Downgrade,
			OneWay: r.OneWay}
		c.Sources, c.Retry = s.Spec.Sources, s.Spec.Retry || of.retry // likewise
	default:
		c.Mode, c.Goal = s.Spec.Mode, s.Spec.Goal
	}
	return c
}

// keep is the place of a command in Sent.
func (r *Record) keep(c sent) int {
	last := 0
	for key, known := range r.Sent {
		if known.ID == c.ID && known.Verb == c.Verb && bytes.Equal(known.Payload, c.Payload) {
			return key
		}
		last = max(last, key)
	}
	if r.Sent == nil {
		r.Sent = map[int]sent{}
	}
	r.Sent[last+1] = c
	return last + 1
}

// forget forgets the commands that are answered, and tells whether there were any.
func (r *Record) forget() (some bool) {
	if len(r.Sent) == 0 {
		return false
	}
	used := make(map[int]bool, len(r.Sent))
	for i := range r.Devices {
		used[r.Devices[i].Sent], used[r.Devices[i].Cancel] = true, true
	}
	for key := range r.Sent {
		if !used[key] {
			delete(r.Sent, key)
			some = true
		}
	}
	return some
}

// Commands are those that are not answered, in the order of the devices: to be sent
// once the Record is stored, and again whenever they may have been lost.
func (r *Record) Commands() (all []Command) {
	for i := range r.Devices {
		d := &r.Devices[i]
		if d.State != wire.DeviceRunning {
			continue // or nobody waits for its answer any more
		}
		key := d.Sent
		if d.Cancel > 0 {
			key = d.Cancel
		}
		if c, ok := r.Sent[key]; ok {
			all = append(all, Command{Device: d.Name, Verb: c.Verb, ID: c.ID, Payload: c.Payload})
		}
	}
	return all
}

// Command is one to be sent to a device. Sent again it is the same, to the byte.
type Command struct {
	Device, Verb, ID string
	Payload          []byte
}

// Families are those that a device may be fetching for the rollout; none once it has
// ended.
func (r *Record) Families(name string) (all []wire.Family) {
	i, ok := r.place(name)
	if !ok || r.Spec.Family == nil || r.Devices[i].State != wire.DeviceRunning {
		return nil
	}
	if d := &r.Devices[i]; d.Back {
		return []wire.Family{*r.Before[d.Before-1].Family}
	}
	return []wire.Family{*r.Spec.Family}
}

// Ack takes what a device tells of a command, and tells whether there is something new
// to be stored. What is told of another command, or for the second time, is not.
func (r *Record) Ack(name string, a wire.Ack, now time.Time) (changed bool) {
	i, ok := r.place(name)
	if !ok || r.Devices[i].Sent == 0 {
		return false
	}
	d := &r.Devices[i]
	was := *d
	if r.answers(a, d.Sent) {
		r.compare(d, a.Shadow, a.State.Final())
	}
	switch {
	case d.State == wire.DeviceTimedOut:
		if a.State.Final() && r.answers(a, d.Sent) {
			r.answeredLate(d, a, now)
		}
	case r.answers(a, d.Cancel):
		d.cancelled(a, now)
	case !r.answers(a, d.Sent):
	case a.State.Final():
		r.answered(d, a, now)
	default:
		d.Heard = true
		if a.Progress != nil {
			d.Detail = short(string(a.Progress.Step))
		}
	}
	changed = *d != was
	return r.tell() || changed
}

// answers tells whether an ack is of the command of the place.
func (r *Record) answers(a wire.Ack, key int) bool {
	c, ok := r.Sent[key]
	return ok && c.ID == a.ID && c.Verb == a.Verb
}

// answeredLate takes the answer of a device that timed out. How the rollout ended stays.
func (r *Record) answeredLate(d *device, a wire.Ack, now time.Time) {
	if !r.Final() {
		r.answered(d, a, now)
		return
	}
	what := string(a.State)
	if a.Detail != "" {
		what += ": " + a.Detail
	}
	d.Sent, d.Detail = 0, short("it told after the rollout had ended: "+what)
}

// answered ends a device as it says that its command did.
func (r *Record) answered(d *device, a wire.Ack, now time.Time) {
	state, detail := wire.DeviceFailed, a.Detail
	switch {
	case a.State == wire.CommandSucceeded:
		state = d.done()
	case a.State == wire.CommandTimedOut, a.Reason == wire.Expired:
		state = wire.DeviceTimedOut
	case a.State == wire.CommandCancelled && r.End != nil && !d.Back:
		state = wire.DeviceCancelled
	case a.State == wire.CommandCancelled, a.State == wire.CommandSuperseded:
		detail = "its command was " + string(a.State) + " by another: " + detail
	case a.RolledBack:
		detail = "it went back: " + detail
	}
	if d.Back && state != wire.DeviceRolledBack {
		detail = "on its way back: " + detail
	}
	d.end(state, wire.Reason(word(string(a.Reason))), detail, now)
}

// cancelled takes the answer to a cancel. One that is refused by a device which never
// told of the command itself means that it does not have it: it is not sent again. Else
// it came too late, and the command ends by itself.
func (d *device) cancelled(a wire.Ack, now time.Time) {
	switch {
	case !a.State.Final():
	case a.State == wire.CommandSucceeded || !d.Heard:
		d.end(wire.DeviceCancelled, "", "", now)
	default:
		d.Cancel = -1
	}
}
