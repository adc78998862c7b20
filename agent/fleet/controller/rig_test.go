package controller_test

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent/fleet"
	"github.com/limber-edge/limber/agent/fleet/controller"
	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/broker-config/brokertest"
	"github.com/limber-edge/limber/broker-config/devbroker"
	"github.com/limber-edge/limber/store"
)

const (
	yard     = "yard"
	patience = 60 * time.Second // how long a test waits for what must come
)

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

func at(device string) wire.Address { return wire.Address{Fleet: yard, Device: device} }

func link(addr string) mqtt.Config {
	cfg := mqtt.Default()
	cfg.Broker, cfg.ClientID = addr, "test-"+fleet.NewID()
	return cfg
}

// run calls f with a context that ends with the test, and waits for it.
func run(tb testing.TB, f func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- f(ctx) }()
	tb.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			tb.Error(err)
		}
	})
}

// desk is a broker in this process.
func desk(tb testing.TB) (addr string) {
	tb.Helper()
	b, err := devbroker.New(devbroker.Config{Listen: "127.0.0.1:0"}, discard())
	if err != nil {
		tb.Fatal(err)
	}
	run(tb, b.Run)
	return b.Addr()
}

// served is a controller that runs.
type served struct {
	cancel context.CancelFunc
	over   chan struct{} // closed when it has ended
	err    error         // how, from then on
}

// stop ends it, and returns how it ended.
func (s *served) stop() error {
	s.cancel()
	return s.ended()
}

// ended waits for its end.
func (s *served) ended() error {
	<-s.over
	return s.err
}

// serve runs a controller from a state folder.
func serve(tb testing.TB, addr, dir string) *served {
	tb.Helper()
	documents, err := store.OpenDocuments(dir, store.Options{NoSync: true}, discard())
	if err != nil {
		tb.Fatal(err)
	}
	return serveFrom(tb, controller.Config{Broker: link(addr), Dir: dir}, documents)
}

// serveFrom runs a controller, and closes its store when it ends.
func serveFrom(tb testing.TB, cfg controller.Config, s interface {
	controller.Store
	Close() error
}) *served {
	tb.Helper()
	cfg.Fleet = yard
	c, err := controller.New(cfg, s, discard())
	if err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	is := &served{cancel: cancel, over: make(chan struct{})}
	go func() {
		defer close(is.over)
		is.err = errors.Join(c.Run(ctx), s.Close())
	}()
	tb.Cleanup(func() {
		if err := is.stop(); err != nil && !errors.Is(err, controller.ErrTaken) {
			tb.Error(err)
		}
	})
	return is
}

// remote is an operator who has found the controller.
func remote(tb testing.TB, addr string) *controller.Remote {
	tb.Helper()
	r, err := controller.OpenRemote(link(addr), yard, discard())
	if err != nil {
		tb.Fatal(err)
	}
	run(tb, r.Run)
	until(tb, "the controller is there", func() bool { return r.Find(tb.Context()) == nil })
	return r
}

// until waits for what must come to be so.
func until(tb testing.TB, what string, is func() bool) {
	tb.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); !is(); <-tick.C {
		if time.Now().After(end) {
			tb.Fatalf("waited %v in vain: %s", patience, what)
		}
	}
}

// do gives a command that must succeed.
func do(tb testing.TB, r *controller.Remote, c wire.RolloutCommand) {
	tb.Helper()
	if _, err := r.Do(tb.Context(), c, patience, nil); err != nil {
		tb.Fatalf("%s: %v", c.Action, err)
	}
}

// become waits for a rollout to be in a state.
func become(tb testing.TB, r *controller.Remote, id string, want wire.RolloutState) (doc wire.Rollout) {
	tb.Helper()
	defer func() {
		if tb.Failed() {
			b, _ := json.Marshal(doc)
			tb.Logf("%s", b)
		}
	}()
	until(tb, id+" becomes "+string(want), func() bool {
		doc, _ = r.Rollout(id)
		return doc.State == want
	})
	return doc
}

// spec is one that looks at success alone, and at once.
func spec(change func(*wire.RolloutSpec)) *wire.RolloutSpec {
	s := &wire.RolloutSpec{Mode: "low-latency", Gates: []wire.Gate{{Name: wire.GateSuccess, Limit: "0.95"}},
		SoakMS: new(0.0), Phases: []string{"1", "100%"}}
	if change != nil {
		change(s)
	}
	return s
}

func start(id string, s *wire.RolloutSpec) wire.RolloutCommand {
	return wire.RolloutCommand{Action: wire.RolloutStart, Rollout: id, Spec: s}
}

// garden has devices that a test plays. They have a ledger each, as devices have: a
// command that comes again is answered again, and has no effect.
type garden struct {
	tb  testing.TB
	box *fleet.Mailbox

	mu      sync.Mutex
	devices map[string]*plant
	outcome func(device string, c wire.Command) wire.Ack // of a command that has an effect; State "": none yet
}

// mark is the id of a command that no device takes: who sees it has seen what was sent before.
const mark = "mark"

