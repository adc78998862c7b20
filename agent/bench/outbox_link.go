package bench

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/limber-edge/limber/agent/bench/desk"
	"github.com/limber-edge/limber/agent/bench/figure"
	"github.com/limber-edge/limber/agent/fleet"
	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/store"
)

// link measures the outbox between a device and a broker.
func (b *outboxBench) link(ctx context.Context) (err error) {
	b.Progress.Say("starting a broker")
	addr, err := freeAddress()
	if err != nil {
		return err
	}
	s := &site{dir: b.Dir, url: "mqtt://" + addr, self: desk.Self(), stderr: b.Stderr}
	if err := s.startBroker(ctx, addr); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close(ctx)) }()
	if err := b.drain(ctx, s); err != nil {
		return err
	}
	return b.window(ctx, s)
}

// under is how many messages are published and not acknowledged, as by the device.
const under = 32

// drain measures how fast a backlog is published out of an outbox, against publishing
// the same from memory.
func (b *outboxBench) drain(ctx context.Context, s *site) error {
	var ours, base figure.Sample
	err := desk.Connect(ctx, s.url, b.Stderr, nil, func(ctx context.Context, m *fleet.Mailbox) error {
		for round := range b.rounds {
			b.Progress.Tell("drain", round, b.rounds)
			mine, err := b.drainOutbox(ctx, m, round)
			if err != nil {
				return err
			}
			start := time.Now()
			if err := published(ctx, m, newGroup(b.backlog)); err != nil {
				return err
			}
			ours, base = append(ours, mine), append(base, float64(b.backlog)/time.Since(start).Seconds())
		}
		return nil
	})
	b.Progress.End()
	if err != nil {
		return err
	}
	return b.Print(figure.New("outbox", "drain", "1/s", ours, base, 0.6, 0.9).Rising())
}

// published publishes records and waits for the acknowledgements, in their order.
func published(ctx context.Context, m *fleet.Mailbox, records [][]byte) error {
	var open []<-chan error
	for i := 0; i < len(records) || len(open) > 0; {
		if i < len(records) && len(open) < under {
			open = append(open, m.Send(ctx, mqtt.Message{Topic: benchTopic, Payload: records[i], QoS: 1}))
			i++
			continue
		}
		if err := <-open[0]; err != nil {
			return err
		}
		open = open[1:]
	}
	return nil
}

// drainOutbox fills an outbox of its own and returns how many records a second it is
// drained of.
func (b *outboxBench) drainOutbox(ctx context.Context, m *fleet.Mailbox, round int) (perSecond float64, err error) {
	dir, err := b.folder(fmt.Sprint("drain", round))
	if err != nil {
		return 0, err
	}
	box, err := openOutbox(dir, store.OutboxOptions{})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, box.close()) }()
	for n := 0; n < b.backlog; n += groupOf {
		if err := box.keep(newGroup(min(groupOf, b.backlog-n))); err != nil {
			return 0, err
		}
	}
	start := time.Now()
	d := drainer{box: box.Outbox, send: m.Send, records: b.backlog}
	err = d.run(ctx)
	return float64(b.backlog) / time.Since(start).Seconds(), err
}

// A drainer publishes what an outbox holds, as the device does.
type drainer struct {
	box       *store.Outbox
	send      func(context.Context, mqtt.Message) <-chan error
	records   int              // to publish; 0: those that come until ctx ends
	delivered func(seq uint64) // nil: nobody wants to know
}

// sending is a record whose acknowledgement did not come yet.
type sending struct {
	seq     uint64
	outcome <-chan error
}

func (d *drainer) run(ctx context.Context) error {
	window := make(chan sending, under)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		defer close(window)
		return d.publish(ctx, window)
	})
	g.Go(func() error {
		for s := range window {
			if err := <-s.outcome; err != nil {
				return err
			}
			d.box.Delivered(s.seq)
			if d.delivered != nil {
				d.delivered(s.seq)
			}
		}
		return nil
	})
	return g.Wait()
}

