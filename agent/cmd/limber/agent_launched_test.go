package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/limber-edge/limber/firmware/slot"
)

func TestTheLauncherHearsNothingOfAnAgentWhoseWorkStandsStillForLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var beats atomic.Int64
		var stands atomic.Bool
		heard := func(d time.Duration) bool {
			beats.Store(0)
			<-time.After(d)
			synctest.Wait()
			return beats.Load() >= int64(d/beatPace)-1
		}
		watch, stop := beat(func() { beats.Add(1) })
		defer stop()
		if !heard(time.Hour) {
			t.Error("it hangs while it opens its parts")
		}
		watch(func() bool { return !stands.Load() })
		if !heard(time.Hour) {
			t.Error("it hangs while the work goes on")
		}
		stands.Store(true)
		if !heard(stalled - time.Second) {
			t.Error("an inference that takes long is a hang")
		}
		if heard(time.Minute) {
			t.Error("it is alive though nothing goes on")
		}
		stands.Store(false)
		if !heard(time.Minute) {
			t.Error("it hangs though the work goes on again")
		}
	})
}

func TestAnAgentTakesNoReleasesWhereItsLauncherHasAnotherState(t *testing.T) {
	dir := t.TempDir()
	state, link := filepath.Join(dir, "state"), filepath.Join(dir, "link")
	for _, folder := range []string{state, filepath.Join(dir, "other")} {
		if err := os.Mkdir(folder, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(state, link); err != nil {
		t.Fatal(err)
	}
	for boot, want := range map[string]bool{state: true, link: true, "": true, filepath.Join(dir, "other"): false,
		filepath.Join(dir, "absent"): false} {
		var log bytes.Buffer
		got := slotsOf(&slot.Child{Slot: slot.Package, State: boot}, state, newLogger(&log, "info")) != nil
		if got != want || strings.Contains(log.String(), "--state "+state) == want {
			t.Errorf("launcher's %q: got %v, %q; want slots: %v", boot, got, &log, want)
		}
	}
	absent := filepath.Join(dir, "absent")
	if slotsOf(&slot.Child{Slot: slot.Package, State: absent}, absent, newLogger(new(bytes.Buffer), "info")) == nil {
		t.Error("no slots in a state that is not there yet")
	}
}