// plant is a device.
type plant struct {
	obeyed  map[string][]byte // commands by verb/id
	answers map[string]wire.Ack
	effects []string // ids in their order
	t       wire.Telemetry
	release wire.Release // that runs
	deaf    bool
	clashes int // ids that came with other bytes
}

// plants has devices come: d-0, d-1, ...
func plants(tb testing.TB, addr string, n int) *garden {
	tb.Helper()
	box, err := fleet.OpenMailbox(link(addr), discard(), wire.FleetFilter(yard, wire.KindCmd))
	if err != nil {
		tb.Fatal(err)
	}
	g := &garden{tb: tb, box: box, devices: map[string]*plant{}}
	run(tb, box.Run)
	run(tb, g.obey)
	run(tb, g.comeBack)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := box.Ready(ctx); err != nil {
		tb.Fatal(err)
	}
	for i := range n {
		name := fmt.Sprintf("d-%d", i)
		g.mu.Lock()
		g.devices[name] = &plant{obeyed: map[string][]byte{}, answers: map[string]wire.Ack{}, release: releaseOf("1.4.0")}
		g.mu.Unlock()
		g.born(name)
	}
	return g
}

// born publishes what a device retains.
func (g *garden) born(name string) {
	old := wire.Family{Name: "old", Digest: "sha256:" + strings.Repeat("0", 64)}
	g.mu.Lock()
	is := g.devices[name].release
	g.mu.Unlock()
	g.publish(at(name).Caps(), true, wire.Caps{Machine: "m-" + name, Groups: []string{wire.Everybody}, Family: &old,
		Arch: arch, Release: &is, Shadow: true})
	g.publish(at(name).Reported(), true, wire.Reported{Status: wire.Applied, Mode: "balanced"})
	g.publish(at(name).State(), true, wire.State{State: wire.Online, BootID: "b-" + name + is.Version, ConnSeq: 1,
		TS: wire.At(time.Now())})
}

// arch is what programs of these devices are for.
const arch = "arm64"

// releaseOf is a release by its version.
func releaseOf(version string) wire.Release {
	return wire.Release{Version: version, Digest: fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(version)))}
}

// restart has a device end for a release, and come back with it if that proves itself.
func (g *garden) restart(name string, payload []byte, ack wire.Ack) {
	g.publish(at(name).State(), true, wire.State{State: wire.Lost, TS: wire.At(time.Now())})
	var c wire.Command
	if err := wire.Decode(payload, &c); err != nil {
		g.tb.Error(err)
	}
	if ack.State == wire.CommandSucceeded {
		g.mu.Lock()
		g.devices[name].release = wire.Release{Version: c.Version, Digest: c.Digest}
		g.mu.Unlock()
	}
	g.born(name)
}

// comeBack has the devices be born again on each connection: the broker may have
// forgotten them.
func (g *garden) comeBack(ctx context.Context) error {
	for seq := uint64(1); ; {
		var err error
		if seq, err = g.box.Connection(ctx, seq); err != nil {
			return nil
		}
		for _, name := range g.names() {
			g.born(name)
		}
	}
}

func (g *garden) names() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Sorted(maps.Keys(g.devices))
}

func (g *garden) publish(topic string, retained bool, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		g.tb.Error(err)
	}
	g.box.Send(context.Background(), mqtt.Message{Topic: topic, Payload: b, QoS: 1, Retained: retained})
}

// retain does so, and waits until the broker has it.
func (g *garden) retain(topic string, v any) {
	g.tb.Helper()
	b, err := json.Marshal(v)
	if err == nil {
		err = g.box.Publish(g.tb.Context(), mqtt.Message{Topic: topic, Payload: b, QoS: 1, Retained: true})
	}
	if err != nil {
		g.tb.Fatal(err)
	}
}

// obey answers commands.
func (g *garden) obey(ctx context.Context) error {
	for {
		m, err := g.box.Next(ctx)
		if err != nil {
			return nil
		}
		t, err := wire.ParseTopic(m.Topic)
		if err != nil || t.Device == wire.Controller {
			continue
		}
		before := len(g.effects(t.Device))
		ack, ok := g.take(t, m.Payload)
		if t.Verb == wire.VerbRelease && len(g.effects(t.Device)) > before {
			g.restart(t.Device, m.Payload, ack)
		}
		if ok {
			g.publish(t.Ack(t.Verb, t.ID), false, ack)
		}
	}
}

// take takes a command as a device does.
func (g *garden) take(t wire.Topic, payload []byte) (ack wire.Ack, answered bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	d, ok := g.devices[t.Device]
	if !ok || d.deaf || t.ID == mark {
		return ack, false
	}
	key := t.Verb + "/" + t.ID
	if before, known := d.obeyed[key]; known {
		if string(before) != string(payload) {
			d.clashes++
		}
		ack, answered = d.answers[key]
		return ack, answered
	}
	var c wire.Command
	if err := wire.Decode(payload, &c); err != nil {
		g.tb.Errorf("%s: %v", t.ID, err)
	}
	d.obeyed[key], d.effects = payload, append(d.effects, key)
	ack = wire.Ack{State: wire.CommandSucceeded}
	if g.outcome != nil {
		ack = g.outcome(t.Device, c)
	}
	if ack.State == "" {
		return ack, false
	}
	ack.ID, ack.Verb, ack.TS = t.ID, t.Verb, wire.At(time.Now())
	d.answers[key] = ack
	return ack, true
}

