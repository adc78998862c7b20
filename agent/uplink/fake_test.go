package uplink

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/store"
)

// patience bounds every wait of the tests; none of them is meant to reach it.
const patience = 20 * time.Second

var self = wire.Address{Fleet: "demo", Device: "desk"}

// fakeHandler keeps what it is handed, or answers it at once.
type fakeHandler struct {
	busy  func(*Request) bool // nil, or false: answered at once
	paced func(*Request) bool // nil, or false: served; those of which it is true the test has served

	mu    sync.Mutex
	got   []*Request
	parts []string      // of blobs, as offset and bytes
	more  chan struct{} // closed when there is another
}

func newFakeHandler() *fakeHandler { return &fakeHandler{more: make(chan struct{})} }

func (h *fakeHandler) Job(r *Request) {
	switch {
	case r.Fault != nil || r.Fatal || r.Conflict:
		h.take(r)
	case h.paced != nil && h.paced(r):
		h.keep(r)
	default:
		r.Serve(func() { h.take(r) })
	}
}

func (h *fakeHandler) Command(r *Request) { h.take(r) }
func (h *fakeHandler) Desired(r *Request) {
	h.keep(r)
	r.Drop()
}

func (h *fakeHandler) Blob(t wire.Topic, payload []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.parts = append(h.parts, fmt.Sprintf("%d %s", t.Offset, payload))
}

func (h *fakeHandler) keep(r *Request) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.got = append(h.got, r)
	close(h.more)
	h.more = make(chan struct{})
}

func (h *fakeHandler) take(r *Request) {
	h.keep(r)
	if h.busy == nil || !h.busy(r) {
		reply(r)
	}
}

// reply ends a request with an answer that has its name and the record's number.
func reply(r *Request) {
	topic := cmp.Or(r.ResultTopic, self.Result(r.ID))
	if r.Kind == wire.KindCmd {
		topic = self.Ack(r.Verb, r.ID)
	}
	word := "done"
	if r.Conflict || r.Fault != nil {
		word = "refused"
	}
	r.Answer(topic, func(seq uint64) ([]byte, error) { return fmt.Appendf(nil, "%s %s %d", word, r.ID, seq), nil })
}

func always(*Request) bool { return true }

func (h *fakeHandler) all() []*Request {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]*Request{}, h.got...)
}

// await returns the first n requests.
func (h *fakeHandler) await(tb testing.TB, n int) []*Request {
	tb.Helper()
	late := time.After(patience)
	for {
		h.mu.Lock()
		got, more := h.got, h.more
		h.mu.Unlock()
		if len(got) >= n {
			return got[:n]
		}
		select {
		case <-more:
		case <-late:
			tb.Fatalf("%d requests were handed on, want %d", len(got), n)
		}
	}
}

// fakeDocuments count how often they are asked.
type fakeDocuments struct {
	mu     sync.Mutex
	detail string
	asked  uint64
}

func (d *fakeDocuments) set(detail string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.detail = detail
}

func (d *fakeDocuments) Detail(wire.Presence) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.detail
}

func (d *fakeDocuments) Caps() wire.Caps {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.asked++
	return wire.Caps{Versions: wire.Versions{Agent: fmt.Sprint(d.asked)}, Members: []wire.Member{}}
}

func (d *fakeDocuments) Reported() wire.Reported {
	return wire.Reported{Version: 7, Status: wire.Applied, Detail: d.Detail(wire.Online)}
}

func (d *fakeDocuments) Version() uint64 { return 7 }

// device is an uplink with its stores.
type device struct {
	*Uplink
	tb        testing.TB
	dir       string
	cfg       Config
	options   store.OutboxOptions
	state     *store.Store
	handler   *fakeHandler
	documents *fakeDocuments
	repeating bool
}

// discard is the log of those who say too much.
func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

// mustDevice opens a device that reaches no broker and is not running: what it
// receives is what the test gives it.
func mustDevice(tb testing.TB, change func(*device)) *device {
	tb.Helper()
	d := &device{tb: tb, dir: tb.TempDir(), handler: newFakeHandler(), documents: &fakeDocuments{}}
	d.cfg = Config{Self: self, Boot: "0123456789abcdef", Link: mqtt.Default()}
	d.cfg.Link.Broker, d.cfg.Link.ClientID = "127.0.0.1:1", self.Device
	d.cfg.Link.BackoffMin, d.cfg.Link.BackoffMax = time.Millisecond, 5*time.Millisecond
	d.cfg.Link.RivalPause = time.Millisecond
	d.cfg.Link.Subscriptions = []mqtt.Subscription{{Filter: "limber/#", QoS: 1}}
	d.options = store.OutboxOptions{Alias: Alias, Quota: 64 << 20}
	if change != nil {
		change(d)
	}
	d.open()
	return d
}

