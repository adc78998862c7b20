package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/limber-edge/limber/agent/bench/camera"
	"github.com/limber-edge/limber/agent/bench/desk"
	"github.com/limber-edge/limber/agent/bench/figure"
	"github.com/limber-edge/limber/agent/blob"
	"github.com/limber-edge/limber/agent/fleet"
	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/family/stock"
)

// How a shadow is measured.
const (
	ShadowRounds  = 7
	ShadowPercent = 10
	shadowRate    = 30  // frames a second of a camera
	shadowLoad    = 0.5 // of what the agent can do
)

// Shadow measures what jobs take while another family is compared with the one in use; a
// load is offered for a slot with it and for a slot without in each round.
func Shadow(ctx context.Context, b Bench, slot time.Duration) error {
	s := shadowBench{Bench: b, rounds: ShadowRounds, slot: slot, size: camera.VGA()}
	return s.run(ctx)
}

// shadowBench compares the stock family with itself, under another name.
type shadowBench struct {
	Bench
	rounds int
	slot   time.Duration
	size   camera.Size

	client *desk.Client
	jobs   [][]byte
	next   *family.Family // which the device does not have
	shadow shadowing
}

func (b *shadowBench) run(ctx context.Context) error {
	pngs, _, err := camera.Images(frameKinds)
	if err != nil {
		return err
	}
	frames, err := camera.Frames(pngs, b.size)
	if err != nil {
		return err
	}
	if b.jobs, err = camera.Jobs(frames, wire.Header{DeadlineMS: new(wire.Millis(patience))}); err != nil {
		return err
	}
	carried, err := stock.Family()
	if err != nil {
		return err
	}
	next := carried.Family
	b.next, next.Name = &next, next.Name+"-shadow"
	largest := ""
	fixed := func(members []wire.Member) string {
		largest = members[len(members)-1].Name
		return "fixed:" + largest
	}
	return b.atSite(ctx, 1, fixed, func(ctx context.Context, s *site, c *desk.Client) error {
		b.client = c
		if err := c.Settle(ctx, b.jobs[0], largest); err != nil {
			return err
		}
		b.Note("member %s of both families, %d %% of the frames compared, JPEGs of %dx%d; %s, TCP_NODELAY everywhere; the "+
			"same agent on both sides", largest, ShadowPercent, b.size.Width, b.size.Side, s.broker)
		return b.beside(ctx, s, b.measure)
	})
}

// beside is work while a controller serves the family that the device does not have.
func (b *shadowBench) beside(ctx context.Context, s *site, work func(context.Context) error) error {
	filters := []string{wire.FleetFilter(s.self.Fleet, wire.KindFetch)}
	return desk.Connect(ctx, s.url, b.Stderr, filters, func(ctx context.Context, controller *fleet.Mailbox) error {
		blobs := family.MemoryBlobs{}
		blobs.Add(b.next.Compact())
		server := blob.NewServer(blob.ServerConfig{Blobs: blobs, May: func(_ string, d family.Digest) bool {
			return d == b.next.Digest()
		}}, controller, slog.New(slog.DiscardHandler))
		ctx, stop := context.WithCancel(ctx)
		g, gctx := errgroup.WithContext(ctx)
		g.Go(func() error { return server.Run(gctx) })
		g.Go(func() error { return receiveAll(gctx, controller, server.Receive) })
		g.Go(func() error {
			defer stop()
			acks := []string{s.self.Filter(wire.KindAck)}
			return desk.Connect(gctx, s.url, b.Stderr, acks, func(ctx context.Context, operator *fleet.Mailbox) error {
				b.shadow = shadowing{mailbox: operator, self: s.self, next: b.next}
				return work(ctx)
			})
		})
		return g.Wait()
	})
}

// receiveAll hands on messages until ctx ends.
func receiveAll(ctx context.Context, from *fleet.Mailbox, to func(wire.Topic, []byte)) error {
	for {
		m, err := from.Next(ctx)
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		if t, err := wire.ParseTopic(m.Topic); err == nil {
			to(t, m.Payload)
		}
	}
}

// measure offers each load with the shadow and without, in turns.
func (b *shadowBench) measure(ctx context.Context) error {
	answers := 0
	count := func(*wire.Result, time.Duration) { answers++ }
	if err := b.client.KeepUnderWay(ctx, b.jobs, Window, b.slot, count); err != nil {
		return err
	}
	half := shadowLoad * float64(answers) / b.slot.Seconds()
	for _, load := range []struct {
		name string
		rate float64
	}{{fmt.Sprintf("p95 at %d frames a second", shadowRate), shadowRate}, {"p95 at half the capacity", half}} {
		var all ledger
		compared, round := 0, 0
		ours, base, err := inRounds(b.rounds, b.telling(load.name, b.rounds), func() (with, without float64, err error) {
			round++
			return b.round(ctx, load.rate, round%2 == 0, &all, &compared)
		})
		if err != nil {
			return err
		}
		if err := b.Print(figure.New("shadow", load.name, "ms", ours, base, 1.10, 1.03)); err != nil {
			return err
		}
		b.Note("  %.1f frames a second; %d compared; %v", load.rate, compared, &all)
		if err := all.check(); err != nil {
			return err
		}
	}
	return nil
}

