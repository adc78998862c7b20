package dash

import (
	"context"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/limber-edge/limber/agent/fleet"
	"github.com/limber-edge/limber/agent/wire"
)

// The bounds of the history: of a device some 14 KiB, and at most 40 KiB, so 400 MiB for
// fleet.MaxDevices.
const (
	pointsMost   = 240 // of a device: 20 minutes of telemetry every 5 s
	commandsMost = 8   // of a device, the last
	ordersMost   = 64  // commands to groups whose words are remembered, the last
	detailMost   = 400 // bytes of a command's detail
	wordMost     = 64  // bytes of a member's name, or of what is one word of the protocol
)

// history is what the devices said before, as far as a screen shows it. Any goroutine may
// read it.
type history struct {
	mu     sync.Mutex
	tracks map[string]*track
	orders []command // to groups, the last
}

// track is the history of a device.
type track struct {
	last     *wire.Telemetry
	points   []point    // a ring, once there are pointsMost
	count    uint64     // of all points that there were
	commands []*command // oldest first; one that changes is replaced
}

// point is a moment of a device; NaN is unknown.
type point struct {
	at                                                  int64 // Unix time, in milliseconds
	p50, p95, others, heat, queue, outbox, late, perSec float32
	member                                              string // "": unknown
}

func newHistory() *history { return &history{tracks: map[string]*track{}} }

// keep takes in what changes in the fleet, until ctx ends.
func (h *history) keep(ctx context.Context, r *fleet.Registry) {
	changes := r.Subscribe()
	defer changes.Close()
	for {
		d, err := changes.Next(ctx)
		if err != nil {
			return
		}
		h.take(d)
	}
}

// take takes in a device as it is now.
func (h *history) take(d fleet.Device) {
	h.mu.Lock()
	defer h.mu.Unlock()
	of := h.tracks[d.Name]
	switch {
	case !d.There():
		delete(h.tracks, d.Name)
		return
	case of == nil && len(h.tracks) >= fleet.MaxDevices:
		return
	case of == nil:
		of = &track{}
		h.tracks[d.Name] = of
	}
	if t := d.Telemetry; t != nil && t != of.last {
		of.last = t
		of.add(pointOf(d))
	}
}

// pointOf is what the device's last telemetry says.
func pointOf(d fleet.Device) point {
	t := d.Telemetry
	p := point{at: t.TS.UnixMilli(), p50: known(t.P50MS), p95: known(t.P95MS), others: known(t.OthersPercent),
		heat: known(fleet.Hottest(t)), queue: float32(t.Queue), outbox: float32(t.Outbox), late: known(nil),
		perSec: known(nil), member: short(t.Member, wordMost)}
	if d.Pace.Known {
		p.late, p.perSec = float32(d.Pace.Late), float32(d.Pace.PerSecond)
	}
	return p
}

func known(v *float64) float32 {
	if v == nil {
		return float32(math.NaN())
	}
	return float32(*v)
}

// add keeps a point. One with the member of the point before shares its name.
func (k *track) add(p point) {
	if k.count > 0 {
		if last := k.points[(k.count-1)%pointsMost].member; last == p.member {
			p.member = last
		}
	}
	if len(k.points) < pointsMost {
		k.points = append(k.points, p)
	} else {
		k.points[k.count%pointsMost] = p
	}
	k.count++
}

// since are the points of a device behind the first after of them, as far as they are
// kept, and how many there were in all. A device that was forgotten begins anew.
func (h *history) since(name string, after uint64) (s *series, count uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	of := h.tracks[name]
	if of == nil || of.count == after {
		return nil, after
	}
	if after > of.count {
		after = 0
	}
	first := max(after, of.count-uint64(len(of.points)))
	s = &series{T: []int64{}}
	for n := first; n < of.count; n++ {
		s.add(of.points[n%pointsMost])
	}
	return s, of.count
}

func (s *series) add(p point) {
	s.T = append(s.T, p.at)
	s.P50MS, s.P95MS, s.Others = append(s.P50MS, p.p50), append(s.P95MS, p.p95), append(s.Others, p.others)
	s.TempC, s.Queue, s.Outbox = append(s.TempC, p.heat), append(s.Queue, p.queue), append(s.Outbox, p.outbox)
	s.Late, s.JobsS = append(s.Late, p.late), append(s.JobsS, p.perSec)
	s.Members = append(s.Members, p.member)
}

// commands are the last that a device was given, oldest first.
func (h *history) commands(name string) []*command {
	h.mu.Lock()
	defer h.mu.Unlock()
	all := []*command{}
	if of := h.tracks[name]; of != nil {
		all = append(all, of.commands...)
	}
	return all
}

// hear listens to commands and to what devices answer. It is called by the link's reader,
// and waits for nobody but a reader that copies.
func (h *history) hear(t wire.Topic, payload []byte, now time.Time) {
	switch t.Kind {
	case wire.KindCmd:
		var c wire.Command
		if wire.Decode(payload, &c) == nil && t.Device != wire.Controller {
			h.given(t, command{ID: t.ID, Verb: t.Verb, Asked: asked(c), TS: wire.At(now)})
		}
	case wire.KindAck:
		var a wire.Ack
		if wire.Decode(payload, &a) == nil {
			told := fleet.Told{Device: t.Device, Ack: a}
			h.answered(t.Device, command{ID: t.ID, Verb: t.Verb, State: wire.Step(short(string(a.State), wordMost)),
				Reason: wire.Reason(short(string(a.Reason), wordMost)), TS: a.TS, Detail: short(told.Words(), detailMost)})
		}
	}
}

// asked is what a command asks for, in words.
func asked(c wire.Command) string {
	text := c.Aim().String()
	switch c.Verb() {
	case wire.VerbPower:
		text = c.PowerMode
	case wire.VerbFamily:
		text = c.Family.Name
	case wire.VerbRelease:
		text = c.Version
	case wire.VerbCancel:
		text = c.Cancel
	}
	return short(fleet.Printable(text), detailMost)
}

// short is a text without what is over so many bytes.
func short(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "..."
}

// given keeps a command to a device, or the words of one to a group.
func (h *history) given(t wire.Topic, c command) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if t.IsGroup() {
		h.orders = append(h.orders, c)
		h.orders = h.orders[max(0, len(h.orders)-ordersMost):]
		return
	}
	if of := h.tracks[t.Device]; of != nil && of.command(c.ID) < 0 {
		of.put(&c)
	}
}

// answered keeps what a device answered to a command.
func (h *history) answered(device string, c command) {
	h.mu.Lock()
	defer h.mu.Unlock()
	of := h.tracks[device]
	if of == nil {
		return
	}
	if at := of.command(c.ID); at >= 0 {
		c.Asked = of.commands[at].Asked
		of.commands[at] = &c
		return
	}
	if at := slices.IndexFunc(h.orders, func(o command) bool { return o.ID == c.ID }); at >= 0 {
		c.Asked = h.orders[at].Asked
	}
	of.put(&c)
}

// command is the place of the command with an id; -1 for none.
func (k *track) command(id string) int {
	return slices.IndexFunc(k.commands, func(c *command) bool { return c.ID == id })
}

func (k *track) put(c *command) {
	k.commands = append(k.commands, c)
	k.commands = slices.Clone(k.commands[max(0, len(k.commands)-commandsMost):])
}
