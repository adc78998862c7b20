package rollout_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent/fleet"
	"github.com/limber-edge/limber/agent/fleet/rollout"
	"github.com/limber-edge/limber/agent/wire"
)

// model plays a fleet at random, and watches that a rollout keeps its rules.
type model struct {
	*rig
	rand  *rand.Rand
	open  map[string]openCommand    // the last command of each device but for cancels
	ended map[string]string         // by device, the state in which it ended
	said  map[string]map[string]int // by device, the attempts of each command's bytes
}

// openCommand is one that a device may be obeying.
type openCommand struct {
	id      string
	expires time.Time
	over    bool // answered, or taken back
}

func TestWhateverHappensTheRulesHold(t *testing.T) {
	for seed := range uint64(25) {
		play(t, seed)
	}
}

func FuzzWhateverHappensTheRulesHold(f *testing.F) {
	f.Add(uint64(1))
	f.Fuzz(func(t *testing.T, seed uint64) { play(t, seed) })
}

func play(tb testing.TB, seed uint64) {
	m := &model{rig: newRig(tb, 8), rand: rand.New(rand.NewPCG(seed, 0)), open: map[string]openCommand{},
		ended: map[string]string{}, said: map[string]map[string]int{}}
	for i := range 4 {
		m.set(fmt.Sprintf("d-%04d", i), func(d *fleet.Device) { d.Labels = map[string]string{"site": "rome"} })
	}
	r, err := m.new("r", m.spec())
	if err != nil {
		tb.Fatal(err)
	}
	m.r = r
	for range 120 {
		m.event()
	}
	m.calm()
}

// spec is one at random.
func (m *model) spec() (s wire.RolloutSpec) {
	switch m.rand.IntN(4) {
	case 0:
		s.Mode = "low-latency"
	case 1:
		s.Release = releaseOf("1.5.0")
	}
	if m.one(2) {
		s.MaxUnavailable = &wire.Unavailable{N: 1 + m.rand.IntN(2), Label: "site"}
	}
	if m.one(2) {
		s.Gates = gates("success=0.5", "misses=0.2")
	}
	if m.one(4) {
		s.Canary = []string{"d-0005"}
	}
	if s.Mode == "" && s.Release == nil && m.one(3) {
		s.Gates, s.Shadow = nil, &wire.Shadow{Only: m.one(2)}
	}
	s.Phases = [][]string{nil, {"1", "50%", "100%"}, {"100%"}}[m.rand.IntN(3)]
	s.Approve, s.Follow, s.Rollback = m.one(4), m.one(2), m.one(2) && s.Shadow == nil
	s.ForMS, s.SoakMS = new(float64(1+m.rand.IntN(200))*60_000), new(float64(m.rand.IntN(10))*60_000)
	return s
}

// one is true once in n times.
func (m *model) one(n int) bool { return m.rand.IntN(n) == 0 }

// some is a device, which may have come just now.
func (m *model) some() string {
	name := fmt.Sprintf("d-%04d", m.rand.IntN(10))
	if _, ok := m.devices[name]; !ok {
		m.join(name)
	}
	return name
}

// event lets something happen.
func (m *model) event() {
	again, retried, replaced := false, false, ""
	switch name := m.some(); m.rand.IntN(12) {
	case 0:
		m.off(name)
	case 1, 2:
		m.on(name)
	case 3:
		machine := fmt.Sprint(m.rand.IntN(2))
		if machine != m.devices[name].Caps.Machine {
			replaced = name
		}
		arch, mute := []string{"arm64", "arm64", "amd64"}[m.rand.IntN(3)], m.one(6)
		m.set(name, func(d *fleet.Device) { d.Caps.Machine, d.Caps.Arch, d.Caps.Shadow = machine, arch, !mute })
	case 4, 5, 6, 7:
		m.tell(name)
	case 8:
		m.traffic(nil, uint64(m.rand.IntN(900)), 0, 10+float64(m.rand.IntN(3)))
	case 9:
		m.now = m.now.Add(time.Duration(m.rand.IntN(30)) * time.Minute)
	case 10:
		action := wire.RolloutActions()[1+m.rand.IntN(5)]
		if action == wire.RolloutAbort && !m.one(5) {
			return
		}
		retried = m.ask(wire.RolloutCommand{Action: action, Rollback: m.one(2)}) && action == wire.RolloutRetry
	case 11:
		if again = m.one(4); again {
			m.evidence = rollout.NewEvidence() // as if the controller had crashed
		}
	}
	m.both(func(r *rollout.Record) bool { return r.Step(m.now, m.view()) })
	m.watch(retried, replaced)
}

// both has the record and what was stored of it meet the same, and compares them.
func (m *model) both(event func(*rollout.Record) bool) bool {
	twin := mustStore(m.tb, m.r)
	before := mustJSON(m.tb, m.r)
	changed := event(m.r)
	if also := event(twin); also != changed {
		m.tb.Fatalf("changed: %v, and %v after it was stored", changed, also)
	}
	got, want := mustJSON(m.tb, twin), mustJSON(m.tb, m.r)
	if got != want {
		m.tb.Fatalf("after it was stored the same came to\n%s\nnot\n%s", got, want)
	}
	if !changed && before != want {
		m.tb.Fatalf("nothing was said to have changed of\n%s\nwhich is\n%s", before, want)
	}
	return changed
}