// goOn has a device answer the last command that it was given, and still is at.
func (g *garden) goOn(name string, ack wire.Ack) {
	g.mu.Lock()
	d := g.devices[name]
	key := d.effects[len(d.effects)-1]
	was := d.answers[key]
	ack.ID, ack.Verb, ack.TS = was.ID, was.Verb, wire.At(time.Now())
	d.answers[key] = ack
	g.mu.Unlock()
	if !was.State.Final() {
		g.publish(at(name).Ack(ack.Verb, ack.ID), false, ack)
	}
}

// effects are those that commands had on a device.
func (g *garden) effects(name string) []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.devices[name] == nil {
		return nil
	}
	return slices.Clone(g.devices[name].effects)
}

// deafen has commands not reach a device.
func (g *garden) deafen(name string, deaf bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.devices[name].deaf = deaf
}

// once tells of a device that was commanded twice in effect.
func (g *garden) once() {
	g.tb.Helper()
	for _, name := range g.names() {
		if e := g.effects(name); len(e) > 1 {
			g.tb.Errorf("%s obeyed %v; want one command", name, e)
		}
	}
	g.unchanged()
}

// unchanged tells of a command that came again and was another.
func (g *garden) unchanged() {
	g.tb.Helper()
	for _, name := range g.names() {
		if n := g.devices[name].clashes; n > 0 {
			g.tb.Errorf("%s: %d ids came again with other bytes", name, n)
		}
	}
}

// traffic has a device say that it answered so many frames more, of which some late.
func (g *garden) traffic(name string, frames, missed uint64) {
	g.mu.Lock()
	d := g.devices[name]
	d.t.TS, d.t.Jobs, d.t.Missed = wire.At(time.Now()), d.t.Jobs+frames, d.t.Missed+missed
	d.t.P95MS = new(10.0)
	t := d.t
	g.mu.Unlock()
	g.publish(at(name).Telemetry(), false, t)
}

func mosquitto(tb testing.TB) *brokertest.Mosquitto { return brokertest.StartMosquitto(tb) }

// cable is a network that can be cut for good, as by the end of a process.
type cable struct {
	mu    sync.Mutex
	cut   bool
	conns []net.Conn
}

func (c *cable) dial(ctx context.Context, network, address string) (net.Conn, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cut {
		return nil, errors.New("the process is dead")
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, network, address)
	if err == nil {
		c.conns = append(c.conns, conn)
	}
	return conn, err
}

func (c *cable) kill() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cut = true
	for _, conn := range c.conns {
		conn.Close()
	}
}

// talker gives commands by their topics alone.
type talker struct {
	tb  testing.TB
	box *fleet.Mailbox
}

func asker(tb testing.TB, addr string) talker {
	tb.Helper()
	return listen(tb, addr, at(wire.Controller).Filter(wire.KindAck))
}

// listen hears what a filter lets through.
func listen(tb testing.TB, addr, filter string) talker {
	tb.Helper()
	box, err := fleet.OpenMailbox(link(addr), discard(), filter)
	if err != nil {
		tb.Fatal(err)
	}
	run(tb, box.Run)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := box.Ready(ctx); err != nil {
		tb.Fatal(err)
	}
	return talker{tb, box}
}

// ask gives a command under an id, and returns its final answer.
func (a talker) ask(id string, c wire.RolloutCommand) (ack wire.Ack) {
	a.tb.Helper()
	b, err := json.Marshal(c)
	if err != nil {
		a.tb.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	err = a.box.Publish(ctx, mqtt.Message{Topic: at(wire.Controller).Cmd(wire.VerbRollout, id), Payload: b, QoS: 1})
	for err == nil && !(ack.ID == id && ack.State.Final()) {
		var m mqtt.Message
		if m, err = a.box.Next(ctx); err == nil {
			ack = wire.Ack{}
			err = wire.Decode(m.Payload, &ack)
		}
	}
	if err != nil {
		a.tb.Fatal(err)
	}
	return ack
}

func (a talker) publish(topic string, v any) {
	a.tb.Helper()
	b, err := json.Marshal(v)
	if err == nil {
		err = a.box.Publish(a.tb.Context(), mqtt.Message{Topic: topic, Payload: b, QoS: 1})
	}
	if err != nil {
		a.tb.Fatal(err)
	}
}

// next is the next message.
func (a talker) next() mqtt.Message {
	a.tb.Helper()
	ctx, cancel := context.WithTimeout(a.tb.Context(), patience)
	defer cancel()
	m, err := a.box.Next(ctx)
	if err != nil {
		a.tb.Fatal(err)
	}
	return m
}
