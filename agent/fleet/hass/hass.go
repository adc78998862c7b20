// Package hass shows the devices of a fleet to Home Assistant, and has it set their modes.
//
//	devices that changed ──┐                  ┌─ homeassistant/device/limber-…/config, retained
//	what is retained ──────┼──▶ one by one ──▶┤
//	homeassistant/status ──┘   with pauses    └─ cmd/mode/{id} of a device
//	limber-ha/…/mode/set ────▶ at once ───────┘
//
// A configuration is a device-based discovery: it says which of the fleet's own topics the
// entities read, so that nothing else is published as devices work. What a device says of
// itself is data there, and never part of a template, but for names of members.
//
// The rule that makes it correct: what is retained is what follows from the device, and
// nothing is published that is retained already. The broker tells what that is on each
// connection, and when somebody changes it. So a start tells nothing anew, and a device
// that was forgotten meanwhile is cleared. Home Assistant itself is told all of it again
// when it says that it has come, for which it need not be the first time.
//
// A mode is set by a command of its own: an id is good for one, and a fixed topic would
// give the same id each time. It is of one who may write limber-ha/#, which the broker's
// access list decides.
package hass

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/limber-edge/limber/agent/fleet"
	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/wire"
)

// The topics of Home Assistant, with its default prefix.
const (
	statusTopic  = "homeassistant/status"
	configPrefix = "homeassistant/device/"
	configSuffix = "/config"
)

// setPrefix is that of the topics on which it sets modes.
const setPrefix = "limber-ha/"

// Filters are what a client must subscribe to for a Bridge, beside fleet.ListFilters.
func Filters(fleet string) []string {
	return []string{statusTopic, configPrefix + "+" + configSuffix, setPrefix + fleet + "/+/mode/set"}
}

// Link is the connection: *fleet.Client.
type Link interface {
	// Publish waits for the broker's acknowledgement. Its errors are mqtt.ErrDown, ctx's,
	// and a complaint about the message.
	Publish(ctx context.Context, m mqtt.Message) error
	// Connection waits for one behind that of a number. Its error is ctx's.
	Connection(ctx context.Context, after uint64) (uint64, error)
	// List returns once the broker has told all that it retains.
	List(ctx context.Context) ([]fleet.Device, error)
	Registry() *fleet.Registry
}

// The times of a Bridge.
const (
	pause    = 10 * time.Millisecond // behind each configuration: 10,000 take some two minutes
	disputed = 3 * time.Second       // in which what was published comes back
	orderTTL = 30 * time.Second      // a mode is good for
)

// modeMost is the length of a mode's name, in bytes.
const modeMost = 128

// Bridge serves one fleet. Connected, Lost and Receive are the link's, and wait for nobody.
type Bridge struct {
	fleet string
	link  Link
	log   *slog.Logger
	wake  chan struct{} // holds one token when there is something to do

	mu       sync.Mutex // guards what follows
	seq      uint64     // of the connection that stands; 0: none does
	listed   uint64     // of the one on which all that is retained is known
	told     map[string]telling
	due      queue
	anew     bool // Home Assistant has come: all is to be told again
	again    map[string]bool
	orders   map[string]order // by device, the newest
	sent     time.Time        // of the first configuration of this connection; zero: none
	echoed   bool             // one of this connection came back
	retained bool             // a mode that is retained was told of
}

// telling is what the broker retains on the topic of a device.
type telling struct {
	device string
	sum    [sha256.Size]byte
	at     time.Time // when it was published here; zero if it was not
}

// order is a mode to be set.
type order struct {
	mode string
	at   time.Time
}

// New assembles a bridge of a fleet.
func New(fleet string, link Link, log *slog.Logger) *Bridge {
	return &Bridge{fleet: fleet, link: link, log: log, wake: make(chan struct{}, 1), told: map[string]telling{},
		due: newQueue(), again: map[string]bool{}, orders: map[string]order{}}
}

// Connected begins a connection. What the broker retains may have begun to come.
func (b *Bridge) Connected(seq uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.seq = seq
}

// Lost ends it: the next one tells anew what the broker retains.
func (b *Bridge) Lost() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.seq, b.told, b.sent, b.echoed = 0, map[string]telling{}, time.Time{}, false
}

// Receive takes a message, and tells whether it was one for the bridge.
func (b *Bridge) Receive(m mqtt.Message) bool {
	switch {
	case m.Topic == statusTopic:
		b.status(m)
	case strings.HasPrefix(m.Topic, configPrefix):
		b.heard(m)
	case strings.HasPrefix(m.Topic, setPrefix):
		b.set(m)
	default:
		return false
	}
	return true
}

