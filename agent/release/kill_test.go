//go:build linux

package release

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/limber-edge/limber/agent/control/controltest"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/firmware/slot"
)

// killedEnv names the state folder of the run that is killed, and how it ends.
const killedEnv, killedHow = "RELEASE_TEST_FOLDER", "RELEASE_TEST_ENDS"

// killed is a device that is told to take a release, which proves itself or crashes.
func killed(t *testing.T, dir string) (d *device, payload string) {
	d = newDevice(t, dir)
	d.shown.frames = framesLeast
	return d, asked(d.offer("1.5.0"), `,"one_way":true`)
}

// play is what limber-boot does when no program runs.
func (d *device) play(crashes bool) {
	d.Helper()
	p := d.phase()
	l := slot.Open(d.dir).Launcher()
	var err error
	switch {
	case p.InTrial() && (p.Verdict != "" || crashes || p.Spent()):
		p, err = l.Back(slot.Crash, "no such board")
	case p.InTrial():
		err = l.Count("")
	}
	if err == nil {
		err = Keep(d.dir, slot.Open(d.dir).Agent(p.Slot), discard())
	}
	if err == nil {
		err = d.start(p.Slot)
	}
	if err != nil {
		d.Fatal(err)
	}
}

// over tells whether the command is.
func (d *device) over() (wire.Step, bool) {
	known, err := d.st.Command(key("u1"))
	return wire.Step(known.State), err == nil && wire.Step(known.State).Final()
}

// TestKilledChild is the run that is stopped at each of its writes.
func TestKilledChild(t *testing.T) {
	dir, crashes := os.Getenv(killedEnv), os.Getenv(killedHow) == "crash"
	if dir == "" {
		t.Skip("runs only as a child")
	}
	d, payload := killed(t, dir)
	d.sync = true
	d.play(crashes)
	d.Receive(wire.VerbRelease, "u1", payload)
	for _, over := d.over(); !over; _, over = d.over() {
		select {
		case <-d.ended:
			d.stop()
			d.play(crashes)
		case <-time.After(time.Millisecond):
		}
	}
	d.stop()
}

// What a process leaves that is killed is what it wrote. It is stopped whenever it waits
// for the disk or gives a file its name, and what is there then is started from.
func TestAKillAfterAnyWriteEndsWithAWholeReleaseAndTheSameEnd(t *testing.T) {
	if _, err := exec.LookPath("strace"); err != nil {
		t.Skip("strace is not installed")
	}
	t.Parallel()
	for name, want := range map[string]wire.Step{"confirm": wire.CommandSucceeded, "crash": wire.CommandFailed} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // it waits for the disk
			states := stopAtWrites(t, name)
			t.Logf("%d states", len(states))
			if len(states) < 40 {
				t.Errorf("got %d states, want at least 40", len(states))
			}
			for i, dir := range states {
				if i%everyState > 0 {
					continue
				}
				t.Run(fmt.Sprint(i), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) { startFrom(t, dir, name == "crash", want) })
				})
			}
		})
	}
}

// startFrom goes on from a state, as the broker delivers the command again.
func startFrom(t *testing.T, dir string, crashes bool, want wire.Step) {
	t.Helper()
	d, payload := killed(t, dir)
	d.play(crashes)
	d.Receive(wire.VerbRelease, "u1", payload)
	for range 3 {
		pass(time.Minute)
		select {
		case <-d.ended:
			d.stop()
			d.play(crashes)
		default:
		}
	}
	defer func() { d.stop() }()
	synctest.Wait()
	state, _ := d.over()
	p := d.phase()
	r, err := d.slots.Release(slot.A)
	if state != want || (p.Slot == slot.A) != (want == wire.CommandSucceeded) || p.Trials > 1 ||
		err != nil || r.Version != "1.5.0" {
		t.Errorf("got %s in the phase %+v, in slot a %q, %v; want %s", state, p, r.Version, err, want)
	}
	if _, err := os.Stat(keptIn(dir)); err == nil {
		t.Error("the copy of the state is left")
	}
}

// stopAtWrites returns copies of the state folder, one for each time that a run waited for
// the disk with something new.
func stopAtWrites(t *testing.T, how string) (states []string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "state")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	const calls = "fdatasync,fsync,renameat,renameat2,rename,unlinkat"
	last := ""
	controltest.StopAtWrites(t, "TestKilledChild", calls, []string{killedEnv + "=" + dir, killedHow + "=" + how}, func() {
		now := filepath.Join(filepath.Dir(dir), fmt.Sprintf("at-%d", len(states)))
		if out, err := exec.Command("cp", "-a", dir, now).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		if last == "" || exec.Command("diff", "-rq", last, now).Run() != nil {
			states, last = append(states, now), now
		} else if err := os.RemoveAll(now); err != nil {
			t.Fatal(err)
		}
	})
	return states
}