// round is a slot with the shadow and one without, which of them is the first by turns.
func (b *shadowBench) round(ctx context.Context, rate float64, withFirst bool, all *ledger, compared *int) (
	with, without float64, err error) {
	for _, shadow := range []bool{withFirst, !withFirst} {
		if shadow {
			if err := b.shadow.begin(ctx, func() error { return b.ask(ctx) }); err != nil {
				return 0, 0, err
			}
		}
		p95, err := b.offer(ctx, rate, all)
		if err != nil {
			return 0, 0, err
		}
		if !shadow {
			without = p95
			continue
		}
		with = p95
		frames, err := b.shadow.end(ctx)
		if err != nil {
			return 0, 0, err
		}
		*compared += frames
	}
	return with, without, nil
}

// ask has as many frames answered as one is compared of.
func (b *shadowBench) ask(ctx context.Context) error {
	_, err := repeat(ctx, 200/ShadowPercent, func() (float64, error) {
		_, took, err := b.client.Ask(ctx, b.jobs[0])
		return wire.Millis(took), err
	})
	return err
}

// lull is how long the device is left alone between: a family is prepared at once while no
// jobs come, and slowly while they do.
const lull = 400 * time.Millisecond

// offer returns the 95th percentile from when a frame is due to its result, in milliseconds.
func (b *shadowBench) offer(ctx context.Context, rate float64, all *ledger) (float64, error) {
	cameras := []sender{{mailbox: b.client.Mailbox, jobs: b.jobs, beats: beats(0, 1, rate, 0, b.slot)}}
	a, err := drive(ctx, b.client, cameras, patience)
	if err != nil {
		return 0, err
	}
	all.join(a)
	ms, ok := a.p95(0, b.slot)
	if !ok || math.IsInf(ms, 1) {
		return 0, errors.New("the agent refused or lost frames; this machine is too slow or too busy for them")
	}
	return ms, nil
}

// shadowing has a device compare a family, on and off.
type shadowing struct {
	mailbox *fleet.Mailbox // of acknowledgements
	self    wire.Address
	next    *family.Family
	id      string // of the command under way
}

// begin returns once a frame was compared; till then ask is called now and then.
func (s *shadowing) begin(ctx context.Context, ask func() error) error {
	err := s.send(ctx)
	for end := time.Now().Add(desk.StartTime); err == nil; err = ask() {
		ack, came, e := s.ack(ctx, lull)
		switch {
		case e != nil:
			return e
		case came && ack.Shadow != nil && ack.Shadow.Frames > 0 && !ack.State.Final():
			return nil
		case time.Now().After(end):
			return fmt.Errorf("no frame was compared within %v", desk.StartTime)
		case came && ack.Reason == wire.Locked: // the one before has just ended
			if e := s.send(ctx); e != nil {
				return e
			}
		case came && ack.State.Final():
			return fmt.Errorf("the family is not compared: %s %s %s", ack.State, ack.Reason, ack.Detail)
		}
	}
	return err
}

// send sends the command.
func (s *shadowing) send(ctx context.Context) error {
	s.id = fleet.NewID()
	return s.order(ctx, wire.VerbFamily, s.id, wire.Command{TTLMS: new(3_600_000.0), Update: wire.Update{
		Family: &wire.Family{Name: s.next.Name, Digest: "sha256:" + string(s.next.Digest())},
		Shadow: &wire.Shadow{Percent: new(float64(ShadowPercent)), Frames: new(wire.MaxShadowFrames), Only: true}}})
}

// end ends it, and returns how many frames were compared.
func (s *shadowing) end(ctx context.Context) (frames int, err error) {
	err = s.order(ctx, wire.VerbCancel, fleet.NewID(), wire.Command{TTLMS: new(10_000.0), Cancel: s.id})
	for err == nil {
		ack, came, e := s.ack(ctx, desk.Silence)
		switch {
		case e != nil || !came:
			return 0, errors.Join(errors.New("the comparison does not end"), e)
		case ack.State == wire.CommandCancelled && ack.Shadow != nil:
			return ack.Shadow.Frames, nil
		case ack.State.Final():
			return 0, fmt.Errorf("the comparison ended: %s %s %s", ack.State, ack.Reason, ack.Detail)
		}
	}
	return 0, err
}

func (s *shadowing) order(ctx context.Context, verb, id string, c wire.Command) error {
	b, err := json.Marshal(c)
	if err != nil {
		return err
	}
	return s.mailbox.Publish(ctx, mqtt.Message{Topic: s.self.Cmd(verb, id), Payload: b, QoS: 1})
}

// ack is the next acknowledgement of the command under way, if one comes within a time.
func (s *shadowing) ack(ctx context.Context, within time.Duration) (a wire.Ack, came bool, err error) {
	wait, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	for {
		m, err := s.mailbox.Next(wait)
		switch {
		case err != nil && wait.Err() != nil:
			return a, false, ctx.Err()
		case err != nil:
			return a, false, err
		}
		t, err := wire.ParseTopic(m.Topic)
		if err == nil && t.Kind == wire.KindAck && t.ID == s.id {
			return a, true, wire.Decode(m.Payload, &a)
		}
	}
}
