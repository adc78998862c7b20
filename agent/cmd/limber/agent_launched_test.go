package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/limber-edge/limber/firmware/slot"
)

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
