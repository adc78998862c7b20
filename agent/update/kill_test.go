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
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/limber-edge/limber/agent/control/controltest"
	"github.com/limber-edge/limber/agent/engine"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/store"
)

// killedEnv names the state folder of the run that is killed, and how it would end.
const killedEnv, killedMissed = "UPDATE_TEST_FOLDER", "UPDATE_TEST_MISSED"

// killed is a device that has one command carried out, whose family misses deadlines.
func killed(tb testing.TB, dir string, missed uint64) *device {
	d := &device{tb: tb, dir: dir, free: 1 << 40, carrier: &carrier{blobs: family.MemoryBlobs{}},
		engine: &fakeEngine{faults: map[string]error{}, state: engine.Ready}, cfg: Config{Folder: dir}}
	d.engine.answers = map[string]engine.Tally{"next": {Answered: 200, Missed: missed}}
	d.first = Left{ID: "u1", Payload: []byte(asked(d.offer("next"), ""))}
	return d
}

// TestKilledChild is the run that is stopped at each of its writes.
func TestKilledChild(t *testing.T) {
	dir := os.Getenv(killedEnv)
	if dir == "" {
		t.Skip("runs only as a child")
	}
	missed, _ := strconv.ParseUint(os.Getenv(killedMissed), 10, 64)
	d := killed(t, dir, missed)
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
	for name, tt := range map[string]struct {
		missed uint64
		family string
	}{"succeeds": {0, "next"}, "goes back": {21, stockName}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // it waits for the disk
			states := stopAtWrites(t, tt.missed)
			t.Logf("%d states", len(states))
			if len(states) < 20 {
				t.Errorf("got %d states, want some twenty", len(states))
			}
			seen := map[string]bool{}
			for i, state := range states {
				if i%everyState > 0 {
					continue
				}
				t.Run(fmt.Sprint(i), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						d := killed(t, filepath.Join(filepath.Dir(state), fmt.Sprint(i)), tt.missed)
						if err := os.MkdirAll(d.dir, 0o700); err != nil {
							t.Fatal(err)
						}
						if err := os.Rename(state, filepath.Join(d.dir, "limber.db")); err != nil {
							t.Fatal(err)
						}
						d.open()
						current := d.lib.Current().Name
						seen[current] = true
						if missing := d.lib.Missing(d.lib.Current()); len(missing) > 0 {
							t.Errorf("family %s is not whole: it lacks %q", current, missing)
						}
						d.box.Close()
						d.st.Close()
						d.start() // which takes the command as the broker delivers it again
						defer d.stop()
						pass(time.Minute)
						want := wire.CommandSucceeded
						if tt.missed > 0 {
							want = wire.CommandFailed
						}
						known, err := d.st.Command(wire.VerbFamily + "/u1")
						if err != nil || known.State != string(want) ||
							bytes.Contains(known.Answer, []byte("rolled_back")) != (tt.missed > 0) {
							t.Errorf("got %s %s, %v; want %s", known.State, known.Answer, err, want)
						}
						d.wants(tt.family, "", "")
						if d.engine.running.Name != tt.family {
							t.Errorf("%s answers, want %s", d.engine.running.Name, tt.family)
						}
					})
				})
			}
			if !seen["next"] || !seen[stockName] {
				t.Errorf("in use after a kill was one of %v, want each of both after some", seen)
			}
		})
	}
}

// stopAtWrites returns copies of limber.db, one for each time that a run waited for the
// disk.
func stopAtWrites(t *testing.T, missed uint64) (states []string) {
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
	env := []string{killedEnv + "=" + dir, fmt.Sprintf("%s=%d", killedMissed, missed)}
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
