package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/limber-edge/limber/agent/bench/figure"
	"github.com/limber-edge/limber/agent/blob"
	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/family"
)

// BlobFigures are how blobs came in some rounds, by each way in turn.
type BlobFigures struct {
	MQTT, HTTP         figure.Sample // MB/s (10^6 bytes)
	MQTTWire, HTTPWire float64       // bytes on the connection of who asks, in both directions, for one of the blob
}

// Blobs measures how fast a blob of so many bytes comes over a broker, and by HTTP from
// this process. dir is for partial blobs.
func Blobs(ctx context.Context, broker mqtt.Config, dir string, bytes, rounds int) (f BlobFigures, err error) {
	b, err := newBlobBench(broker, dir, bytes)
	if err != nil {
		return f, err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	g, gctx := errgroup.WithContext(ctx)
	for _, part := range []func(context.Context) error{b.serving.Run, b.asking.Run, b.server.Run, b.serve} {
		g.Go(func() error { return part(gctx) })
	}
	err = errors.Join(b.serving.ready(gctx), b.asking.ready(gctx))
	for i := 0; i < rounds && err == nil; i++ {
		err = b.round(gctx, &f)
	}
	stop()
	err = errors.Join(err, g.Wait())
	each := float64(bytes) * float64(rounds)
	f.MQTTWire, f.HTTPWire = float64(b.asking.carried.Load())/each, float64(b.carried.Load())/each
	return f, err
}

// blobBench has the one blob that comes, and all who take part.
type blobBench struct {
	body   []byte
	digest family.Digest

	serving, asking *blobEnd // of the broker
	server          *blob.Server
	fetcher         *blob.Fetcher

	web     net.Listener
	source  string       // its URL
	carried atomic.Int64 // bytes of its connections
}

func newBlobBench(broker mqtt.Config, dir string, bytes int) (*blobBench, error) {
	b := &blobBench{body: make([]byte, bytes)}
	rand.NewChaCha8([32]byte{1}).Read(b.body) // never returns an error
	b.digest = family.DigestOf(b.body)
	quiet, self := slog.New(slog.DiscardHandler), wire.Address{Fleet: "bench-blobs", Device: "desk"}
	b.serving, b.asking = newBlobEnd(self), newBlobEnd(self)
	anyone := func(string, family.Digest) bool { return true }
	b.server = blob.NewServer(blob.ServerConfig{Blobs: b, May: anyone}, b.serving, quiet)
	var err error
	if b.web, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		return nil, err
	}
	b.source = "http://" + b.web.Addr().String()
	allowed, err := blob.ParseAllowed([]string{b.source})
	b.fetcher = blob.New(blob.Config{Dir: dir, Allowed: allowed}, b.asking, quiet)
	err = errors.Join(err,
		b.serving.assemble(broker, "serving", wire.FleetFilter(self.Fleet, wire.KindFetch), b.server.Receive),
		b.asking.assemble(broker, "asking", self.Filter(wire.KindBlob), b.fetcher.Receive))
	if err != nil {
		return nil, errors.Join(err, b.web.Close())
	}
	return b, nil
}

// Blob implements family.Blobs.
func (b *blobBench) Blob(d family.Digest) ([]byte, error) {
	if d != b.digest {
		return nil, fmt.Errorf("blob %s: there is none", d.Short())
	}
	return b.body, nil
}

// serve serves the blob over HTTP until ctx ends.
func (b *blobBench) serve(ctx context.Context) error {
	live := func(family.Digest) bool { return true }
	s := &http.Server{Handler: blob.NewHandler(b, live), ReadHeaderTimeout: time.Minute}
	defer context.AfterFunc(ctx, func() { s.Close() })() // which Serve returns from
	if err := s.Serve(counted{b.web, &b.carried}); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// round has the blob come by each way.
func (b *blobBench) round(ctx context.Context, to *BlobFigures) error {
	err := b.fetch(ctx, &to.MQTT)
	if err == nil {
		err = b.fetch(ctx, &to.HTTP, b.source)
	}
	return err
}

// fetch has the blob come from sources, or else over the broker.
func (b *blobBench) fetch(ctx context.Context, to *figure.Sample, sources ...string) error {
	began := time.Now()
	w := blob.Wanted{Digest: b.digest, Sources: sources, Max: family.MaxBlob}
	if _, err := b.fetcher.Fetch(ctx, w, nil); err != nil {
		return err
	}
	*to = append(*to, float64(len(b.body))/1e6/time.Since(began).Seconds())
	return b.fetcher.Forget(func(family.Digest) bool { return false })
}

// blobEnd is one side of the broker.
type blobEnd struct {
	*mqtt.Link
	self    wire.Address // who asks
	receive func(wire.Topic, []byte)
	up      chan struct{} // holds a token once it is connected
	carried atomic.Int64  // bytes of its connection
}

func newBlobEnd(self wire.Address) *blobEnd { return &blobEnd{self: self, up: make(chan struct{}, 1)} }

// assemble makes the link, which subscribes to a filter.
func (e *blobEnd) assemble(cfg mqtt.Config, id, filter string, receive func(wire.Topic, []byte)) (err error) {
	cfg.ClientID, cfg.CleanSession = "limber-bench-"+id, true
	cfg.Subscriptions = []mqtt.Subscription{{Filter: filter}}
	cfg.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := new(net.Dialer).DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return countedConn{c, &e.carried}, nil
	}
	e.receive = receive
	e.Link, err = mqtt.New(cfg, e, slog.New(slog.DiscardHandler))
	return err
}

// ready waits for the connection.
func (e *blobEnd) ready(ctx context.Context) error {
	select {
	case <-e.up:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Fetch implements blob.Link.
func (e *blobEnd) Fetch(digest string, f wire.Fetch) error {
	b, err := json.Marshal(f)
	if err == nil && !e.Offer(mqtt.Message{Topic: e.self.Fetch(digest), Payload: b}) {
		err = mqtt.ErrDown
	}
	return err
}

// Connected, Denied, Lost and Receive serve the link.
func (e *blobEnd) Connected(uint64, bool) {
	select {
	case e.up <- struct{}{}:
	default:
	}
}

func (e *blobEnd) Denied([]string) {}
func (e *blobEnd) Lost(error)      {}

func (e *blobEnd) Receive(m mqtt.Message, ack func()) {
	ack()
	if t, err := wire.ParseTopic(m.Topic); err == nil {
		e.receive(t, m.Payload)
	}
}

// counted counts the bytes of the connections that it accepts.
type counted struct {
	net.Listener
	carried *atomic.Int64
}

func (l counted) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return countedConn{c, l.carried}, nil
}

// countedConn counts the bytes of a connection, in both directions.
type countedConn struct {
	net.Conn
	carried *atomic.Int64
}

func (c countedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.carried.Add(int64(n))
	return n, err
}

func (c countedConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.carried.Add(int64(n))
	return n, err
}