func mustJSON(tb testing.TB, r *rollout.Record) string {
	tb.Helper()
	b, err := json.Marshal(r)
	if err != nil {
		tb.Fatal(err)
	}
	return string(b)
}

// ask acts on the rollout, and tells whether it obeyed.
func (m *model) ask(c wire.RolloutCommand) bool {
	var err error
	m.both(func(r *rollout.Record) bool {
		before := mustJSON(m.tb, r)
		err = r.Act(c, m.view(), m.now)
		after := mustJSON(m.tb, r)
		if err != nil && before != after {
			m.tb.Fatalf("%v, but it changed from\n%s\nto\n%s", err, before, after)
		}
		return before != after
	})
	return err == nil
}

// tell has a device say something of the command it has, or once had.
func (m *model) tell(name string) {
	if !m.devices[name].Online() {
		return
	}
	states := []wire.Step{wire.CommandAccepted, wire.CommandExecuting, wire.CommandSucceeded, wire.CommandSucceeded,
		wire.CommandSucceeded, wire.CommandFailed, wire.CommandRejected, wire.CommandCancelled}
	a := wire.Ack{State: states[m.rand.IntN(len(states))], ID: fmt.Sprintf("r.%d", m.rand.IntN(3)), Verb: wire.VerbFamily}
	if a.State == wire.CommandExecuting {
		a.Progress = &wire.Progress{Step: wire.UpdateFetching}
	}
	switch frames := m.rand.IntN(201); {
	case a.State == wire.CommandSucceeded: // which no device says before it is through
		a.Shadow = shadow(200, 200)
	case !m.one(3):
		a.Shadow = shadow(frames, frames-m.rand.IntN(1+frames/20))
	}
	for _, c := range m.r.Commands() {
		if c.Device == name && !m.one(4) {
			a.ID, a.Verb = c.ID, c.Verb
			if a.State == wire.CommandSucceeded {
				m.obey(name, c)
				a.Shadow = m.told(name)
			}
		}
	}
	m.both(func(r *rollout.Record) bool { return r.Ack(name, a, m.now) })
	o := m.open[name]
	if o.over = o.over || a.State.Final() && (a.ID == o.id || a.Verb == wire.VerbCancel); o.over {
		m.open[name] = o
	}
}

// told is what a device tells of the comparison that it made last; nil if it made none.
func (m *model) told(name string) *wire.Agreement {
	if u := m.devices[name].Caps.LastUpdate; u != nil {
		return u.Shadow
	}
	return nil
}

// watch says which rule does not hold.
func (m *model) watch(retried bool, replaced string) {
	m.tb.Helper()
	if retried {
		clear(m.ended)
	}
	delete(m.open, replaced)
	delete(m.ended, replaced)
	m.watchCommands()
	phase, reached := 0, 0
	doc := m.r.Document()[0]
	busy := map[string]int{}
	for _, d := range doc.Devices {
		for reached == doc.Phases[phase].Size {
			phase, reached = phase+1, 0
		}
		reached++
		m.watchDevice(d, doc.Phases[phase])
		if d.Attempt > 0 && (d.State == wire.DeviceRunning || d.State == wire.DeviceOffline) {
			busy[m.devices[d.Device].Labels["site"]]++
		}
	}
	for site, n := range busy {
		if u := m.r.Spec.MaxUnavailable; u != nil && n > u.N {
			// one that is pending and offline, and was replaced, is none that is unavailable
			if open := m.openAt(site); open > u.N {
				m.tb.Fatalf("%d devices of %s are commanded at once; want at most %d", open, site, u.N)
			}
		}
	}
	m.watchCounts(doc)
	if state, ok := m.ended["r"]; ok && string(m.r.State) != state {
		m.tb.Fatalf("the rollout went from %s to %s", state, m.r.State)
	}
	if m.r.Final() {
		m.ended["r"] = string(m.r.State)
	}
}

func (m *model) openAt(site string) (n int) {
	for _, name := range m.commanded() {
		if m.devices[name].Labels["site"] == site {
			n++
		}
	}
	return n
}

// watchDevice watches that a device is started in its turn, and ends once.
func (m *model) watchDevice(d wire.RolloutDevice, p wire.RolloutPhase) {
	m.tb.Helper()
	if d.State == wire.DeviceRunning && p.State == wire.PhasePending && m.r.End == nil { // none goes back
		m.tb.Fatalf("%s was started before its phase", d.Device)
	}
	was, ended := m.ended[d.Device]
	back := was == wire.DeviceSucceeded && (m.r.End != nil || m.r.Final()) // on its way
	late := was == wire.DeviceTimedOut && !m.over()                        // its answer came
	if ended && was != d.State && !back && !late {
		m.tb.Fatalf("%s went from %s to %s: %s", d.Device, was, d.State, d.Detail)
	}
	switch d.State {
	case wire.DevicePending, wire.DeviceOffline, wire.DeviceRunning:
	default:
		m.ended[d.Device] = d.State
	}
}

