package blob

import (
	"context"
	"encoding/json"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/broker-config/brokertest"
	"github.com/limber-edge/limber/broker-config/devbroker"
	"github.com/limber-edge/limber/family"
)

// end is one side of a broker: its link, and who takes what comes.
type end struct {
	*mqtt.Link
	self    wire.Address // who asks
	receive func(wire.Topic, []byte)
	up      chan struct{} // holds a token for each connection
}

func (e *end) Connected(uint64, bool) { e.up <- struct{}{} }
func (e *end) Denied([]string)        {}
func (e *end) Lost(error)             {}
func (e *end) Receive(m mqtt.Message, ack func()) {
	ack()
	if t, err := wire.ParseTopic(m.Topic); err == nil {
		e.receive(t, m.Payload)
	}
}

// Fetch implements Link, as the uplink does.
func (e *end) Fetch(digest string, f wire.Fetch) error {
	b, err := json.Marshal(f)
	if err == nil && !e.Offer(mqtt.Message{Topic: e.self.Fetch(digest), Payload: b}) {
		err = errOffline
	}
	return err
}

// mustConnect connects one side until the test ends.
func mustConnect(tb testing.TB, addr, id, filter string, e *end) {
	tb.Helper()
	cfg := mqtt.Default()
	cfg.Broker, cfg.ClientID, cfg.CleanSession = addr, id, true
	cfg.BackoffMin, cfg.BackoffMax = time.Millisecond, 5*time.Millisecond
	cfg.Subscriptions = []mqtt.Subscription{{Filter: filter}}
	e.up = make(chan struct{}, 100)
	var err error
	if e.Link, err = mqtt.New(cfg, e, discard()); err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		e.Run(ctx) // has no error
	}()
	tb.Cleanup(func() {
		cancel()
		<-ended
	})
	select {
	case <-e.up:
	case <-time.After(patience):
		tb.Fatalf("%s does not connect to %s", id, addr)
	}
}

// mustPull makes a fetcher and a server on two sides of a broker: who asks as self.
func mustPull(tb testing.TB, addr string, self wire.Address, have family.Blobs) (*Fetcher, *Server) {
	tb.Helper()
	serving := &end{}
	mine := func(who string, _ family.Digest) bool { return who == self.Device }
	s := NewServer(ServerConfig{have, mine}, serving, discard())
	serving.receive = s.Receive
	mustConnect(tb, addr, "serving", wire.FleetFilter(self.Fleet, wire.KindFetch), serving)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.Run(ctx) // has no error
	}()
	tb.Cleanup(func() {
		cancel()
		<-ended
	})
	asks := &end{self: self}
	f := New(Config{Dir: tb.TempDir()}, asks, discard())
	asks.receive = f.Receive
	mustConnect(tb, addr, "asking", self.Filter(wire.KindBlob), asks)
	return f, s
}

// mustEmbedded runs the embedded broker until the test ends.
func mustEmbedded(tb testing.TB) string {
	tb.Helper()
	b, err := devbroker.New(devbroker.Config{Listen: "127.0.0.1:0"}, discard())
	if err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- b.Run(ctx) }()
	tb.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			tb.Error(err)
		}
	})
	return b.Addr()
}

func TestABlobComesOverABrokerInEitherDirection(t *testing.T) {
	for name, start := range map[string]func(testing.TB) string{
		"mosquitto": func(tb testing.TB) string { return brokertest.StartMosquitto(tb).Addr },
		"embedded":  mustEmbedded,
	} {
		for _, who := range []string{"desk", wire.Controller} {
			t.Run(name+" "+who, func(t *testing.T) {
				b := random(5*windowBytes + 17)
				f, s := mustPull(t, start(t), wire.Address{Fleet: "demo", Device: who}, having(b))
				mustFetch(t, f, wantedOf(b))
				if got := s.Counts(); got.Bytes != uint64(len(b)) {
					t.Errorf("%d bytes were sent for %d", got.Bytes, len(b))
				}
			})
		}
	}
}

func TestAfterABrokerWasKilledAtMostAWindowIsSentAgain(t *testing.T) {
	broker := brokertest.StartMosquitto(t)
	b := random(40 * windowBytes)
	f, s := mustPull(t, broker.Addr, device, having(b))
	killed := false
	got, err := f.Fetch(t.Context(), wantedOf(b), func(done int64) {
		if done > 10*windowBytes && !killed {
			killed = true
			broker.Kill()
			broker.Start()
		}
	})
	if err != nil || family.DigestOf(got) != family.DigestOf(b) || !killed {
		t.Fatalf("%d bytes, %v, killed %v", len(got), err, killed)
	}
	if again := int64(s.Counts().Bytes) - int64(len(b)); again > windowBytes {
		t.Errorf("%d bytes were sent again, want at most %d", again, windowBytes)
	}
}

func BenchmarkFetch(b *testing.B) {
	blob := random(32 << 20)
	fetch := func(b *testing.B, f *Fetcher, w Wanted) {
		b.SetBytes(int64(len(blob)))
		for b.Loop() {
			mustFetch(b, f, w)
			b.StopTimer()
			if err := f.Forget(func(family.Digest) bool { return false }); err != nil {
				b.Fatal(err)
			}
			b.StartTimer()
		}
	}
	b.Run("http", func(b *testing.B) {
		s := httptest.NewServer(NewHandler(having(blob), func(family.Digest) bool { return true }))
		b.Cleanup(s.Close)
		f := New(Config{Dir: b.TempDir(), Allowed: mustAllow(b, s.URL)}, nowhere{}, discard())
		b.Cleanup(f.client.CloseIdleConnections)
		fetch(b, f, wantedOf(blob, s.URL))
	})
	b.Run("mosquitto", func(b *testing.B) {
		f, _ := mustPull(b, brokertest.StartMosquitto(b).Addr, device, having(blob))
		fetch(b, f, wantedOf(blob))
	})
}
