package uplink

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/broker-config/devbroker"
	"github.com/limber-edge/limber/store"
)

// start opens a device at a broker and runs it; stop ends it as the end of its
// context does.
func start(tb testing.TB, b *broker, change func(*device)) (d *device, stop func()) {
	tb.Helper()
	d = mustDevice(tb, func(d *device) {
		d.cfg.Link.Broker = b.addr()
		if change != nil {
			change(d)
		}
	})
	return d, d.run()
}

// run runs the device until stop is called, or the test ends.
func (d *device) run() (stop func()) {
	d.tb.Helper()
	endStoring, endUplink := d.store(), d.connect()
	stop = sync.OnceFunc(func() {
		endUplink()
		endStoring()
	})
	d.tb.Cleanup(stop)
	return stop
}

// store runs the writer of the outbox.
func (d *device) store() (stop func()) { return d.background(d.outbox.Run) }

// connect runs the uplink.
func (d *device) connect() (stop func()) {
	d.Serve(d.handler, d.documents)
	return d.background(d.Run)
}

// background runs f until stop is called.
func (d *device) background(f func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- f(ctx) }()
	return func() {
		d.tb.Helper()
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				d.tb.Error(err)
			}
		case <-time.After(patience):
			d.tb.Error("did not end")
		}
	}
}

// soon is a context for what must not take long.
func soon(tb testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	tb.Cleanup(cancel)
	return ctx
}

func decoded[T any](tb testing.TB, m mqtt.Message) (v T) {
	tb.Helper()
	if err := json.Unmarshal(m.Payload, &v); err != nil {
		tb.Fatalf("%s: %v in %q", m.Topic, err, m.Payload)
	}
	return v
}

// states are what the broker was told of the device, in order.
func (b *broker) states() (all []wire.State) {
	for _, m := range b.all(self.State()) {
		all = append(all, decoded[wire.State](b.tb, m))
	}
	return all
}

// presences are the states without what else they say.
func (b *broker) presences() (all []wire.Presence) {
	for _, s := range b.states() {
		all = append(all, s.State)
	}
	return all
}

// results are the first answers to each job, by the order in which they came; any
// other answer of a job must be the same.
func (b *broker) results() (ids []string) {
	b.tb.Helper()
	first := map[string][]byte{}
	for _, m := range b.all(self.Result("#")) {
		switch before, ok := first[m.Topic]; {
		case !ok:
			first[m.Topic] = m.Payload
			ids = append(ids, string(m.Payload))
		case !bytes.Equal(before, m.Payload):
			b.tb.Errorf("%s: %q, and before %q", m.Topic, m.Payload, before)
		}
	}
	return ids
}

// answered counts the jobs that have an answer; mu is held.
func (b *broker) answered() int {
	topics := map[string]bool{}
	for _, m := range b.matching(self.Result("#")) {
		topics[m.Topic] = true
	}
	return len(topics)
}

func TestGreeting(t *testing.T) {
	b := newBroker(t)
	d := mustDevice(t, func(d *device) { d.cfg.Link.Broker = b.addr() })
	d.documents.set("no disk; make room")
	acks := 0
	d.receive(jobOf("before", "x"), &acks)
	d.run()
	b.await(self.Result("before"), 1)
	var topics []string
	for _, m := range b.all("#") {
		topics = append(topics, m.Topic)
		want := m.Topic == self.State() || m.Topic == self.Caps() || m.Topic == self.Reported()
		if m.Retained != want || m.QoS != 1 {
			t.Errorf("%s: retained %v, QoS %d", m.Topic, m.Retained, m.QoS)
		}
	}
	want := []string{self.State(), self.Caps(), self.Sync(), self.Reported(), self.Result("before")}
	if !slices.Equal(topics, want) {
		t.Errorf("said %q, want %q", topics, want)
	}
	birth, at := b.states()[0], decoded[wire.Sync](t, b.await(self.Sync(), 1))
	if birth.State != wire.Online || birth.ConnSeq != 1 || birth.BootID != d.cfg.Boot ||
		birth.Detail != "no disk; make room" {
		t.Errorf("birth: got %+v", birth)
	}
	if at.ConnSeq != 1 || at.BootID != d.cfg.Boot || at.Version != 7 || at.Seq != 1 || at.Outbox != 1 {
		t.Errorf("sync: got %+v", at)
	}
	if s := d.Status(); !s.Online || s.ConnSeq != 1 || s.Seq != 1 {
		t.Errorf("status: got %+v", s)
	}
}

