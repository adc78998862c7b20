package metrics

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent"
	"github.com/limber-edge/limber/agent/config"
	"github.com/limber-edge/limber/agent/control"
	"github.com/limber-edge/limber/agent/engine"
	"github.com/limber-edge/limber/agent/governor"
	"github.com/limber-edge/limber/agent/pipeline"
	"github.com/limber-edge/limber/agent/uplink"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/store"
)

// fakeDevice says what it is told to.
type fakeDevice struct {
	snapshot agent.Snapshot
	vitals   agent.Vitals
}

func (d *fakeDevice) Snapshot() agent.Snapshot { return d.snapshot }
func (d *fakeDevice) Vitals() agent.Vitals     { return d.vitals }

// busy is a device that has something of everything.
func busy() *fakeDevice {
	d := &fakeDevice{}
	d.vitals = agent.Vitals{Watts: new(8.5), TempsC: map[string]float64{"CPU-therm": 51.5, "bad\xffname": 40}}
	s := &d.snapshot
	s.Versions = wire.Versions{Agent: "v1", Runtime: "1.27"}
	s.Answered, s.Superseded = 90, 3
	s.Refused = map[wire.Reason]uint64{}
	for _, why := range wire.JobReasons() {
		s.Refused[why] = 0
	}
	s.Refused[wire.Busy] = 7
	s.Commands = control.Counts{Refused: 20, Unanswered: 8}
	s.Engine.Missed = 4
	s.Engine.Members = []engine.Member{{Member: &family.Member{Name: "a"}}, {Member: &family.Member{Name: "b"}}}
	s.Engine.State = pipeline.State{Operating: 1, Slowdown: 1.5}
	s.Engine.Switches[governor.Queued] = 2
	s.Uplink = uplink.Status{Online: true, ConnSeq: 5}
	s.Traffic = uplink.Traffic{InFlight: 6, RoundTrip: 3 * time.Millisecond}
	s.Waiting[store.Results] = store.Depth{Records: 11, Bytes: 1200, Oldest: time.Minute}
	s.Lost[store.Results][store.Age] = 13
	return d
}

// pipes is a network in memory, so that time may be that of a synctest bubble.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
}

func (p pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p pipes) Close() error { close(p.closed); return nil }
func (pipes) Addr() net.Addr { return &net.TCPAddr{} }

// rig is a server and its network.
type rig struct {
	tb      testing.TB
	network pipes
	log     *journal
}

// journal keeps what is logged.
type journal struct {
	mu   sync.Mutex
	text strings.Builder
}

func (j *journal) Write(b []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(b)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

// serve runs a server until the test ends.
func serve(tb testing.TB, cfg config.Metrics, d Device) rig {
	tb.Helper()
	r := rig{tb, pipes{make(chan net.Conn), make(chan struct{})}, new(journal)}
	log := slog.New(slog.NewTextHandler(r.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- New(cfg, d, log).serve(ctx, r.network) }()
	tb.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			tb.Error(err)
		}
	})
	return r
}

// dial connects to the server.
func (r rig) dial() net.Conn {
	near, far := net.Pipe()
	r.network.conns <- far
	return near
}

// ask sends a request as it is and returns the status of the answer, with its text;
// 0 where the connection ended without one.
func (r rig) ask(request string) (status int, text string) {
	r.tb.Helper()
	c := r.dial()
	defer c.Close()
	go c.Write([]byte(request)) // an answer may come before the end of it
	method, _, _ := strings.Cut(request, " ")
	answer, err := http.ReadResponse(bufio.NewReader(c), &http.Request{Method: method})
	if err != nil {
		return 0, ""
	}
	var body bytes.Buffer
	if _, err := body.ReadFrom(answer.Body); err != nil {
		r.tb.Fatal(err)
	}
	return answer.StatusCode, body.String()
}

// get asks for a path, with further lines of the header.
func (r rig) get(path, header string) (status int, text string) {
	r.tb.Helper()
	return r.ask("GET " + path + " HTTP/1.1\r\nHost: device\r\n" + header + "\r\n")
}

// errHot is a fault that stands.
var errHot = errors.New("the model cannot be built: the disk is full; make room, it is tried again")

func tokenFile(tb testing.TB, text string) string {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), "token")
	writeToken(tb, path, text)
	return path
}

func writeToken(tb testing.TB, path, text string) {
	tb.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		tb.Fatal(err)
	}
}
