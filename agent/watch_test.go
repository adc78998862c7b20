package agent_test

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/limber-edge/limber/agent/config"
	"github.com/limber-edge/limber/agent/fleet"
	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/store"
)

// What an operator learns of a device from its documents, events and answers.

// mustEdit opens the store of a device that does not run.
func mustEdit(tb testing.TB, cfg config.Config, edit func(*store.Store) error) {
	tb.Helper()
	st, err := store.Open(cfg.State, store.Options{NoSync: true}, discard())
	if err != nil {
		tb.Fatal(err)
	}
	err = edit(st)
	if e := st.Close(); err == nil {
		err = e
	}
	if err != nil {
		tb.Fatal(err)
	}
}

// fresh is online with a device that may never be ready.
func fresh(tb testing.TB, broker string, r rig) (*operator, config.Config, *device) {
	tb.Helper()
	cfg := newConfig(tb, broker)
	o := operate(tb, broker)
	d := start(tb, cfg, r)
	o.presence(cfg, wire.Online, 0)
	return o, cfg, d
}

// opener closes what members wait for, once: at the latest when the test ends, before
// the devices that it has started are waited for.
func opener(tb testing.TB, c chan struct{}) func() {
	open := sync.OnceFunc(func() { close(c) })
	tb.Cleanup(open)
	return open
}

// openClient connects a client of a fleet, which knows what it is to see.
func openClient(tb testing.TB, addr string, filters []string) *fleet.Client {
	tb.Helper()
	cfg := mqtt.Default()
	cfg.Broker, cfg.ClientID = addr, "client-"+fleet.NewID()
	c, err := fleet.Open(cfg, discard(), filters...)
	if err != nil {
		tb.Fatal(err)
	}
	run(tb, c.Run)
	if err := c.Ready(tb.Context()); err != nil {
		tb.Fatal(err)
	}
	return c
}

// latest reads the newest message of a topic as strictly as a device would; false
// where there is none.
func latest[M any](o *operator, topic string) (m M, ok bool) {
	o.tb.Helper()
	all := o.matching(topic)
	if len(all) == 0 {
		return m, false
	}
	return decoded[M](o.tb, all[len(all)-1]), true
}

// caps waits for capabilities that fit, and returns them.
func (o *operator) caps(cfg config.Config, fits func(wire.Caps) bool, what string, args ...any) (caps wire.Caps) {
	o.tb.Helper()
	o.until(func() (ok bool) {
		caps, ok = latest[wire.Caps](o, self(cfg).Caps())
		return ok && fits(caps)
	}, "capabilities: "+what, args...)
	return caps
}

// front are the members that a device can use, smallest first.
func (o *operator) front(cfg config.Config) []wire.Member {
	o.tb.Helper()
	return o.caps(cfg, func(c wire.Caps) bool { return len(c.Members) > 0 }, "some members").Members
}

// servedBy waits until the members of a provider serve.
func (o *operator) servedBy(cfg config.Config, provider string) wire.Caps {
	o.tb.Helper()
	return o.caps(cfg, func(c wire.Caps) bool { return c.Profile != nil && c.Profile.Provider == provider },
		"%s serves", provider)
}

// report waits for a report, whatever its member and detail.
func (o *operator) report(cfg config.Config, want wire.Reported) {
	o.tb.Helper()
	o.until(func() bool {
		return slices.ContainsFunc(o.matching(self(cfg).Reported()), func(m mqtt.Message) bool {
			r := decoded[wire.Reported](o.tb, m)
			r.Member, r.Detail = "", ""
			return reflect.DeepEqual(r, want)
		})
	}, "report %+v", want)
}

// obeyed sends a command that must be carried out.
func (o *operator) obeyed(cfg config.Config, verb, id, payload string) {
	o.tb.Helper()
	if ack := o.command(cfg, cfg.Device, verb, id, payload); ack.State != wire.CommandSucceeded {
		o.tb.Errorf("%s %s: got %+v, want it done", verb, payload, ack)
	}
}

// steps are the states that a command has entered.
func (o *operator) steps(cfg config.Config, verb, id string) (steps []wire.Step) {
	o.tb.Helper()
	for _, m := range o.matching(self(cfg).Ack(verb, id)) {
		steps = append(steps, decoded[wire.Ack](o.tb, m).State)
	}
	return steps
}

// events are those of a kind, in their order, of every severity.
func (o *operator) events(cfg config.Config, kind wire.EventKind) (events []wire.Event) {
	o.tb.Helper()
	for _, m := range o.matching(self(cfg).Event("#")) {
		if e := decoded[wire.Event](o.tb, m); e.Kind == kind {
			events = append(events, e)
		}
	}
	return events
}

// tells waits for an event with a text, and returns it.
func (o *operator) tells(cfg config.Config, kind wire.EventKind, text string) (e wire.Event) {
	o.tb.Helper()
	o.until(func() bool {
		all := o.events(cfg, kind)
		i := slices.IndexFunc(all, func(e wire.Event) bool { return strings.Contains(e.Detail, text) })
		if i >= 0 {
			e = all[i]
		}
		return i >= 0
	}, "the device tells: %s", text)
	return e
}

// ask sends test image 0 with a header until the device is not too busy, and
// returns the answer.
func (o *operator) ask(cfg config.Config, name, header string) wire.Result {
	o.tb.Helper()
	return o.askUntil(cfg, name, header, func(r wire.Result) bool { return r.Reason != wire.Busy },
		"an answer to %s that is not busy", name)
}

// answeredBy sends frames, one after the other, until a member answers one.
func (o *operator) answeredBy(cfg config.Config, member string) {
	o.tb.Helper()
	header := fmt.Sprintf(`{"deadline_ms":%d}`, patient)
	o.askUntil(cfg, "for-"+member, header, func(r wire.Result) bool { return r.Member == member }, "an answer by %s",
		member)
}

// askUntil sends test image 0 with a header, one after the other, until an answer
// fits.
func (o *operator) askUntil(cfg config.Config, name, header string, fits func(wire.Result) bool, what string,
	args ...any) (r wire.Result) {
	o.tb.Helper()
	payload := rawJob(header, pngFrame(o.tb, 0))
	id, sent := "", 0
	o.until(func() bool {
		if id != "" {
			all := o.matching(self(cfg).Result(id))
			if len(all) == 0 {
				return false
			}
			if r = decoded[wire.Result](o.tb, all[0]); fits(r) {
				return true
			}
		}
		sent++
		id = fmt.Sprintf("%s-%d", name, sent)
		o.publish(self(cfg).Job(id), payload)
		return false
	}, what, args...)
	return r
}