func TestReconnectsGreetAgain(t *testing.T) {
	b := newBroker(t)
	d, _ := start(t, b, nil)
	b.await(self.Reported(), 1)
	b.cut()
	b.await(self.State(), 2) // the will
	d.documents.set("other")
	d.Changed(Reported) // the greeting says it
	b.mend()
	b.await(self.Reported(), 2)
	got := b.states()
	if got[1].State != wire.Lost || got[1].ConnSeq != 1 ||
		got[2].State != wire.Online || got[2].ConnSeq <= 1 || got[2].Detail != "other" {
		t.Errorf("states: got %+v, want the first connection lost and a later one", got)
	}
	if at := decoded[wire.Sync](t, b.await(self.Sync(), 2)); at.ConnSeq != got[2].ConnSeq {
		t.Errorf("sync: got %+v", at)
	}
}

func TestN1_StartsWithoutABroker(t *testing.T) {
	b := newBroker(t)
	b.cut()
	d, _ := start(t, b, nil)
	for d.Status().Attempts < 3 {
		select {
		case <-d.conn.moved:
		case <-time.After(patience):
			t.Fatal("no attempts")
		}
	}
	b.mend()
	b.send(jobOf("first", "x"))
	b.await(self.Result("first"), 1)
	b.settled()
}

func TestADocumentThatChangesIsPublishedAnewAndTheNewestStays(t *testing.T) {
	b := newBroker(t)
	d, _ := start(t, b, nil)
	b.await(self.Reported(), 1)
	for i := range 100 {
		d.documents.set(fmt.Sprint(i))
		for _, doc := range []Document{State, Caps, Reported} {
			d.Changed(doc)
		}
	}
	newest := func(topic string) bool {
		all := b.matching(topic)
		return bytes.Contains(all[len(all)-1].Payload, []byte(`"detail":"99"`))
	}
	b.until(func() bool { return newest(self.State()) && newest(self.Reported()) }, "the newest documents")
	d.Changed(Caps)
	caps := func() string {
		all := b.all(self.Caps())
		return decoded[wire.Caps](t, all[len(all)-1]).Versions.Agent
	}
	b.until(func() bool { return len(b.matching(self.Caps())) > 1 }, "caps")
	for _, s := range b.states() {
		if s.State != wire.Online || s.ConnSeq != 1 {
			t.Errorf("state: got %+v, want the birth of the connection that is up", s)
		}
	}
	if caps() == "1" || len(b.all(self.Sync())) != 1 {
		t.Errorf("caps %s, %d times sync; want newer ones, once", caps(), len(b.all(self.Sync())))
	}
}

func TestOnAClusterDocumentsArePublishedOnceMoreAfterEachConnection(t *testing.T) {
	b := newBroker(t)
	d := mustDevice(t, func(d *device) { d.cfg.Link.Broker, d.cfg.Again = b.addr(), 20*time.Millisecond })
	d.run()
	for n := range 2 {
		for _, topic := range []string{self.State(), self.Caps(), self.Reported()} {
			b.await(topic, 2*n+2)
		}
		if n == 0 {
			b.cut()
			b.await(self.State(), 3) // the will
			b.mend()
			b.await(self.State(), 4)
		}
	}
	for _, s := range b.states()[3:] {
		if s.State != wire.Online || s.ConnSeq < 2 {
			t.Errorf("state: got %+v, want the birth of the connection that is up", s)
		}
	}
	if n := len(b.all(self.Sync())); n != 2 {
		t.Errorf("%d times sync, want one a connection", n)
	}
}