// open makes the uplink of a run.
func (d *device) open() {
	d.tb.Helper()
	state, err := store.Open(d.dir, store.Options{}, discard())
	if err != nil {
		d.tb.Fatal(err)
	}
	d.tb.Cleanup(func() { state.Close() })
	outbox, err := store.OpenOutbox(d.dir, d.options, discard())
	if err != nil {
		d.tb.Fatal(err)
	}
	d.tb.Cleanup(func() { outbox.Close() })
	if d.Uplink, err = New(d.cfg, state, outbox, discard()); err != nil {
		d.tb.Fatal(err)
	}
	d.state = state
	d.Uplink.handler, d.Uplink.documents = d.handler, d.documents
}

// commit writes what the outbox holds, as the end of a run does.
func (d *device) commit() {
	d.tb.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := d.outbox.Run(ctx); err != nil {
		d.tb.Fatal(err)
	}
}

// restart begins the next run on what the last one committed.
func (d *device) restart() {
	d.tb.Helper()
	d.commit()
	d.close()
	d.cfg.Boot = "fedcba9876543210"
	d.handler = newFakeHandler()
	d.open()
}

func (d *device) close() {
	d.tb.Helper()
	for _, err := range []error{d.outbox.Close(), d.state.Close()} {
		if err != nil {
			d.tb.Fatal(err)
		}
	}
}

// lookAllUp does what the replay would do. Nothing is published anew, but within
// repeated.
func (d *device) lookAllUp() {
	ctx, cancel := context.WithCancel(d.tb.Context())
	if !d.repeating {
		cancel()
	}
	defer cancel()
	for r := d.replays.take(); r != nil; r = d.replays.take() {
		d.again(ctx, r)
	}
}

// receive gives the device a message and has it looked up; acks counts what the
// broker is told.
func (d *device) receive(m mqtt.Message, acks *int) {
	d.Receive(m, func() { *acks++ })
	d.lookAllUp()
}

// repeated returns what is published anew while f runs.
func (d *device) repeated(f func()) (all []publication) {
	d.tb.Helper()
	d.repeating = true
	defer func() { d.repeating = false }()
	ended, stop := make(chan bool), make(chan bool)
	go func() {
		defer close(ended)
		for {
			select {
			case p := <-d.sent.again:
				all = append(all, p)
			case <-stop:
				return
			}
		}
	}()
	f()
	close(stop)
	<-ended
	return all
}

// waiting are the records of the outbox, each as topic and payload.
func (d *device) waiting() (all []string) {
	d.tb.Helper()
	for _, r := range d.records() {
		topic := strings.TrimPrefix(r.Topic, "limber/v1/demo/desk/")
		all = append(all, topic+": "+string(r.Payload))
	}
	return all
}

// records are those of the outbox, in the order of their numbers.
func (d *device) records() (all []store.Record) {
	d.tb.Helper()
	for s := range store.Stream(store.Streams) {
		records, _ := d.outbox.Collect(s, 0, math.MaxInt)
		all = append(all, records...)
	}
	slices.SortFunc(all, func(a, b store.Record) int { return cmp.Compare(a.Seq, b.Seq) })
	return all
}

func jobOf(id, body string) mqtt.Message {
	return mqtt.Message{Topic: self.Job(id), Payload: []byte(body), QoS: 1}
}

func command(verb, id, body string) mqtt.Message {
	return mqtt.Message{Topic: self.Cmd(verb, id), Payload: []byte(body), QoS: 1}
}

func frameOf(source, body string, qos byte) mqtt.Message {
	return mqtt.Message{Topic: self.Frame(source), Payload: []byte(body), QoS: qos}
}

func duplicate(m mqtt.Message) mqtt.Message {
	m.Duplicate = true
	return m
}

func kept(m mqtt.Message) mqtt.Message {
	m.Retained = true
	return m
}