// over tells whether the rollout had ended when this event came.
func (m *model) over() bool { return m.ended["r"] != "" }

// watchCounts watches that each device is counted once.
func (m *model) watchCounts(doc wire.Rollout) {
	m.tb.Helper()
	sum := 0
	for i, p := range doc.Phases {
		c := p.Counts
		n := c.Pending + c.Offline + c.Running + c.Succeeded + c.Failed + c.TimedOut + c.Already + c.Superseded +
			c.Cancelled + c.RolledBack
		if sum += n; n != p.Size {
			m.tb.Fatalf("%d devices of phase %d are counted; want %d", n, i+1, p.Size)
		}
		if m.r.End == nil && i > 0 && p.State != wire.PhasePending && doc.Phases[i-1].State != wire.PhasePassed {
			m.tb.Fatalf("phase %d is %s, the one before %s", i+1, p.State, doc.Phases[i-1].State)
		}
	}
	if sum != len(doc.Devices) {
		m.tb.Fatalf("%d devices are counted; want %d", sum, len(doc.Devices))
	}
}

// watchCommands watches that no device may be obeying two commands, and that a command
// never changes.
func (m *model) watchCommands() {
	m.tb.Helper()
	seen := map[string]bool{}
	for _, c := range m.r.Commands() {
		if seen[c.Device] {
			m.tb.Fatalf("%s has two commands open", c.Device)
		}
		seen[c.Device] = true
		if m.said[c.Device] == nil {
			m.said[c.Device] = map[string]int{}
		}
		m.said[c.Device][c.ID+string(c.Payload)]++
		if ids := m.bytesOf(c); ids != 1 {
			m.tb.Fatalf("%s: command %s was sent with %d different payloads", c.Device, c.ID, ids)
		}
		was, known := m.open[c.Device]
		if c.Verb == wire.VerbCancel || known && was.id == c.ID {
			continue
		}
		if known && !was.over && m.now.Before(was.expires) {
			m.tb.Fatalf("%s is commanded %s while it may be obeying %s", c.Device, c.ID, was.id)
		}
		var asked wire.Command
		if err := wire.Decode(c.Payload, &asked); err != nil || asked.Check(c.Verb) != nil {
			m.tb.Fatalf("%s: %v", c.Payload, err)
		}
		m.watchShadow(c.Device, asked)
		m.open[c.Device] = openCommand{id: c.ID, expires: asked.ExpiresAt.Time}
	}
}

// watchShadow watches that no device takes a family without the comparison that was asked
// for, nor at all where nothing else was.
func (m *model) watchShadow(name string, asked wire.Command) {
	m.tb.Helper()
	spec := m.r.Spec.Shadow
	back := m.r.End != nil
	switch {
	case spec == nil || asked.Family == nil:
	case asked.Shadow == nil && (!back || spec.Only):
		m.tb.Fatalf("%s is commanded %s without a comparison", name, asked.Family.Name)
	case asked.Shadow != nil && (!m.devices[name].Caps.Shadow || asked.Shadow.Only != spec.Only):
		m.tb.Fatalf("%s is commanded %+v; it compares: %v", name, asked.Shadow, m.devices[name].Caps.Shadow)
	}
}

func (m *model) bytesOf(c rollout.Command) (n int) {
	for key := range m.said[c.Device] {
		if len(key) > len(c.ID) && key[:len(c.ID)+1] == c.ID+"{" {
			n++
		}
	}
	return n
}

// calm lets all that is open end, after which the rollout must have ended, or wait for
// something that nobody gives.
func (m *model) calm() {
	m.tb.Helper()
	for range 40 {
		for _, name := range m.order() {
			m.on(name)
		}
		for _, c := range m.r.Commands() {
			m.obey(c.Device, c)
			m.both(func(r *rollout.Record) bool {
				return r.Ack(c.Device, wire.Ack{ID: c.ID, Verb: c.Verb, State: wire.CommandSucceeded, Shadow: m.told(c.Device)},
					m.now)
			})
		}
		for range 5 {
			m.traffic(nil, 900, 0, 10)
			m.both(func(r *rollout.Record) bool { return r.Step(m.now, m.view()) })
		}
		if m.r.State == wire.RolloutPaused {
			m.ask(wire.RolloutCommand{Action: wire.RolloutResume})
		}
		if m.r.State == wire.RolloutApproval {
			m.ask(wire.RolloutCommand{Action: wire.RolloutApprove})
		}
	}
	if !m.r.Final() {
		m.tb.Fatalf("it is %s for ever: %s, of %s", m.r.State, m.r.Why, mustJSON(m.tb, m.r))
	}
	if ended := m.commanded(); len(ended) > 0 && slices.Contains([]wire.RolloutState{wire.RolloutDone}, m.r.State) {
		m.tb.Fatalf("it is done, and %v are commanded", ended)
	}
}
