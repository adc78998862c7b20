//go:build torture

package packaging

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent/fleet"
	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/wire"
)

// valve hands on what a broker sends, and what is sent to it while it is open.
type valve struct {
	addr  string
	mu    sync.Mutex
	shut  bool
	conns map[net.Conn]bool
}

// mustValve stands before a broker until the test ends.
func mustValve(tb testing.TB, broker string) *valve {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	v := &valve{addr: l.Addr().String(), conns: map[net.Conn]bool{}}
	tb.Cleanup(func() {
		l.Close()
		v.cut()
	})
	go func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			go v.serve(near, broker)
		}
	}()
	return v
}

func (v *valve) serve(near net.Conn, broker string) {
	defer near.Close()
	far, err := net.Dial("tcp", broker)
	if err != nil {
		return
	}
	defer far.Close()
	v.mu.Lock()
	v.conns[near], v.conns[far] = true, true
	v.mu.Unlock()
	go func() {
		io.Copy(near, far)
		near.Close()
	}()
	for b := make([]byte, 64<<10); ; {
		n, err := near.Read(b)
		if err != nil {
			return
		}
		if v.closed() {
			continue // swallowed
		}
		if _, err := far.Write(b[:n]); err != nil {
			return
		}
	}
}

func (v *valve) closed() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.shut
}

// close has the valve swallow what is sent to the broker.
func (v *valve) close() { v.set(true) }

// open ends that, and the connections of which something was swallowed.
func (v *valve) open() {
	v.cut()
	v.set(false)
}

func (v *valve) set(shut bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.shut = shut
}

func (v *valve) cut() {
	v.mu.Lock()
	defer v.mu.Unlock()
	for c := range v.conns {
		c.Close()
	}
	clear(v.conns)
}

func port(addr string) string {
	_, port, _ := net.SplitHostPort(addr)
	return port
}

func mustRunWith(tb testing.TB, stdin []byte, name string, args ...string) {
	tb.Helper()
	c := exec.CommandContext(tb.Context(), name, args...)
	c.Stdin = bytes.NewReader(stdin)
	if out, err := c.CombinedOutput(); err != nil {
		tb.Fatalf("%s: %v\n%s", name, err, out)
	}
}

// mustListen hears the results of the device desk. The function returned waits until so many
// jobs of a prefix have one.
func mustListen(tb testing.TB, addr string) (mustHave func(prefix string, n int)) {
	tb.Helper()
	cfg := mqtt.Default()
	cfg.Broker, cfg.ClientID = "tcp://"+addr, "listener"
	root := wire.Address{Fleet: wire.DefaultFleet, Device: wire.DefaultDevice}.Result("")
	box, err := fleet.OpenMailbox(cfg, slog.New(slog.DiscardHandler), root+"#")
	if err != nil {
		tb.Fatal(err)
	}
	ctx, end := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		box.Run(ctx)
	}()
	tb.Cleanup(func() {
		end()
		<-ended
	})
	ready, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if err := box.Ready(ready); err != nil {
		tb.Fatal(err)
	}
	return func(prefix string, n int) {
		tb.Helper()
		soon, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		for ids := map[string]bool{}; len(ids) < n; {
			m, err := box.Next(soon)
			if err != nil {
				tb.Errorf("%d of %d results came within a minute: %v", len(ids), n, err)
				return
			}
			if id, ok := strings.CutPrefix(m.Topic, root+prefix); ok {
				ids[id] = true
			}
		}
	}
}

// eventually asks until the answer is yes.
func eventually(tb testing.TB, what string, ask func() bool) {
	tb.Helper()
	deadline, again := time.After(2*time.Minute), time.NewTicker(100*time.Millisecond)
	defer again.Stop()
	for !ask() {
		select {
		case <-again.C:
		case <-deadline:
			tb.Fatalf("not within two minutes: %s", what)
		}
	}
}

// mustMeasure waits until the metrics of a device have a text.
func mustMeasure(tb testing.TB, addr, text string) {
	tb.Helper()
	eventually(tb, text, func() bool {
		r, err := http.Get("http://" + addr + "/metrics")
		if err != nil {
			return false
		}
		defer r.Body.Close()
		b, err := io.ReadAll(r.Body)
		return err == nil && bytes.Contains(b, []byte(text))
	})
}
