//go:build linux

package update

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/limber-edge/limber/agent/control/controltest"
	"github.com/limber-edge/limber/agent/engine"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/store"
)

// killedEnv names the state folder of the run that is killed, and killedCase its case.
const killedEnv, killedCase = "UPDATE_TEST_FOLDER", "UPDATE_TEST_CASE"

// killCase is a command that is carried out, and how it ends.
type killCase struct {
	more           string // of the command
	missed, agreed int    // of 200 frames
	family         string // in use then
	state          wire.Step
	reason         wire.Reason
	rolledBack     bool
	states         int  // that a kill leaves, at least
	rare           bool // its kills are tried by torture alone
}

func killCases() map[string]killCase {
	const shadow = `,"shadow":{"agreement":0.97%s}`
	return map[string]killCase{
		"succeeds":              {"", 0, 0, "next", wire.CommandSucceeded, "", false, 20, true},
		"goes back":             {"", 21, 0, stockName, wire.CommandFailed, wire.Infeasible, true, 20, false},
		"compared and succeeds": {fmt.Sprintf(shadow, ""), 0, 194, "next", wire.CommandSucceeded, "", false, 20, false},
		"disagrees": {fmt.Sprintf(shadow, ""), 0, 193, stockName, wire.CommandFailed, wire.Disagreement, false,
			14, true},
		"compared only": {fmt.Sprintf(shadow, `,"only":true`), 0, 200, stockName, wire.CommandSucceeded, "", false,
			14, false},
	}
}

// killed is a device that has one command carried out.
func killed(tb testing.TB, dir string, tt killCase) *device {
	d := &device{tb: tb, dir: dir, free: 1 << 40, carrier: &carrier{blobs: family.MemoryBlobs{}},
		engine: &fakeEngine{faults: map[string]error{}, state: engine.Ready}, cfg: Config{Folder: dir}}
	d.engine.answers = map[string]engine.Tally{"next": {Answered: 200, Missed: uint64(tt.missed)}}
	d.engine.agrees = map[string]engine.Compared{"next": {Frames: 200, Agreed: tt.agreed}}
	d.first = Left{ID: "u1", Payload: []byte(asked(d.offer("next"), tt.more))}
	return d
}

// TestKilledChild is the run that is stopped at each of its writes.
func TestKilledChild(t *testing.T) {
	dir := os.Getenv(killedEnv)
	if dir == "" {
		t.Skip("runs only as a child")
	}
	d := killed(t, dir, killCases()[os.Getenv(killedCase)])
	d.sync = true
	d.start()
	defer d.stop()
	for {
		known, err := d.st.Command(wire.VerbFamily + "/u1")
		if err == nil && wire.Step(known.State).Final() {
			return
		}
		<-time.After(time.Millisecond)
	}
}

// What a process leaves that is killed is what it wrote. It is stopped whenever it waits
// for the disk, twice a commit, and what is there then is started from.
func TestAKillAfterAnyWriteEndsWithAWholeFamilyAndTheSameEnd(t *testing.T) {
	if _, err := exec.LookPath("strace"); err != nil {
		t.Skip("strace is not installed")
	}
	t.Parallel()
	for name, tt := range killCases() {
		if tt.rare && everyState > 1 {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel() // it waits for the disk
			states := stopAtWrites(t, name)
			t.Logf("%d states", len(states))
			if len(states) < tt.states {
				t.Errorf("got %d states, want some %d", len(states), tt.states)
			}
			seen := map[string]bool{}
			for i, state := range states {
				if i%everyState > 0 {
					continue
				}
				t.Run(fmt.Sprint(i), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						d := killed(t, filepath.Join(filepath.Dir(state), fmt.Sprint(i)), tt)
						seen[d.startFrom(state)] = true
						defer d.stop()
						pass(time.Minute)
						d.ended("u1", tt)
						d.wants(tt.family, "", "")
						if d.engine.running.Name != tt.family {
							t.Errorf("%s answers, want %s", d.engine.running.Name, tt.family)
						}
					})
				})
			}
			if takesOver := tt.rolledBack || tt.family == "next"; !seen[stockName] || seen["next"] != takesOver {
				t.Errorf("in use after a kill was one of %v; want the new one after some: %t", seen, takesOver)
			}
		})
	}
}

// startFrom starts from what a kill left, with the command as the broker delivers it again.
// It returns the family that is in use then, which must be whole.
func (d *device) startFrom(state string) string {
	d.tb.Helper()
	err := os.MkdirAll(d.dir, 0o700)
	if err == nil {
		err = os.Rename(state, filepath.Join(d.dir, "limber.db"))
	}
	if err != nil {
		d.tb.Fatal(err)
	}
	d.open()
	current := d.lib.Current()
	if missing := d.lib.Missing(current); len(missing) > 0 {
		d.tb.Errorf("family %s is not whole: it lacks %q", current.Name, missing)
	}
	d.box.Close()
	d.st.Close()
	d.start()
	return current.Name
}

// ended fails unless the command ended so, as the ledger and the status have it.
func (d *device) ended(id string, tt killCase) {
	d.tb.Helper()
	var a wire.Ack
	known, err := d.st.Command(wire.VerbFamily + "/" + id)
	if err == nil {
		err = wire.Decode(known.Answer, &a)
	}
	if err != nil || a.State != tt.state || a.Reason != tt.reason || a.RolledBack != tt.rolledBack {
		d.tb.Errorf("got %s, %v; want %s %s, rolled back: %t", known.Answer, err, tt.state, tt.reason, tt.rolledBack)
	}
	last := d.Updater.Status().Last
	if last == nil || last.State != tt.state || last.Reason != tt.reason {
		d.tb.Fatalf("the last update: got %+v", last)
	}
	for _, shadow := range []*wire.Agreement{a.Shadow, last.Shadow} {
		if (shadow != nil) != (tt.more != "") || shadow != nil && (shadow.Frames != 200 || shadow.Agreed != tt.agreed) {
			d.tb.Errorf("compared: got %+v", shadow)
		}
	}
}

// stopAtWrites returns copies of limber.db, one for each time that a run waited for the
// disk.
func stopAtWrites(t *testing.T, name string) (states []string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "state")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	st, err := store.Open(dir, store.Options{NoSync: true}, discard())
	if err != nil {
		t.Fatal(err)
	}
	st.Close()
	var now, last []byte
	env := []string{killedEnv + "=" + dir, killedCase + "=" + name}
	controltest.StopAtWrites(t, "TestKilledChild", "fdatasync", env, func() {
		if now, err = readInto(now, filepath.Join(dir, "limber.db")); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(now, last) {
			path := filepath.Join(filepath.Dir(dir), fmt.Sprintf("at-%d.db", len(states)))
			if err := os.WriteFile(path, now, 0o600); err != nil {
				t.Fatal(err)
			}
			states, now, last = append(states, path), last, now
		}
	})
	return states
}

// readInto reads a file into memory that was used before: new memory costs the race
// detector more than the file does.
func readInto(b []byte, path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	b = slices.Grow(b[:0], int(info.Size()))[:info.Size()]
	_, err = io.ReadFull(f, b)
	return b, err
}