func TestN2_CutsLoseNothingAndRunNothingTwice(t *testing.T) {
	b := newBroker(t)
	d, _ := start(t, b, func(d *device) { d.handler.busy = func(*Request) bool { return rand.N(4) == 0 } })
	const jobs, cuts = 300, 5
	var all []mqtt.Message
	for i := range jobs / 2 {
		all = append(all, jobOf(fmt.Sprint("job-", i), fmt.Sprint(i)), frameOf("front", fmt.Sprint(i), 1))
	}
	for i := range cuts {
		b.await(self.Reported(), i+1)
		b.send(all[i*jobs/cuts : (i+1)*jobs/cuts]...)
		d.handler.await(t, (i+1)*jobs/cuts)
		b.cut()
		b.until(func() bool { return !d.Status().Online || b.will.Topic == "" }, "the link is down")
		b.mend()
	}
	answered := func() bool {
		for _, r := range d.handler.all() { // those that were busy
			d.inbox.mu.Lock()
			open := d.inbox.open[r.key()] == r
			d.inbox.mu.Unlock()
			if open {
				reply(r)
			}
		}
		return b.answered() == jobs
	}
	b.until(answered, "every job is answered")
	b.settled()
	late := make(map[string]bool) // by id
	for _, r := range d.handler.all() {
		late[r.ID] = r.Late()
	}
	if n := len(d.handler.all()); n != jobs {
		t.Errorf("%d jobs and frames were handed on %d times", jobs, n)
	}
	got, last := b.results(), make(map[bool]uint64) // by stream
	for _, answer := range got {
		var id string
		var seq uint64
		if _, err := fmt.Sscanf(answer, "done %s %d", &id, &seq); err != nil || seq <= last[late[id]] {
			t.Errorf("answer %q after %d: %v", answer, last[late[id]], err)
		}
		last[late[id]] = seq
	}
	if len(got) != jobs {
		t.Errorf("%d jobs have an answer, want %d", len(got), jobs)
	}
}

func TestN2_ARestartAnswersEachJobOnce(t *testing.T) {
	b := newBroker(t)
	d, stop := start(t, b, nil)
	b.await(self.Reported(), 1)
	b.silence(true) // it is off before it hears that its answers came
	var all []mqtt.Message
	for i := range 50 {
		id := fmt.Sprint(i)
		all = append(all, jobOf("job-"+id, "x"), frameOf("front", id, 1), command("mode", id, "x"))
	}
	b.send(all...)
	d.handler.await(t, len(all))
	b.cut()
	stop()
	d.restart()
	b.send(all[0])
	b.silence(false)
	b.mend()
	d.run()
	b.settled()
	d.Flush(soon(t))
	if n := len(d.handler.all()); n != 0 {
		t.Errorf("%d requests were handed on again", n)
	}
	if n := len(b.results()); n != 100 {
		t.Errorf("%d jobs and frames have an answer, want 100", n)
	}
}

// Until an answer is on the disk a kill would have its request run again, with another
// answer: only where nothing is written is the broker's word as good.
func TestAJobIsAcknowledgedWhenItsAnswerIsOnTheDisk(t *testing.T) {
	t.Run("the broker is mute", func(t *testing.T) {
		b := newBroker(t)
		start(t, b, nil)
		b.await(self.Reported(), 1)
		b.silence(true)
		b.send(jobOf("a", "x"))
		b.settled()
	})
	t.Run("the disk hangs", func(t *testing.T) {
		b := newBroker(t)
		d := mustDevice(t, func(d *device) { d.cfg.Link.Broker = b.addr() })
		t.Cleanup(d.connect())
		b.send(jobOf("a", "x"))
		b.await(self.Result("a"), 1)
		b.send(mqtt.Message{Topic: self.Desired(), QoS: 1})
		b.until(func() bool { return len(b.kept) == 1 }, "what has no answer is acknowledged")
		for d.Status().Records > 0 {
			<-d.conn.moved
		}
		b.mu.Lock()
		kept := len(b.kept)
		b.mu.Unlock()
		if kept != 1 {
			t.Errorf("%d messages are not acknowledged, want the job", kept)
		}
		t.Cleanup(d.store())
		b.settled()
	})
	t.Run("nothing is written", func(t *testing.T) {
		b := newBroker(t)
		start(t, b, func(d *device) { d.options.Free = 1 << 60 })
		b.send(jobOf("a", "x"))
		b.settled()
	})
}

