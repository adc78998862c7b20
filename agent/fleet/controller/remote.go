package controller

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/limber-edge/limber/agent/blob"
	"github.com/limber-edge/limber/agent/fleet"
	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/family"
)

// ErrAbsent says that no controller is there.
var ErrAbsent = errors.New("no controller serves this fleet; `limber fleet serve --state DIR` starts one, " +
	"from the folder of the one before if there was one")

// The times of a Remote.
const (
	findTime = 1500 * time.Millisecond // in which the broker tells the state of a controller
	askAgain = 3 * time.Second         // after which a command without an answer is sent again
)

// Remote is the controller as others see it, by its topics alone. Its methods may be
// called from any goroutine, but for Changed, which one may call at a time.
type Remote struct {
	*fleet.Client
	at      wire.Address
	log     *slog.Logger
	changed chan struct{} // holds one token when something came

	mu        sync.Mutex // guards what follows
	heard     uint64     // messages
	state     *wire.State
	documents map[string]wire.Rollout // by the id of the topic
	acks      map[string]*answered    // of each command that waits
	server    *blob.Server            // nil: nothing is served
}

// answered is what is known of a command that waits for its answer.
type answered struct {
	ack  wire.Ack      // the last
	came chan struct{} // holds one token when one came
}

// OpenRemote assembles a Remote, which subscribes to more filters for what else is to be in
// its picture. Its While connects.
func OpenRemote(cfg mqtt.Config, name string, log *slog.Logger, more ...string) (*Remote, error) {
	at := wire.Address{Fleet: name, Device: wire.Controller}
	filters := append([]string{at.State(), at.Filter(wire.KindAck), at.Filter(wire.KindFetch), at.Filter(wire.KindCmd)},
		more...)
	return OpenRemoteBehind(func(r *Remote) mqtt.Handler { return r }, cfg, name, log, filters...)
}

// OpenRemoteBehind is OpenRemote for who hears more than the controller, by filters that
// have its state, acknowledgements and commands as well: the handler stands before the
// Remote, and hands on to it all that it hears.
func OpenRemoteBehind(handler func(*Remote) mqtt.Handler, cfg mqtt.Config, name string, log *slog.Logger,
	filters ...string) (*Remote, error) {
	r := &Remote{at: wire.Address{Fleet: name, Device: wire.Controller}, log: log, changed: make(chan struct{}, 1),
		documents: map[string]wire.Rollout{}, acks: map[string]*answered{}}
	var err error
	r.Client, err = fleet.OpenBehind(func(c *fleet.Client) mqtt.Handler {
		r.Client = c
		return handler(r)
	}, cfg, log, append(filters, r.at.Filter(wire.KindRollout))...)
	return r, err
}

// Receive sorts what comes from the broker.
func (r *Remote) Receive(m mqtt.Message, ack func()) {
	r.Client.Receive(m, ack)
	if t, err := wire.ParseTopic(m.Topic); err == nil && t.Device == wire.Controller && m.Oversize == 0 {
		r.hear(t, m.Payload)
	}
}

func (r *Remote) hear(t wire.Topic, payload []byte) {
	r.mu.Lock()
	r.heard++
	waits := r.acks[t.ID]
	switch t.Kind {
	case wire.KindState:
		r.state = decoded[wire.State](payload)
	case wire.KindRollout:
		if doc := decoded[wire.Rollout](payload); doc != nil {
			r.documents[t.ID] = *doc
		} else {
			delete(r.documents, t.ID)
		}
	case wire.KindAck:
		if a := decoded[wire.Ack](payload); a != nil && waits != nil {
			waits.ack = *a
		}
	case wire.KindFetch:
		if r.server != nil {
			r.server.Receive(t, payload)
		}
	}
	r.mu.Unlock()
	signal(r.changed)
	if waits != nil {
		signal(waits.came)
	}
}

// signal leaves a token.
func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// decoded is what a payload says; nil for one that says nothing.
func decoded[M any](payload []byte) *M {
	v := new(M)
	if len(payload) == 0 || wire.Decode(payload, v) != nil {
		return nil
	}
	return v
}

// Changed waits until something came since it was called last. Its error is ctx's.
func (r *Remote) Changed(ctx context.Context) error {
	select {
	case <-r.changed:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Heard is how often something came: who looks again only then misses nothing.
func (r *Remote) Heard() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.heard
}

// Find looks for the controller: ErrAbsent where its state does not say that it is there.
func (r *Remote) Find(ctx context.Context) error {
	within, cancel := context.WithTimeout(ctx, findTime)
	defer cancel()
	for {
		r.mu.Lock()
		state := r.state
		r.mu.Unlock()
		switch {
		case state != nil && state.State == wire.Online:
			return nil
		case state != nil || within.Err() != nil && ctx.Err() == nil:
			return fmt.Errorf("fleet %s: %w", r.at.Fleet, ErrAbsent)
		case ctx.Err() != nil:
			return ctx.Err()
		}
		_ = r.Changed(within) // which is looked at above
	}
}

// Detail is what keeps the controller from working, as its state says, or that it is not
// there; "" for nothing.
func (r *Remote) Detail() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.state == nil || r.state.State != wire.Online {
		return ErrAbsent.Error()
	}
	return r.state.Detail
}

