package control

import (
	"context"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/uplink"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/store"
)

// device is a Control behind an uplink without a link.
type device struct{ *rig }

func (device) Job(*uplink.Request)         {}
func (device) Blob(wire.Topic, []byte)     {}
func (device) Detail(wire.Presence) string { return "" }
func (device) Caps() wire.Caps             { return wire.Caps{} }
func (d device) Reported() wire.Reported   { return d.Status().Reported }
func (d device) Version() uint64           { return d.Status().Newest }

// mustUplink runs an uplink whose link does not come up while the test runs, and returns what is in its
// outbox by topic.
func mustUplink(t *testing.T, r *rig) (u *uplink.Uplink, outbox func(topic string) []string) {
	t.Helper()
	box, err := store.OpenOutbox(r.dir, store.OutboxOptions{NoSync: true}, discard())
	if err != nil {
		t.Fatal(err)
	}
	link := mqtt.Default()
	link.ClientID, link.Subscriptions = "desk", []mqtt.Subscription{{Filter: "limber/#", QoS: 1}}
	link.Dial = func(ctx context.Context, _, _ string) (net.Conn, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	u, err = uplink.New(uplink.Config{Self: self, Boot: "0123456789abcdef", Link: link}, r.state, box, discard())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var parts sync.WaitGroup
	parts.Go(func() { box.Run(ctx) })
	u.Serve(device{r}, device{r})
	parts.Go(func() { u.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		parts.Wait()
		box.Close()
	})
	synctest.Wait()
	return u, func(topic string) (payloads []string) {
		synctest.Wait()
		all, _ := box.Collect(store.Control, 0, 100)
		for _, record := range all {
			if record.Topic == topic {
				payloads = append(payloads, string(record.Payload))
			}
		}
		return payloads
	}
}

func TestACommandIsDoneOnceHoweverOftenItIsDelivered(t *testing.T) {
	bubble(t, func(t *testing.T, dir string) {
		r := mustRig(t, dir, withTarget(func(f *target) { f.preparing = make(chan struct{}) }))
		u, outbox := mustUplink(t, r)
		var acked atomic.Int64
		deliver := func(payload string) {
			u.Receive(mqtt.Message{Topic: self.Cmd("goal", "g"), Payload: []byte(payload), QoS: 1},
				func() { acked.Add(1) })
			synctest.Wait()
		}
		const goal = `{"goal":{"min_top1":0.8},"ttl_ms":60000}`
		deliver(goal)
		deliver(goal) // while it waits
		close(r.target.preparing)
		<-time.After(time.Second) // until it is on the disk
		deliver(goal)             // when it was answered
		deliver(`{"goal":{"min_top1":0.7},"ttl_ms":60000}`)
		<-time.After(time.Second)
		acks := outbox(self.Ack("goal", "g"))
		if len(acks) != 5 || !strings.Contains(acks[3], `"succeeded"`) ||
			!strings.Contains(acks[4], `"conflict"`) {
			t.Errorf("got %q; want four states, which still wait, and a conflict", acks)
		}
		if n := acked.Load(); n != 4 {
			t.Errorf("acknowledged %d of 4 deliveries", n)
		}
		r.pursues("goal")
	})
}

func TestADesiredStateIsAcknowledgedWhenItIsApplied(t *testing.T) {
	bubble(t, func(t *testing.T, dir string) {
		r := mustRig(t, dir)
		u, _ := mustUplink(t, r)
		var acked atomic.Int64
		group := wire.Address{Fleet: self.Fleet, Device: "@all"}
		u.Receive(mqtt.Message{Topic: group.Desired(), Payload: []byte(`{"version":1,"mode":"power-save"}`), QoS: 1},
			func() { acked.Add(1) })
		synctest.Wait()
		if n := acked.Load(); n != 1 {
			t.Errorf("acknowledged %d times", n)
		}
		r.pursues("power-save")
		r.reports(wire.Reported{Version: 1, Status: wire.Applied})
	})
}
