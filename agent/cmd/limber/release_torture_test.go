//go:build torture

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
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

// kill ends limber-boot and all that it runs, and starts it again.
func (f *firmware) kill() {
	f.Helper()
	if err := f.boot.Process.Kill(); err != nil {
		f.Fatal(err)
	}
	f.boot.Wait()
	f.launch()
}

// killsMost is how often a device is killed in each update.
const killsMost = 12

// TestKillsLeaveAReleaseThatRunsAndOneThatIsRefusedIsNeverTriedAgain kills the launcher, and
// the agent with it, wherever it is.
func TestKillsLeaveAReleaseThatRunsAndOneThatIsRefusedIsNeverTriedAgain(t *testing.T) {
	f := mustFirmware(t, "mqtt://"+mustBroker(t))
	f.runs("1.4.0")
	f.release("1.5.0", map[string]string{"limber": f.program(t, ".", "1.5.0")})
	f.release("1.6.0", map[string]string{"limber": "#!/bin/sh\necho 'panic: no such board' >&2\nexit 3\n"})
	kills := func() {
		for range killsMost {
			wait := time.Duration(rand.Int64N(int64(3 * time.Second)))
			t.Logf("killed after %v in the phase %s", wait.Round(time.Millisecond), f.is().Phase)
			<-time.After(wait)
			f.kill()
		}
	}
	f.order("u1", "1.5.0", "")
	kills()
	if a := f.last(); a.State != wire.CommandSucceeded { // a start that was cut in a trial is one that failed
		t.Logf("killed three times in its trial: %+v", a)
		f.runsNow("")
		f.order("u1", "1.5.0", `,"retry":true`)
		f.ends(wire.CommandSucceeded, "", false)
	}
	f.runsNow("1.5.0")
	f.order("u2", "1.6.0", "")
	kills()
	f.ends(wire.CommandFailed, wire.Internal, true)
	if p := f.is(); p.Phase != slot.RolledBack || p.Trials != 1 || len(p.Refused) != 1 {
		t.Errorf("got %+v, want one trial, and that it is refused", p)
	}
	f.kill()
	f.runsNow("1.5.0")
}

// runsNow wants a version to run, "" for that of the package, and to answer.
func (f *firmware) runsNow(version string) {
	f.Helper()
	f.answers()
	r, err := slot.Open(f.state).Release(f.is().Slot)
	if r.Version != version || err != nil && version != "" {
		f.Errorf("runs %s, %v; want %s", r.Version, err, version)
	}
}

func (f *firmware) is() slot.Phase {
	f.Helper()
	p, err := slot.Open(f.state).Phase()
	if err != nil {
		f.Fatal(err)
	}
	return p
}

// child is the program that limber-boot runs now.
func (f *firmware) child() string {
	f.Helper()
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", f.boot.Process.Pid))
	var all []byte
	for _, path := range threads {
		if b, e := os.ReadFile(path); e == nil {
			all = append(all, b...)
		}
	}
	if pids := strings.Fields(string(all)); err != nil || len(pids) != 1 {
		f.Fatalf("limber-boot has the children %q, %v", pids, err)
	}
	return strings.TrimSpace(string(all))
}

// peak is the most memory that a process had since it was asked last, in KiB.
func (f *firmware) peak(pid string) (kib int) {
	f.Helper()
	b, err := os.ReadFile("/proc/" + pid + "/status")
	if err == nil {
		_, rest, _ := strings.Cut(string(b), "VmHWM:")
		_, err = fmt.Sscan(rest, &kib)
	}
	if err == nil {
		err = os.WriteFile("/proc/"+pid+"/clear_refs", []byte("5"), 0)
	}
	if err != nil {
		f.Fatal(err)
	}
	return kib
}

func TestWhatTwoReleasesHaveInCommonIsSentOnceAndNotHeldInMemory(t *testing.T) {
	f := mustFirmware(t, "mqtt://"+mustBroker(t))
	f.runs("1.4.0")
	library := filepath.Join(t.TempDir(), "library")
	if err := os.WriteFile(library, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(library, 200<<20); err != nil {
		t.Fatal(err)
	}
	for _, version := range []string{"1.5.0", "1.6.0"} {
		f.release(version, map[string]string{"limber": f.program(t, ".", version), "library": library})
	}
	free, err := lock.Share(t.Context(), f.state, func() {})
	if err != nil {
		t.Fatal(err)
	}
	picture, _ := mustFrame(t, 0)
	for range 20 { // garbage comes with the jobs, and has its most when it was collected a few times
		var out, bad bytes.Buffer
		if code := run(t.Context(), slices.Concat([]string{"publish", "--broker", f.url}, slices.Repeat([]string{picture}, 50)), &out,
			&bad); code != exitDone {
			t.Fatalf("exit %d, %s", code, bad.String())
		}
	}
	before := f.peak(f.child())
	f.order("u1", "1.5.0", "")
	next(f, wire.KindCaps, func(c wire.Caps) bool { return c.Update != nil && c.Update.Step == wire.UpdateLocked })
	peak := f.peak(f.child())
	t.Logf("%d KiB at most before, %d while %d MiB came", before, peak, f.sent.Load()>>20)
	if float64(peak) > 1.10*float64(before) {
		t.Error("that is more than 1.10 of before")
	}
	free()
	f.ends(wire.CommandSucceeded, "", false)
	f.sent.Store(0)
	f.order("u2", "1.6.0", "")
	f.ends(wire.CommandSucceeded, "", false)
	program, err := os.Stat(f.program(t, ".", "1.6.0"))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d bytes for a program of %d", f.sent.Load(), program.Size())
	if float64(f.sent.Load()) > 1.05*float64(program.Size()) {
		t.Error("that is more than 1.05 of it")
	}
}