func (d *drainer) publish(ctx context.Context, window chan<- sending) error {
	for after, n := uint64(0), 0; d.records == 0 || n < d.records; {
		records, more := d.box.Collect(store.Live, after, under)
		n += len(records)
		for _, r := range records {
			select {
			case window <- sending{r.Seq, d.send(ctx, mqtt.Message{Topic: r.Topic, Payload: r.Payload, QoS: 1})}:
			case <-ctx.Done():
				return ctx.Err()
			}
			after = r.Seq
		}
		if len(records) > 0 {
			continue
		}
		select {
		case <-more:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// window measures how long a job takes from its publication to its result, a thousand
// of them a second, where the broker's acknowledgement of a job waits until its answer
// is on the disk, against where it waits until the answer was delivered. The device
// answers at once: inference would hide the difference.
func (b *outboxBench) window(ctx context.Context, s *site) error {
	var ours, base figure.Sample
	for round := range b.rounds {
		b.Progress.Tell("window", round, b.rounds)
		var took [2]figure.Sample
		for turn := range turns {
			for i := range took {
				dir, err := b.folder(fmt.Sprint("window", round, turn, i))
				if err != nil {
					return err
				}
				more, err := b.request(ctx, s, dir, i == 1)
				if err != nil {
					return err
				}
				took[i] = append(took[i], more...)
			}
		}
		ours, base = append(ours, took[0].Percentile(95)), append(base, took[1].Percentile(95))
	}
	b.Progress.End()
	return b.Print(figure.New("outbox", "window", "ms", ours, base, 1.05, 1))
}

// request returns how long the requests of one spell took, in milliseconds.
func (b *outboxBench) request(ctx context.Context, s *site, dir string, early bool) (took figure.Sample, err error) {
	box, err := openOutbox(dir, store.OutboxOptions{})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, box.close()) }()
	r := &responder{box: box.Outbox, self: s.self, early: early, up: make(chan struct{}),
		acks: map[uint64]func(){}}
	cfg := mqtt.Default()
	cfg.Broker, cfg.ClientID, cfg.CleanSession = s.url, "limber-"+fleet.NewID()[:12], true
	cfg.Subscriptions = []mqtt.Subscription{{Filter: s.self.Filter(wire.KindJob), QoS: 1}}
	if r.link, err = mqtt.New(cfg, r, slog.New(slog.DiscardHandler)); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	var g errgroup.Group
	g.Go(func() error { return r.link.Run(ctx) })
	g.Go(func() error {
		d := drainer{box: r.box, send: r.link.Send, delivered: r.delivered}
		d.run(ctx) // ends with ctx, whatever was under way
		return nil
	})
	took, err = b.requests(ctx, s, r)
	cancel()
	return took, errors.Join(err, g.Wait())
}

// requests sends jobs for a spell and returns how long their results took.
func (b *outboxBench) requests(ctx context.Context, s *site, r *responder) (took figure.Sample, err error) {
	select {
	case <-r.up:
	case <-time.After(desk.Silence):
		return nil, errors.New("the broker does not let the device in")
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	filters := []string{s.self.Filter(wire.KindResult)}
	err = desk.Connect(ctx, s.url, b.Stderr, filters, func(ctx context.Context, m *fleet.Mailbox) error {
		sent := make([]atomic.Int64, int(b.spell.Seconds()*float64(b.rate))) // nanoseconds since began
		began, name := time.Now(), fleet.NewID()[:12]
		var g errgroup.Group
		g.Go(func() error {
			job := newGroup(1)[0]
			for i := range sent {
				if err := until(ctx, began.Add(time.Duration(i)*time.Second/time.Duration(b.rate))); err != nil {
					return err
				}
				sent[i].Store(int64(time.Since(began)))
				m.Send(ctx, mqtt.Message{Topic: s.self.Job(fmt.Sprintf("%s-%d", name, i)), Payload: job, QoS: 1})
			}
			return nil
		})
		g.Go(func() (err error) {
			took, err = results(ctx, m, name, began, sent)
			return err
		})
		return g.Wait()
	})
	return took, err
}

// until waits until a moment.
func until(ctx context.Context, at time.Time) error {
	select {
	case <-time.After(time.Until(at)):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// results receives as many results as jobs are sent, and returns how long they took, in
// milliseconds.
func results(ctx context.Context, m *fleet.Mailbox, name string, began time.Time, sent []atomic.Int64) (
	took figure.Sample, err error) {
	for len(took) < len(sent) {
		wait, stop := context.WithTimeout(ctx, desk.Silence)
		r, err := m.Next(wait)
		stop()
		if err != nil {
			return nil, fmt.Errorf("the device does not answer: %w", err)
		}
		t, err := wire.ParseTopic(r.Topic)
		number, ours := strings.CutPrefix(t.ID, name+"-")
		if i, bad := strconv.Atoi(number); err == nil && ours && bad == nil && i < len(sent) {
			took = append(took, float64(int64(time.Since(began))-sent[i].Load())/1e6)
		}
	}
	return took, nil
}

// A responder is a device that answers every job with a record of its own, at once.
type responder struct {
	link  *mqtt.Link
	box   *store.Outbox
	self  wire.Address
	early bool // a job is acknowledged when its answer was delivered, else when it is durable
	up    chan struct{}

	mu   sync.Mutex
	acks map[uint64]func() // guarded by mu: of the jobs, by the number of the answer
}

// Receive answers a job.
func (r *responder) Receive(m mqtt.Message, ack func()) {
	t, err := wire.ParseTopic(m.Topic)
	if err != nil {
		ack()
		return
	}
	var number uint64
	encode := func(seq uint64) (store.Record, error) {
		number = seq
		r.mu.Lock()
		r.acks[seq] = ack
		r.mu.Unlock()
		return store.Record{Topic: r.self.Result(t.ID), Payload: m.Payload, Job: t.ID, Stream: store.Live}, nil
	}
	durable := func() {
		if !r.early {
			r.acknowledge(number)
		}
	}
	if _, err := r.box.Append(encode, durable); err != nil {
		r.acknowledge(number) // the result will be missed
	}
}

// delivered is for the broker's acknowledgement of a result.
func (r *responder) delivered(seq uint64) {
	if r.early {
		r.acknowledge(seq)
	}
}

func (r *responder) acknowledge(seq uint64) {
	r.mu.Lock()
	ack := r.acks[seq]
	delete(r.acks, seq)
	r.mu.Unlock()
	if ack != nil {
		ack()
	}
}

// Connected tells who waits for the device.
func (r *responder) Connected(connSeq uint64, _ bool) {
	if connSeq == 1 {
		close(r.up)
	}
}

// Denied and Lost serve the link: who waits for results misses them.
func (r *responder) Denied([]string) {}
func (r *responder) Lost(error)      {}