func TestAnAnswerIsAcknowledgedOnce(t *testing.T) {
	for _, tt := range []struct {
		name string
		kept bool
		does func(d *device, settle func())
		want int
	}{
		{"written", true, func(_ *device, settle func()) { settle() }, 1},
		{"delivered", true, func(d *device, _ func()) { d.inbox.delivered(1, false) }, 0},
		{"delivered, then written", true, func(d *device, settle func()) {
			d.inbox.delivered(1, false)
			settle()
			settle()
		}, 1},
		{"delivered, and it is not remembered", false, func(d *device, _ func()) { d.inbox.delivered(1, false) }, 1},
		{"delivered, and nothing is written", true, func(d *device, _ func()) { d.inbox.delivered(1, true) }, 1},
		{"delivered before nothing was written", true, func(d *device, _ func()) {
			d.inbox.delivered(1, false)
			defer d.store()()
			d.fill(store.Live, 1)
			for !d.outbox.Unwritten() { // the writer looks at once
				runtime.Gosched()
			}
			d.review()
			d.review()
		}, 1},
		{"lost", true, func(d *device, settle func()) {
			d.review()
			d.review()
			settle()
		}, 0},
	} {
		d := mustDevice(t, func(d *device) { d.options.Free = 1 << 60 }) // so that nothing is
		acks := 0
		r := d.newRequest(wire.KindJob, jobOf("a", "x"), func() { acks++ })
		d.inbox.answer(1, r, tt.kept)
		tt.does(d, func() { d.inbox.settle(1) })
		if acks != tt.want {
			t.Errorf("%s: acknowledged %d times, want %d", tt.name, acks, tt.want)
		}
	}
}

func TestFlushTellsAllAndReturnsWhenNothingWaits(t *testing.T) {
	b := newBroker(t)
	d, _ := start(t, b, nil)
	b.await(self.Reported(), 1)
	for range 3 {
		d.Event(wire.SeverityInfo, wire.Event{Kind: wire.EventSwitch, From: "a", Member: "b"})
	}
	d.Flush(soon(t))
	if n := len(b.all(self.Event(wire.SeverityInfo))); n != 2 || d.Status().Records != 0 {
		t.Errorf("%d events, %d records wait; want the first and the rest, none", n, d.Status().Records)
	}
	b.silence(true)
	d.EventAtOnce(wire.SeverityInfo, wire.Event{Kind: wire.EventSwitch})
	spent, cancel := context.WithCancel(t.Context())
	cancel()
	d.Flush(spent)
	returned := make(chan bool)
	go func() {
		d.Flush(soon(t))
		close(returned)
	}()
	b.cut()
	select {
	case <-returned:
	case <-time.After(patience):
		t.Error("a flush waits for a link that is down")
	}
}

func TestN21_TheFarewellIsTheLastWord(t *testing.T) {
	for round := range 20 {
		b := newBroker(t)
		d, stop := start(t, b, nil)
		if round%2 == 0 { // else the birth may still be on its way, or not even the link up
			b.await(self.State(), 1)
		}
		for range round {
			d.Changed(State)
		}
		if err := d.Farewell(soon(t)); err != nil {
			t.Fatal(err)
		}
		d.Changed(State)
		stop()
		got := b.presences()
		if at := slices.Index(got, wire.Offline); at != len(got)-1 {
			t.Errorf("states %v, want nothing after offline", got)
		}
	}
}

func TestN21_AFarewellWithoutALinkTriesOnceMore(t *testing.T) {
	b := newBroker(t)
	d, _ := start(t, b, func(d *device) { d.cfg.Link.BackoffMin, d.cfg.Link.BackoffMax = time.Hour, time.Hour })
	b.await(self.Reported(), 1)
	b.cut()
	b.await(self.State(), 2) // the will
	for d.Status().Online {
		<-d.conn.moved
	}
	b.mend()
	if err := d.Farewell(soon(t)); err != nil {
		t.Fatal(err)
	}
	if got, want := b.presences(), []wire.Presence{wire.Online, wire.Lost, wire.Offline}; !slices.Equal(got, want) {
		t.Errorf("states %v, want %v", got, want)
	}
}

func TestN21_AFarewellGivesUpWhenTheAttemptFails(t *testing.T) {
	b := newBroker(t)
	d, _ := start(t, b, func(d *device) { d.cfg.Link.BackoffMin, d.cfg.Link.BackoffMax = time.Hour, time.Hour })
	b.await(self.Reported(), 1)
	b.cut()
	if err := d.Farewell(soon(t)); err == nil || soon(t).Err() != nil {
		t.Errorf("got %v, want an error at once", err)
	}
}

