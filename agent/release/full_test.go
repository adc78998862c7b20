//go:build linux

package release

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/firmware/slot"
)

// A disk that is full fails one call of an agent that takes a release. strace counts calls
// of each thread by their names, and which thread writes is a matter of chance: so the nth
// of every thread fails, for each n that there is, which meets every call.

func TestADiskThatIsFullWhenAReleaseIsRecordedLeavesTheOldOrTheNew(t *testing.T) {
	if _, err := exec.LookPath("strace"); err != nil {
		t.Skip("strace is not installed")
	}
	t.Parallel()
	calls := []string{"write", "pwrite64", "copy_file_range", "ftruncate", "fsync", "fdatasync", "renameat", "mkdirat"}
	for _, made := range madeBefore() {
		for _, how := range []string{"confirm", "crash"} {
			for _, call := range calls {
				t.Run(fmt.Sprintf("%s %s made before %t", how, call, made), func(t *testing.T) {
					t.Parallel()
					failEach(t, how, call, made)
				})
			}
		}
	}
}

// failEach fails one call after the other of one name.
func failEach(t *testing.T, how, call string, made bool) {
	runs, calls := 0, 0
	for n := 1; ; n += everyWrite {
		failed := fullAt(t, how, call, n, made)
		if failed == 0 {
			break
		}
		runs, calls = runs+1, calls+failed
	}
	t.Logf("%s, %s: %d calls failed, in %d runs", how, call, calls, runs)
	if !made && runs == 0 && call != "copy_file_range" { // there may be none
		t.Errorf("no %s failed", call)
	}
}

// fullAt fails the nth call of every thread, and goes on from what is there then. It
// returns how many failed: none if there is no nth. The databases may be made before.
func fullAt(t *testing.T, how, call string, n int, made bool) (failed int) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "state")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if made {
		d := &device{T: t, dir: dir}
		d.open()
		d.stop()
	}
	trace := filepath.Join(t.TempDir(), "trace")
	args := append(aboutState(dir), "-f", "-qq", "-o", trace, "-e", "trace="+call, "-e",
		fmt.Sprintf("inject=%s:error=ENOSPC:when=%d", call, n), os.Args[0], "-test.run", "^TestKilledChild$",
		"-test.timeout", "5s") // it may be waiting for what a failed write keeps from it
	c := exec.CommandContext(t.Context(), "strace", args...)
	c.Env = append(os.Environ(), killedEnv+"="+dir, killedHow+"="+how, "GORACE=atexit_sleep_ms=0")
	out, _ := c.CombinedOutput() // it may well end with an error
	b, err := os.ReadFile(trace)
	if err != nil {
		t.Fatal(err)
	}
	if failed = bytes.Count(b, []byte("(INJECTED)")); failed == 0 {
		return 0
	}
	t.Run(fmt.Sprint(n), func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) { goOn(t, dir, how == "crash") })
		if t.Failed() {
			t.Logf("%s\n%s", b, out)
		}
	})
	return failed
}

// aboutState has strace look at what is in a state folder alone.
func aboutState(dir string) (args []string) {
	args = append(args, "-P", dir)
	for _, path := range []string{"limber.db", "outbox.db", "outbox.log", "update.lock", "slots", "slots/phase.json.new",
		"slots/phase.json", "slots/a", "slots/a.new", "slots/a.new/limber", "slots/a.new/libonnxruntime.so",
		"slots/a.new/release.json.new", "slots/state", "slots/state.new", "slots/state.old"} {
		args = append(args, "-P", filepath.Join(dir, path))
	}
	for _, file := range []string{"limber.db", "outbox.db", "outbox.log"} {
		args = append(args, "-P", filepath.Join(dir, "slots/state.new", file), "-P", filepath.Join(dir, "slots/state.new", file+".new"))
	}
	return args
}

// goOn has a device whose disk has room again go on, and wants the command to end, with a
// whole release, and another command to be obeyed.
func goOn(t *testing.T, dir string, crashes bool) {
	d, payload := killed(t, dir)
	d.play(crashes)
	defer func() { d.stop() }()
	state := d.finish(crashes, "u1", payload)
	p := d.phase()
	if (p.Slot == slot.A) != (state == wire.CommandSucceeded) || p.Trials > 1 || crashes && state == wire.CommandSucceeded {
		t.Errorf("got %s in the phase %+v", state, p)
	}
	refused := p.IsRefused(p.Digest)
	state = d.finish(crashes, "u2", payload)
	switch p := d.phase(); {
	case refused && (state != wire.CommandRejected || p.Trials > 1):
		t.Errorf("refused, and then got %s in the phase %+v", state, p)
	case !refused && !crashes && (state != wire.CommandSucceeded || p.Slot != slot.A):
		t.Errorf("got %s in the phase %+v, want that it is taken", state, p)
	}
	if r, err := d.slots.Release(slot.A); d.phase().Slot == slot.A && (err != nil || r.Version != "1.5.0") {
		t.Errorf("slot a has %q, %v", r.Version, err)
	}
}

// finish is the end of a command within some minutes, with whatever program limber-boot has run.
func (d *device) finish(crashes bool, id, payload string) wire.Step {
	d.Helper()
	d.Receive(wire.VerbRelease, id, payload)
	for range 8 {
		pass(time.Minute)
		select {
		case <-d.ended:
			d.stop()
			d.play(crashes)
		default:
		}
	}
	known, err := d.st.Command(key(id))
	if err != nil || !wire.Step(known.State).Final() {
		d.Errorf("command %s: got %q, %v; want its end", id, known.State, err)
	}
	return wire.Step(known.State)
}