// Do gives the controller a command, good for ttl, and waits for its answer, which told is
// told of as far as it comes. The command is repeated, as the same, until it is answered;
// while the controller says that it is at it, the wait goes on. An answer that is none of
// success is a *wire.Refusal; fleet.ErrDropped says that this user may not give commands.
func (r *Remote) Do(ctx context.Context, command wire.RolloutCommand, ttl time.Duration, told func(wire.Ack)) (
	wire.Ack, error) {
	id := fleet.NewID()
	command.ExpiresAt = new(wire.At(time.Now().Add(ttl)))
	b, err := json.Marshal(command)
	if err != nil {
		return wire.Ack{}, err
	}
	came := r.await(id)
	defer r.forget(id)
	m := mqtt.Message{Topic: r.at.Cmd(wire.VerbRollout, id), Payload: b, QoS: 1}
	again := time.NewTicker(askAgain)
	defer again.Stop()
	end := time.Now().Add(ttl)
	if err := r.Give(ctx, id, m); errors.Is(err, fleet.ErrDropped) {
		return wire.Ack{}, err
	} // what was lost with a connection is sent again
	for {
		ack, news := r.ack(id)
		switch {
		case ack.State == wire.CommandSucceeded:
			return ack, nil
		case ack.State != "" && ack.State.Final():
			return ack, &wire.Refusal{Reason: ack.Reason, Err: errors.New(ack.Detail)}
		case ack.State != "" && news:
			end = time.Now().Add(max(ttl, fetchPatience))
			if told != nil {
				told(ack)
			}
		case time.Now().After(end):
			return ack, fmt.Errorf("the controller of fleet %s did not answer within %v: %s", r.at.Fleet, ttl,
				cmp.Or(r.Detail(), "is this user an operator?"))
		}
		select {
		case <-came:
		case <-again.C:
			r.Send(ctx, m)
		case <-ctx.Done():
			return ack, ctx.Err()
		}
	}
}

// await begins to wait for the answers to a command.
func (r *Remote) await(id string) (came <-chan struct{}) {
	a := &answered{came: make(chan struct{}, 1)}
	r.mu.Lock()
	r.acks[id] = a
	r.mu.Unlock()
	return a.came
}

// ack is the last answer to a command, and whether that is new.
func (r *Remote) ack(id string) (a wire.Ack, news bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	a = r.acks[id].ack
	if a.State != "" && !a.State.Final() {
		r.acks[id].ack = wire.Ack{}
	}
	return a, a.State != ""
}

func (r *Remote) forget(id string) {
	r.mu.Lock()
	delete(r.acks, id)
	r.mu.Unlock()
}

// Serve gives the controller the blobs of a family, until ctx ends.
func (r *Remote) Serve(ctx context.Context, f *family.Folder) {
	may := func(who string, _ family.Digest) bool { return who == wire.Controller }
	blobs := blob.NewCache(blob.OfFamily(&f.Family, f), cacheBytes)
	s := blob.NewServer(blob.ServerConfig{Blobs: blobs, May: may}, r.Client, r.log)
	r.mu.Lock()
	r.server = s
	r.mu.Unlock()
	_ = s.Run(ctx) // its end is ctx's
}

// Rollouts are those that the controller retains, without their devices, the oldest first.
func (r *Remote) Rollouts() (all []wire.Rollout) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, doc := range r.documents {
		if doc.State != "" { // a part has none
			all = append(all, doc)
		}
	}
	slices.SortFunc(all, func(a, b wire.Rollout) int {
		return cmp.Or(began(a).Compare(began(b)), cmp.Compare(a.ID, b.ID))
	})
	return all
}

// began is when a rollout was started; zero where it does not say.
func began(doc wire.Rollout) (t time.Time) {
	if doc.TS != nil {
		t = doc.TS.Time
	}
	return t
}

// Rollout is one of them, with the devices of its parts as far as they have come.
func (r *Remote) Rollout(id string) (doc wire.Rollout, known bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	doc, known = r.documents[id]
	for n := range min(doc.Parts, fleet.MaxDevices) {
		doc.Devices = append(doc.Devices, r.documents[fmt.Sprintf("%s.%d", id, n+1)].Devices...)
	}
	return doc, known && doc.State != ""
}