func TestN21_StopBeforeTheCONNACKLeavesNoLost(t *testing.T) {
	for _, comes := range []bool{true, false} {
		b := newBroker(t)
		b.stall()
		d, stop := start(t, b, nil)
		b.until(func() bool { return b.heard > 0 }, "CONNECT")
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- d.Farewell(ctx) }()
		<-d.changed.left
		want := []wire.Presence(nil)
		if comes {
			b.resume()
			want = []wire.Presence{wire.Offline}
		} else {
			cancel()
		}
		if err := <-ended; comes != (err == nil) {
			t.Errorf("the CONNACK comes %v: %v", comes, err)
		}
		stop()
		b.resume()
		b.until(func() bool { return b.ended > 0 }, "the end of the connection")
		if got := b.presences(); !slices.Equal(got, want) {
			t.Errorf("the CONNACK comes %v: states %v, want %v", comes, got, want)
		}
		cancel()
	}
}

func TestN8_OnlyTheStateOfAnotherRunIsARivals(t *testing.T) {
	d := mustDevice(t, nil)
	for _, tt := range []struct {
		name, kept string
		greeted    bool
		own        bool
	}{
		{"own", `{"state":"online","boot_id":"0123456789abcdef"}`, true, true},
		{"of another", `{"state":"online","boot_id":"fedcba9876543210"}`, true, false},
		{"will of another", `{"state":"lost","boot_id":"fedcba9876543210"}`, true, false},
		{"of the run before", `{"state":"lost","boot_id":"fedcba9876543210"}`, false, true},
		{"no state", `gone`, true, true},
	} {
		d.conn.greeted.Store(tt.greeted)
		if got := d.own([]byte(tt.kept)); got != tt.own {
			t.Errorf("%s: own %v, want %v", tt.name, got, tt.own)
		}
	}
}

func TestN20_ASlowBrokerIsToldWithTheRemedy(t *testing.T) {
	d := mustDevice(t, nil)
	d.slow(43*time.Millisecond, 61*time.Microsecond)
	d.events.flush(0)
	if got := strings.Join(d.waiting(), "\n"); !strings.Contains(got, `"fault"`) ||
		!strings.Contains(got, "takes 43ms to acknowledge, on a network of 100µs: a mosquitto needs set_tcp_nodelay true") {
		t.Errorf("told %s", got)
	}
}

func TestARivalHangUpsAndARefusedSubscriptionAreTold(t *testing.T) {
	d := mustDevice(t, nil)
	d.Lost(fmt.Errorf("%w: the next attempt is in 1m", mqtt.ErrRival))
	d.events.flush(0)
	d.Lost(fmt.Errorf("%w: EOF", mqtt.ErrHangsUp))
	d.events.flush(0)
	d.Denied([]string{"limber/v1/demo/desk/frame/#", "cam/#"})
	d.Denied(nil)
	d.events.flush(0)
	got := strings.Join(d.waiting(), "\n")
	if strings.Count(got, `"fault"`) != 3 || !strings.Contains(got, "another client has this id and takes the session") ||
		!strings.Contains(got, "does another client have this id") ||
		!strings.Contains(got, "the broker refuses to deliver limber/v1/demo/desk/frame/#, cam/#; see its access rules") {
		t.Errorf("told %s", got)
	}
}

