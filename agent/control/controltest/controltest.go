// Package controltest has a device obey commands without a link, for tests of what carries
// them out, and stops a process that carries one out at each of its writes.
package controltest

import (
	"context"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/limber-edge/limber/agent/control"
	"github.com/limber-edge/limber/agent/governor"
	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/uplink"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/store"
)

// Device obeys commands. Its methods that look wait for the bubble that it is in.
type Device struct {
	tb     testing.TB
	self   wire.Address
	box    *store.Outbox
	uplink *uplink.Uplink
	Cease  func() // ends it, but closes nothing
}

// Start has a device obey a verb, and the command that an earlier run left, if that has an id.
func Start(tb testing.TB, st *store.Store, box *store.Outbox, verb control.Verb, id string, payload []byte) *Device {
	tb.Helper()
	d := &Device{tb: tb, self: wire.Address{Fleet: "demo", Device: "desk"}, box: box}
	link := mqtt.Default()
	link.ClientID, link.Subscriptions = d.self.Device, []mqtt.Subscription{{Filter: "limber/#", QoS: 1}}
	link.Dial = func(ctx context.Context, _, _ string) (net.Conn, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	cfg := uplink.Config{Self: d.self, Boot: "0123456789abcdef", Link: link}
	if id != "" {
		cfg.Resumed = []mqtt.Message{{Topic: d.self.Cmd(verb.Name, id), Payload: payload, QoS: 1}}
	}
	log := slog.New(slog.DiscardHandler)
	var err error
	if d.uplink, err = uplink.New(cfg, st, box, log); err != nil {
		tb.Fatal(err)
	}
	c := control.New(control.Config{Self: d.self, Mode: "balanced"}, control.Deps{State: st, Events: d.uplink,
		Offset: d.uplink.Offset, Changed: func() {}}, []control.Verb{verb}, log)
	c.Start()
	ctx, cancel := context.WithCancel(context.Background())
	var parts sync.WaitGroup
	parts.Go(func() { box.Run(ctx) })
	d.uplink.Serve(handler{c}, handler{c})
	parts.Go(func() { d.uplink.Run(ctx) })
	parts.Go(func() { c.Run(ctx, target{}) })
	d.Cease = func() {
		cancel()
		parts.Wait()
	}
	return d
}

// Receive hands a command on.
func (d *Device) Receive(verb, id, payload string) {
	d.uplink.Receive(mqtt.Message{Topic: d.self.Cmd(verb, id), Payload: []byte(payload), QoS: 1}, func() {})
}

// Acks are those of a command, in their order.
func (d *Device) Acks(verb, id string) (acks []wire.Ack) {
	d.tb.Helper()
	synctest.Wait()
	all, _ := d.box.Collect(store.Control, 0, 1000)
	for _, record := range all {
		var a wire.Ack
		if record.Topic != d.self.Ack(verb, id) {
			continue
		}
		if err := wire.Decode(record.Payload, &a); err != nil {
			d.tb.Fatal(err)
		}
		acks = append(acks, a)
	}
	return acks
}

// Acked fails unless the last state of a command is this one, which it returns.
func (d *Device) Acked(verb, id string, step wire.Step, reason wire.Reason, detail string) wire.Ack {
	d.tb.Helper()
	acks := d.Acks(verb, id)
	if len(acks) == 0 {
		d.tb.Fatalf("command %s: no state", id)
	}
	a := acks[len(acks)-1]
	if a.State != step || a.Reason != reason || !strings.Contains(a.Detail, detail) ||
		strings.Contains(a.Detail, context.DeadlineExceeded.Error()) { // nobody reads that
		d.tb.Errorf("command %s: got %s %s %q, want %s %s with %q", id, a.State, a.Reason, a.Detail, step, reason, detail)
	}
	return a
}

// target pursues every mode.
type target struct{}

func (target) SetMode(context.Context, governor.Mode) error { return nil }
func (target) Feasible(context.Context, governor.Mode) (governor.Goal, error) {
	return governor.Goal{}, nil
}

// handler is a device that gets no jobs.
type handler struct{ *control.Control }

func (handler) Job(r *uplink.Request)       { r.Drop() }
func (handler) Blob(wire.Topic, []byte)     {}
func (handler) Detail(wire.Presence) string { return "" }
func (handler) Caps() wire.Caps             { return wire.Caps{} }
func (handler) Reported() wire.Reported     { return wire.Reported{} }
func (handler) Version() uint64             { return 0 }
