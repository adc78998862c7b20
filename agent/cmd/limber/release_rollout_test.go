package main

import (
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// rollout starts one on the device, by a release of the repository.
func (f *firmware) rollout(code int, version, want string, more ...string) {
	f.Helper()
	args := append([]string{"fleet", "rollout", "start", "--broker", f.url, "--release", version, "--id",
		"r-" + strings.ReplaceAll(version, ".", "-"), "--where", "device=desk", "--gate", "success=1"}, more...)
	if got := limber(f.T, args...); got.code != code || !strings.Contains(got.stdout+got.stderr, want) {
		f.Fatalf("%s: got %+v; want exit %d, and %q", version, got, code, want)
	}
}

// TestAReleaseIsRolledOutToARealDeviceAndBack has one that proves itself, one that does not,
// and one whose rollout is taken back. That what runs are scripts in front of one program
// saves the building of others.
func TestAReleaseIsRolledOutToARealDeviceAndBack(t *testing.T) {
	t.Parallel()
	f := mustFirmware(t, "mqtt://"+mustBroker(t))
	f.runs("1.4.0")
	serveFleet(t, "fleet", "serve", "--state", t.TempDir(), "--broker", f.url)
	same := map[string]string{"limber": "#!/bin/sh\nexec " + f.program(t, ".", "1.4.0") + ` "$@"` + "\n"}
	f.release("1.5.0", same)
	f.rollout(exitDone, "1.5.0", "done", "--repo", f.dir, "--soak", "0s", "--wait")
	f.runs("1.5.0")
	for _, args := range []string{"ls", "show r-1-5-0"} {
		got := limber(t, append(strings.Fields("fleet rollout "+args), "--broker", f.url)...)
		if got.code != exitDone || !strings.Contains(got.stdout, "release 1.5.0") {
			t.Errorf("%s: got %+v; want what is rolled out", args, got)
		}
	}

	f.release("1.6.0", map[string]string{"limber": "#!/bin/sh\necho 'panic: no such board' >&2\nexit 3\n"})
	f.rollout(exitFailed, "1.6.0", "it went back: release 1.6.0 did not prove itself: crash", "--repository", f.site,
		"--root-file", filepath.Join(f.dir, "metadata", "1.root.json"), "--soak", "0s", "--wait")

	f.release("1.5.1", same)
	f.rollout(exitDone, "1.5.1", "1 device in 1 phase", "--repo", f.dir, "--soak", "1h")
	f.shows("r-1-5-1", `"state":"succeeded"`)
	if got := limber(t, "fleet", "rollout", "abort", "r-1-5-1", "--rollback", "--broker", f.url); got.code != exitDone {
		t.Fatalf("got %+v", got)
	}
	f.shows("r-1-5-1", `"state":"rolled_back"`)
	f.runs("1.5.1")
	f.runs("1.5.0")
	f.answers()
}

// shows waits until the rollout says something as JSON.
func (f *firmware) shows(id, want string) {
	f.Helper()
	for end := time.Now().Add(time.Minute); ; {
		got := limber(f.T, "fleet", "rollout", "show", id, "--json", "--broker", f.url)
		if strings.Contains(got.stdout, want) {
			return
		}
		if time.Now().After(end) {
			f.Fatalf("%s: got %+v, want %s", id, got, want)
		}
	}
}