// status hears that Home Assistant has come. What was retained it said before.
func (b *Bridge) status(m mqtt.Message) {
	if string(m.Payload) != "online" || m.Retained {
		return
	}
	b.mu.Lock()
	b.anew = true
	b.mu.Unlock()
	b.signal()
}

// heard notes what the broker retains, and that it is not what was told.
func (b *Bridge) heard(m mqtt.Message) {
	if m.Oversize > 0 {
		return
	}
	sum := sha256.Sum256(m.Payload)
	b.mu.Lock()
	defer b.mu.Unlock()
	was, known := b.told[m.Topic]
	b.echoed = b.echoed || known
	if known && (was.sum == sum || time.Since(was.at) < disputed) {
		return
	}
	if !known {
		device, ok := ownerOf(b.fleet, m.Topic, m.Payload)
		if !ok || len(b.told) >= 2*fleet.MaxDevices {
			return
		}
		was.device = device
	}
	b.told[m.Topic] = telling{device: was.device, sum: sum}
	b.due.add(was.device)
	b.signal()
}

// ownerOf is the device of this fleet whose configuration somebody has published.
func ownerOf(fleet, topic string, payload []byte) (device string, ok bool) {
	if !strings.HasPrefix(topic, configPrefix+namePrefix) {
		return "", false
	}
	var doc struct {
		Availability string `json:"avty_t"`
	}
	if json.Unmarshal(payload, &doc) != nil {
		return "", false
	}
	t, err := wire.ParseTopic(doc.Availability)
	if err != nil || t.Fleet != fleet || topic != configTopic(t.Address) {
		return "", false
	}
	return t.Device, true
}

// set keeps the mode that a device is to have.
func (b *Bridge) set(m mqtt.Message) {
	device, ok := setDevice(b.fleet, m.Topic)
	if !ok || m.Oversize > 0 || len(m.Payload) > modeMost {
		return
	}
	if b.keep(device, order{string(m.Payload), time.Now()}, m.Retained) {
		b.log.Warn("a mode is retained, and not set: it would be with each connection", "topic", m.Topic)
	}
}

// keep keeps an order for work. One that is retained it does not, which first tells of once.
func (b *Bridge) keep(device string, o order, retained bool) (first bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	_, waits := b.orders[device]
	switch {
	case retained:
		first, b.retained = !b.retained, true
	case waits || len(b.orders) < fleet.MaxDevices:
		b.orders[device] = o
		b.signal()
	}
	return first
}

// setDevice is the device of this fleet whose mode is set on a topic.
func setDevice(fleet, topic string) (device string, ok bool) {
	device, ok = strings.CutPrefix(topic, setPrefix+fleet+"/")
	if !ok {
		return "", false
	}
	device, ok = strings.CutSuffix(device, "/mode/set")
	return device, ok && wire.ValidDevice(device)
}

func (b *Bridge) signal() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// Run serves until ctx ends, which is no error.
func (b *Bridge) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, part := range []func(context.Context) error{b.watch, b.settle, b.work} {
		g.Go(func() error { return part(ctx) })
	}
	return g.Wait()
}

// watch notes the devices that change.
func (b *Bridge) watch(ctx context.Context) error {
	s := b.link.Registry().Subscribe()
	defer s.Close()
	for {
		d, err := s.Next(ctx)
		if err != nil {
			return nil
		}
		b.mu.Lock()
		b.due.add(d.Name)
		b.mu.Unlock()
		b.signal()
	}
}

// settle notes on each connection when the broker has told what it retains. All devices
// are then looked at.
func (b *Bridge) settle(ctx context.Context) error {
	for known := uint64(0); ; {
		seq, err := b.link.Connection(ctx, known)
		if err != nil {
			return nil
		}
		devices, err := b.link.List(ctx)
		if err != nil {
			continue // who else lists them tells of it
		}
		b.mu.Lock()
		for _, d := range devices {
			b.due.add(d.Name)
		}
		b.listed = seq
		b.mu.Unlock()
		b.signal()
		known = seq
	}
}

// work does what there is to do, modes first.
func (b *Bridge) work(ctx context.Context) error {
	look := time.NewTicker(disputed)
	defer look.Stop()
	complained := false
	for {
		select {
		case <-b.wake:
		case <-look.C:
			if !complained && b.unheard(time.Now()) {
				complained = true
				b.log.Warn("the broker drops what is told to Home Assistant: its access list must let this user " +
					"read and write homeassistant/#")
			}
		case <-ctx.Done():
			return nil
		}
		for b.one(ctx) && ctx.Err() == nil {
		}
	}
}

// unheard tells whether nothing that was published on this connection came back.
func (b *Bridge) unheard(now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return !b.sent.IsZero() && !b.echoed && now.Sub(b.sent) >= disputed
}

