//go:build torture

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent/lock"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/firmware/slot"
)

// cable is a way to a broker that can be cut.
type cable struct {
	net.Listener
	to string

	mu    sync.Mutex
	cut   bool
	conns map[net.Conn]bool
}

func mustCable(t *testing.T, to string) *cable {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &cable{Listener: l, to: to, conns: map[net.Conn]bool{}}
	t.Cleanup(func() { l.Close(); c.set(true) })
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			go c.join(in)
		}
	}()
	return c
}

// join carries bytes in both ways until one of them ends.
func (c *cable) join(in net.Conn) {
	defer in.Close()
	out, err := net.Dial("tcp", c.to)
	if err != nil {
		return
	}
	defer out.Close()
	c.mu.Lock()
	whole := !c.cut
	c.conns[in], c.conns[out] = true, true
	c.mu.Unlock()
	if whole {
		go func() { io.Copy(out, in); out.Close() }()
		io.Copy(in, out)
	}
}

// set cuts it, or mends it.
func (c *cable) set(cut bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cut = cut
	for one := range c.conns {
		if cut {
			one.Close()
		}
		delete(c.conns, one)
	}
}

// wrapped is a release whose program is a script before the real one.
func (f *firmware) wrapped(version, before, after string) {
	f.Helper()
	script := "#!/bin/sh\n" + before + "\nexec \"$(dirname \"$0\")/program\" \"$@\" " + after + "\n"
	f.release(version, map[string]string{"limber": script, "program": f.program(f.T, ".", version)})
}

// back has a release tried, and wants the one before to be back and at work.
func (f *firmware) back(version string, reason slot.Reason, tail string) {
	f.Helper()
	began := time.Now()
	f.order("u", version, "")
	f.fails(reason, tail)
	f.ends(wire.CommandFailed, wire.Internal, true)
	f.answers()
	f.Logf("release %s: %s, and an answer of the one before, after %v", version, reason, time.Since(began).Round(time.Second))
}

func TestAReleaseThatDoesNotProveItselfGoesBackWithItsLastWords(t *testing.T) {
	f := mustFirmware(t, "mqtt://"+mustBroker(t))
	f.runs("1.4.0")
	f.canary()
	f.back("1.6.1", slot.Canary, "standard deviations from the stored one")
	f.wrapped("1.6.2", "", "--broker mqtt://127.0.0.1:1")
	f.back("1.6.2", slot.NoLink, "no broker could be reached")
	f.release("1.6.3", map[string]string{"limber": "#!/bin/sh\necho 'waits for ever' >&2\nsleep 1000\n"})
	f.back("1.6.3", slot.Hang, "waits for ever")
	f.wrapped("1.6.4", fmt.Sprintf("head -c 65536 /dev/urandom | dd of=%s conv=notrunc 2>/dev/null",
		filepath.Join(f.state, "limber.db")), "")
	f.back("1.6.4", slot.State, "did not prove itself: state")
}

// canary signs a release that takes every canary for wrong.
func (f *firmware) canary() {
	f.Helper()
	original, err := filepath.Abs("../../../family/resident/canary.go")
	if err != nil {
		f.Fatal(err)
	}
	source, err := os.ReadFile(original)
	if err != nil {
		f.Fatal(err)
	}
	const tolerance = "canaryTolerance = 1e-2"
	if !strings.Contains(string(source), tolerance) {
		f.Fatalf("%s has no %s", original, tolerance)
	}
	changed := filepath.Join(f.TempDir(), "canary.go")
	mustWrite(f.T, changed, []byte(strings.Replace(string(source), tolerance, "canaryTolerance = -1", 1)))
	overlay, err := json.Marshal(map[string]map[string]string{"Replace": {original: changed}})
	if err != nil {
		f.Fatal(err)
	}
	file := filepath.Join(f.TempDir(), "overlay.json")
	mustWrite(f.T, file, overlay)
	f.release("1.6.1", map[string]string{"limber": f.program(f.T, ".", "1.6.1", "-overlay", file)})
}

func TestAReleaseWithoutALinkIsUndecidedWhereTheOneBeforeHasNoneEither(t *testing.T) {
	broker := mustBroker(t)
	c := mustCable(t, broker)
	f := mustFirmwareOn(t, "mqtt://"+c.Addr().String(), "mqtt://"+broker)
	f.runs("1.4.0")
	f.release("1.5.0", map[string]string{"limber": f.program(t, ".", "1.5.0")})
	free, err := lock.Share(t.Context(), f.state, func() {})
	if err != nil {
		t.Fatal(err)
	}
	f.order("u1", "1.5.0", "")
	next(f, wire.KindCaps, func(c wire.Caps) bool { return c.Update != nil && c.Update.Step == wire.UpdateLocked })
	c.set(true)
	free()
	f.phase(slot.Trial)
	f.phase(slot.RolledBack)
	f.phase(slot.Undecided)
	c.set(false)
	f.runs("1.5.0")
	f.ends(wire.CommandSucceeded, "", false)
	f.answers()
}

// phase waits until it is recorded.
func (f *firmware) phase(want string) {
	f.Helper()
	for until := time.Now().Add(time.Minute); ; {
		p, err := slot.Open(f.state).Phase()
		if err == nil && p.Phase == want {
			return
		}
		if time.Now().After(until) {
			f.Fatalf("got the phase %s, %v; want %s\n%s", p.Phase, err, want, f.words)
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-f.Context().Done():
			f.Fatal(f.Context().Err())
		}
	}
}