// The embedded broker of a desk, and an operator with a link of its own.
func TestARealBrokerDelivers(t *testing.T) {
	served, err := devbroker.New(devbroker.Config{Listen: "127.0.0.1:0"}, discard())
	if err != nil {
		t.Fatal(err)
	}
	d := mustDevice(t, func(d *device) {
		d.cfg.Link.Broker = served.Addr()
		d.cfg.Link.Subscriptions = []mqtt.Subscription{
			{Filter: self.Filter(wire.KindJob), QoS: 1}, {Filter: self.Filter(wire.KindCmd), QoS: 1},
		}
	})
	t.Cleanup(d.background(served.Run))
	operator := &listener{up: make(chan bool, 1), got: make(chan mqtt.Message, 100)}
	cfg := mqtt.Default()
	cfg.Broker, cfg.ClientID, cfg.CleanSession = served.Addr(), "operator", true
	cfg.Subscriptions = []mqtt.Subscription{{Filter: "limber/v1/demo/desk/#", QoS: 1}}
	link, err := mqtt.New(cfg, operator, discard())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.background(link.Run))
	<-operator.up
	stop := d.run()
	operator.await(t, self.Reported())
	for topic, m := range map[string]mqtt.Message{
		self.Result("a"): jobOf("a", "x"), self.Ack("mode", "b"): command("mode", "b", "y"),
	} {
		if err := link.Publish(soon(t), m); err != nil {
			t.Fatal(err)
		}
		operator.await(t, topic)
	}
	if err := d.Farewell(soon(t)); err != nil {
		t.Fatal(err)
	}
	if s := decoded[wire.State](t, operator.await(t, self.State())); s.State != wire.Offline {
		t.Errorf("got %+v, want offline", s)
	}
	stop()
}

// TestN8_TwoDevicesWithOneIDTellOfEachOther has one of them give way, come back, and
// tell of it as soon as it is left alone.
func TestN8_TwoDevicesWithOneIDTellOfEachOther(t *testing.T) {
	t.Parallel()
	served, err := devbroker.New(devbroker.Config{Listen: "127.0.0.1:0"}, discard())
	if err != nil {
		t.Fatal(err)
	}
	var twins []*device
	for _, boot := range []string{"0123456789abcdef", "fedcba9876543210"} {
		twins = append(twins, mustDevice(t, func(d *device) {
			d.cfg.Boot, d.cfg.Link.Broker, d.cfg.Link.RivalPause = boot, served.Addr(), 200*time.Millisecond
			d.cfg.Link.Subscriptions = []mqtt.Subscription{{Filter: self.Filter(wire.KindJob), QoS: 1}}
		}))
	}
	t.Cleanup(twins[0].background(served.Run))
	operator := &listener{up: make(chan bool, 1), got: make(chan mqtt.Message, 1000)}
	cfg := mqtt.Default()
	cfg.Broker, cfg.ClientID, cfg.CleanSession = served.Addr(), "operator", true
	cfg.Subscriptions = []mqtt.Subscription{{Filter: self.Event(wire.SeverityError), QoS: 1}}
	link, err := mqtt.New(cfg, operator, discard())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(twins[0].background(link.Run))
	<-operator.up
	stops := []func(){twins[0].run(), twins[1].run()}
	const rival = "another client has this id and takes the session"
	for late := time.After(5 * patience); ; { // a row of connections, each with its pause
		select {
		case m := <-operator.got:
			if strings.Contains(string(m.Payload), rival) {
				return
			}
		case <-time.After(20 * time.Millisecond):
			for i, d := range twins { // it may be the same one that gives way each time
				if strings.Contains(strings.Join(d.waiting(), ""), rival) {
					stops[1-i]()
				}
			}
		case <-late:
			t.Fatal("nobody tells of a rival")
		}
	}
}

// listener keeps what an operator gets.
type listener struct {
	up  chan bool
	got chan mqtt.Message
}

func (l *listener) Connected(uint64, bool) { l.up <- true }
func (l *listener) Denied([]string)        {}
func (l *listener) Lost(error)             {}

func (l *listener) Receive(m mqtt.Message, ack func()) {
	ack()
	l.got <- m
}

// await returns the next message of a topic, and lets go of those before it.
func (l *listener) await(tb testing.TB, topic string) mqtt.Message {
	tb.Helper()
	late := time.After(patience)
	for {
		select {
		case m := <-l.got:
			if m.Topic == topic {
				return m
			}
		case <-late:
			tb.Fatalf("nothing on %s", topic)
		}
	}
}

func TestAConfigurationThatCannotBeIsNamed(t *testing.T) {
	d := mustDevice(t, nil)
	bad := d.cfg
	bad.Link.Broker = "http://desk"
	if _, err := New(bad, d.state, d.outbox, discard()); err == nil || !strings.HasPrefix(err.Error(), "broker: ") {
		t.Errorf("got %v", err)
	}
	short := d.cfg
	short.Boot = "0123"
	if _, err := New(short, d.state, d.outbox, discard()); err == nil {
		t.Error("a boot too short for the ids of frames is taken")
	}
}
