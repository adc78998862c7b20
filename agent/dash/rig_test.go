package dash

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/limber-edge/limber/agent/fleet"
	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/wire"
)

const (
	yard   = "yard"
	secret = "0123456789abcdef"
)

func at(device string) wire.Address { return wire.Address{Fleet: yard, Device: device} }

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

func config(broker string) Config {
	cfg := mqtt.Default()
	cfg.Broker, cfg.ClientID = broker, "dash-"+fleet.NewID()
	return Config{Broker: cfg, Fleet: yard, Listen: "127.0.0.1:0", Token: secret}
}

// rig is a server without a broker, which hears what the test says, and is reached through
// pipes: all of it in the bubble of a synctest.
type rig struct {
	*Server
	tb  testing.TB
	web *pipes
}

// bubble runs a test with a server whose clock is the test's.
func bubble(t *testing.T, f func(t *testing.T, r *rig)) {
	synctest.Test(t, func(t *testing.T) {
		s, err := assemble(config("127.0.0.1:1"), discard())
		if err != nil {
			t.Fatal(err)
		}
		r := &rig{s, t, newPipes()}
		s.web = r.web
		s.link.set(true, "", time.Now())
		ctx, stop := context.WithCancel(t.Context())
		var all sync.WaitGroup
		all.Go(func() { s.history.keep(ctx, s.remote.Registry()) })
		all.Go(func() {
			if err := s.serve(ctx); err != nil {
				t.Error(err)
			}
		})
		f(t, r)
		stop()
		all.Wait()
	})
}

// says has the server hear a message.
func (r *rig) says(topic, payload string) {
	ears{r.remote, r.Server}.Receive(mqtt.Message{Topic: topic, Payload: []byte(payload)}, func() {})
}

// online is a device that is there.
func (r *rig) online(name string) {
	r.says(at(name).State(), `{"state":"online","ts":"2026-11-28T09:00:00Z"}`)
}

// measures is telemetry of a device at a second.
func (r *rig) measures(name string, second int, rest string) {
	ts := time.Date(2026, 11, 28, 12, 0, second, 0, time.UTC).Format(time.RFC3339)
	r.says(at(name).Telemetry(), fmt.Sprintf(`{"ts":%q%s}`, ts, rest))
}

// pipes are a listener whose connections are in memory.
type pipes struct {
	conns chan net.Conn
	once  sync.Once
	over  chan struct{}
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), over: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.over:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.over) })
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 8080} }

func (p *pipes) dial(context.Context, string, string) (net.Conn, error) {
	near, far := net.Pipe()
	p.conns <- far
	return near, nil
}

// client has one connection a request.
func (r *rig) client() *http.Client {
	return &http.Client{Transport: &http.Transport{DialContext: r.web.dial, DisableKeepAlives: true}}
}

// screen is a stream that the test reads.
type screen struct {
	tb   testing.TB
	body io.ReadCloser
	read *bufio.Reader
	all  []heard
}

// heard is a message, and when it was read.
type heard struct {
	message
	at    time.Time
	bytes int
}

// open begins a stream, which the test must close.
func (r *rig) open(query string) *screen {
	r.tb.Helper()
	got, err := r.client().Get("http://127.0.0.1:8080/api/events?" + query)
	if err != nil {
		r.tb.Fatal(err)
	}
	if got.StatusCode != http.StatusOK || got.Header.Get("Content-Type") != "text/event-stream" {
		b, _ := io.ReadAll(got.Body)
		r.tb.Fatalf("got %s: %s", got.Status, b)
	}
	return newScreen(r.tb, got.Body)
}

func newScreen(tb testing.TB, body io.ReadCloser) *screen {
	return &screen{tb: tb, body: body, read: bufio.NewReader(body)}
}

func (s *screen) close() { s.body.Close() }

// next is the next message.
func (s *screen) next() message {
	s.tb.Helper()
	m, err := s.take()
	if err != nil {
		s.tb.Fatal(err)
	}
	return m.message
}

// take is the next message, or how the stream ended.
func (s *screen) take() (h heard, err error) {
	for {
		line, err := s.read.ReadString('\n')
		if err != nil {
			return h, err
		}
		data, ok := strings.CutPrefix(line, "data: ")
		if !ok {
			continue // the end of a message, or a beat
		}
		h.at, h.bytes = time.Now(), len(line)+1
		return h, json.Unmarshal([]byte(data), &h.message)
	}
}

// collect reads until the stream ends, and rests after each third message. What was read is
// in all, once over is waited for.
func (s *screen) collect(rest time.Duration) (over chan struct{}) {
	over = make(chan struct{})
	go func() {
		defer close(over)
		for {
			h, err := s.take()
			if err != nil {
				return
			}
			if s.all = append(s.all, h); len(s.all)%3 == 0 {
				time.Sleep(rest)
			}
		}
	}()
	return over
}

// UnmarshalJSON is for tests, which read what they wrote.
func (f *figures) UnmarshalJSON(b []byte) error {
	var all []*float64
	if err := json.Unmarshal(b, &all); err != nil {
		return err
	}
	for _, v := range all {
		*f = append(*f, known(v))
	}
	return nil
}

func where(expression string) string { return "where=" + url.QueryEscape(expression) }
