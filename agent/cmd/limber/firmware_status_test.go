package main

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/limber-edge/limber/firmware/slot"
)

// mustStage has a release of an empty program staged, and on trial.
func mustStage(t *testing.T, state, version string) {
	t.Helper()
	const empty = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	a := slot.Open(state).Agent(slot.Package)
	program := slot.File{Path: slot.Program, Digest: empty, Mode: 0o755}
	r := slot.Release{Version: version, Digest: empty, Files: []slot.File{program}}
	open := func(slot.File) (io.ReadCloser, error) { return io.NopCloser(new(bytes.Reader)), nil }
	err := errors.Join(a.Fetch(version, empty, nil), a.Stage(t.Context(), r, open), a.Switch(time.Minute),
		slot.Open(state).Launcher().Count(""))
	if err != nil {
		t.Fatal(err)
	}
}

func TestFirmwareStatusTellsOfATrialAndOfItsEnd(t *testing.T) {
	state := t.TempDir()
	status := func(wants ...string) {
		t.Helper()
		got := limber(t, "firmware", "status", "--state", state)
		asJSON := limber(t, "firmware", "status", "--state", state, "--json")
		if got.code != exitDone || got.stderr != "" || asJSON.code != exitDone || strings.Count(asJSON.stdout, "\n") != 1 {
			t.Fatalf("got %+v and %+v", got, asJSON)
		}
		for _, want := range wants {
			if !strings.Contains(got.stdout, want) && !strings.Contains(asJSON.stdout, want) {
				t.Errorf("got %s and %s, want them to say %q", got.stdout, asJSON.stdout, want)
			}
		}
	}
	status("slot      package\n", "phase     idle\n",
		`{"slot":"package","version":"`+version+`","phase":"idle","starts":0,"previous":"package","refused":[],"last":null}`)
	mustStage(t, state, "1.4.0")
	status("slot      a\nversion   1.4.0\nphase     trial\nstarts    1\nprevious  package\n",
		`{"slot":"a","version":"1.4.0","phase":"trial","starts":1,"previous":"package","refused":[],"last":null}`)
	if _, err := slot.Open(state).Launcher().Back(slot.Canary, "boom\x1b[2J\n"); err != nil {
		t.Fatal(err)
	}
	status("\nrefused   sha256:e3b0c442", "\nlast      1.4.0 rolled-back canary 20", "\n\nboom[2J\n",
		`"refused":["sha256:e3b0c442`, `"last":{"version":"1.4.0","outcome":"rolled-back","reason":"canary",`+
			`"tail":"boom\u001b[2J\n","ts":"20`)
}

func TestFirmwareStatusSaysWhatCannotBeReadAndWhatRunsThen(t *testing.T) {
	state := t.TempDir()
	mustStage(t, state, "1.4.0")
	mustWrite(t, filepath.Join(state, "slots/phase.json"), []byte("{"))
	got := limber(t, "firmware", "status", "--state", state)
	if got.code != exitDone || !strings.Contains(got.stdout, "slot      package\n") ||
		!strings.Contains(got.stderr, "phase.json: damaged") {
		t.Errorf("got %+v", got)
	}
	limber(t, "firmware", "status", "--state", filepath.Join(state, "slots/phase.json")).complained(t, exitFailed,
		"is a file, and no state folder")
	if err := os.RemoveAll(state); err != nil {
		t.Fatal(err)
	}
	limber(t, "firmware", "status", "--state", state).complained(t, exitFailed,
		"name the state folder of the device with --state")
	if err := os.Mkdir(state, 0o000); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() != 0 { // who may read everything
		limber(t, "firmware", "status", "--state", state).complained(t, exitFailed, "run it as root")
	}
}