// one sets a mode, or else looks at a device, and pauses if it has published. It is false
// if there is nothing to do.
func (b *Bridge) one(ctx context.Context) bool {
	b.mu.Lock()
	if b.seq == 0 || b.listed != b.seq {
		b.mu.Unlock()
		return false
	}
	for device, o := range b.orders {
		delete(b.orders, device)
		b.mu.Unlock()
		b.give(ctx, device, o)
		return true
	}
	if b.anew {
		b.anew = false
		for _, is := range b.told {
			b.again[is.device] = true
			b.due.add(is.device)
		}
	}
	seq := b.seq
	device, ok := b.due.take()
	again := b.again[device]
	delete(b.again, device)
	b.mu.Unlock()
	if ok {
		b.tell(ctx, seq, device, again)
	}
	return ok
}

// give has a device obey. A mode that it does not have is not sent: who sends something
// else than Home Assistant's choice made a mistake.
func (b *Bridge) give(ctx context.Context, device string, o order) {
	if err := b.command(ctx, device, o); err != nil {
		b.log.Warn("mode of Home Assistant not set", "device", device, "err", err)
		b.rest(ctx)
	}
}

func (b *Bridge) command(ctx context.Context, device string, o order) error {
	d := b.link.Registry().Device(device)
	expires := o.at.Add(orderTTL)
	switch {
	case d.Caps == nil || d.State == nil:
		return errors.New("nothing is known of the device")
	case !slices.Contains(modesOf(d.Caps), o.mode):
		return fmt.Errorf("mode %.80q is none of the device's", o.mode)
	case time.Now().After(expires):
		return fmt.Errorf("the link was down for more than %v", orderTTL)
	}
	payload, err := json.Marshal(wire.Command{Mode: o.mode, ExpiresAt: new(wire.At(expires))})
	if err != nil {
		return err
	}
	id := fleet.NewID()
	to := wire.Address{Fleet: b.fleet, Device: device}
	if err := b.link.Publish(ctx, mqtt.Message{Topic: to.Cmd(wire.VerbMode, id), Payload: payload, QoS: 1}); err != nil {
		return err
	}
	b.log.Info("mode set by Home Assistant", "device", device, "cmd", id, "mode", o.mode)
	return nil
}

// tell has the broker retain what follows from a device, if that is something else or is
// to be told again.
func (b *Bridge) tell(ctx context.Context, seq uint64, device string, again bool) {
	at := wire.Address{Fleet: b.fleet, Device: device}
	payload, known := document(at, b.link.Registry().Device(device))
	m := mqtt.Message{Topic: configTopic(at), Payload: payload, QoS: 1, Retained: true}
	if !known || !b.note(seq, device, m, again) {
		return
	}
	err := b.link.Publish(ctx, m)
	b.mu.Lock()
	switch {
	case errors.Is(err, mqtt.ErrDown) && b.listed == seq:
		b.listed = 0 // the next connection looks at all of them
	case payload == nil:
		delete(b.told, m.Topic)
	}
	b.mu.Unlock()
	if err != nil && !errors.Is(err, mqtt.ErrDown) && ctx.Err() == nil {
		b.log.Warn("device not told to Home Assistant", "device", device, "err", err)
	}
	b.rest(ctx)
}

// note tells whether a configuration is to be published, and notes that it is: before it
// comes back. Another connection than that of the number looks at the device itself.
func (b *Bridge) note(seq uint64, device string, m mqtt.Message, again bool) bool {
	sum := sha256.Sum256(m.Payload)
	b.mu.Lock()
	defer b.mu.Unlock()
	was, there := b.told[m.Topic]
	switch {
	case b.seq != seq:
		return false
	case m.Payload == nil && (!there || was.sum == sum):
		delete(b.told, m.Topic)
		return false
	case was.sum == sum && !again:
		return false
	}
	b.told[m.Topic] = telling{device, sum, time.Now()}
	if b.sent.IsZero() {
		b.sent = time.Now()
	}
	return true
}

// rest lets others have the broker: all devices come at once when a site has its power back.
func (b *Bridge) rest(ctx context.Context) {
	select {
	case <-time.After(pause):
	case <-ctx.Done():
	}
}

// queue has devices in the order in which they were added, each once.
type queue struct {
	names []string
	has   map[string]bool
}

func newQueue() queue { return queue{has: map[string]bool{}} }

func (q *queue) add(name string) {
	if !q.has[name] {
		q.has[name] = true
		q.names = append(q.names, name)
	}
}

func (q *queue) take() (name string, ok bool) {
	if len(q.names) == 0 {
		return "", false
	}
	name, q.names = q.names[0], q.names[1:]
	delete(q.has, name)
	return name, true
}
