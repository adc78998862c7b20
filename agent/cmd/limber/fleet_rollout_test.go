package main

import (
	"bytes"
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestARolloutFromTheCommandLine(t *testing.T) {
	d := mustDesk(t)
	at := func(args ...string) []string { return append(append([]string{"fleet"}, args...), "--broker", d.url) }
	began := time.Now()
	limber(t, at("rollout", "ls")...).complained(t, exitFailed, "no controller", "limber fleet serve --state")
	if took := time.Since(began); took > 4*time.Second { // 2 s and what a busy machine takes
		t.Errorf("got %v until it was said, want at most 2 s", took)
	}
	state := t.TempDir()
	serveFleet(t, at("serve", "--state", state)...)
	limber(t, at("serve", "--state", state)...).complained(t, exitLocked, "in use by another process")
	await(t, exitLocked, at("serve", "--state", t.TempDir())...)

	limber(t, at("serve", "--state", state, "--log-level", "loud")...).complained(t, exitUsage, `--log-level "loud"`)
	limber(t, at("rollout", "start", "--mode", "balanced", "--where", "colour=blue")...).complained(t, exitUsage, "--where")
	limber(t, at("rollout", "start", "--mode", "balanced", "--max-unavailable", "0/site")...).complained(t, exitUsage, "no device start")
	limber(t, at("rollout", "start", "--mode", "balanced", "--probation", "1/1")...).complained(t, exitUsage, "--probation is of a family")
	file := filepath.Join(t.TempDir(), "stock.family")
	if got := limber(t, "family", "pack", "--out", file); got.code != exitDone {
		t.Fatalf("family pack: %+v", got)
	}
	for flags, want := range map[string]string{
		"--release 1.5.0": "--repo DIR, or --repository URL",
		"--release 1.5":   "is no version",
		"--release 1.5.0 --repository http://127.0.0.1":                        "one wants the other",
		"--release 1.5.0 --repo d --root-file f":                               "one wants the other",
		"--release 1.5.0 --repo d --repository http://127.0.0.1 --root-file f": "--repo DIR, or --repository URL",
		"--mode balanced --downgrade":                                          "are of a --release",
		"--release 1.5.0 --repo d --mode balanced":                             "want one of",
		"--release 1.5.0 --repo d --probation 1/1":                             "has a trial",
		"--mode balanced --shadow-only":                                        "are of a --family",
		"--mode balanced --gate agreement=0.97":                                "agreement is of a family",
		"--family FILE --shadow-only --rollback":                               "nothing to go back from",
		"--family FILE --shadow-only --gate p95=1.2x":                          "p95 is of a family in use",
		"--family FILE --shadow-only --probation 1/1":                          "with --shadow-only none is",
		"--family FILE --shadow-percent 0":                                     "percent: 0 is not in",
	} {
		limber(t, at(append([]string{"rollout", "start"}, strings.Fields(strings.Replace(flags, "FILE", file, 1))...)...)...).complained(t, exitUsage, want)
	}
	limber(t, at("rollout", "start", "--release", "1.5.0", "--repo", t.TempDir())...).complained(t, exitFailed, "release 1.5.0: ", "repo init")
	limber(t, at("rollout", "start", "--family", "f", "--probation", "few")...).complained(t, exitUsage, "FRAMES/MAX_MISSED")
	limber(t, at("rollout", "start", "--mode", "balanced", "--soak", "-1s")...).complained(t, exitUsage, "--soak -1s")
	limber(t, at("rollout", "start", "--mode", "balanced", "--gate", "misses=1.2")...).complained(t, exitUsage, "1.2x is times")
	limber(t, at("rollout", "start", "--where", "device=desk")...).complained(t, exitUsage, "--family")
	limber(t, at("rollout", "start", "--mode", "balanced", "--observe", "0")...).complained(t, exitUsage, "--observe")
	for _, step := range []struct {
		want string // that is printed
		code int
		args []string
	}{
		{"fleet demo had no rollout", exitDone, []string{"rollout", "ls"}},
		{"", exitDone, []string{"label", "desk", "site=berlin"}},
		{"1 device in 1 phase", exitDone, []string{"rollout", "start", "--mode", "power-save", "--where", "label.site=berlin",
			"--id", "night"}},
		{"mode power-save", exitDone, []string{"rollout", "ls"}},
		{"mode power-save for label.site=berlin, started 20", exitDone, []string{"rollout", "show", "night"}},
		{"success", exitDone, []string{"rollout", "show", "night"}},
		{`"id":"night"`, exitDone, []string{"rollout", "show", "night", "--json"}},
		{"night", exitDone, []string{"rollout", "pause", "night"}},
		{"night", exitDone, []string{"rollout", "resume", "night"}},
		{"no phase that waits", exitFailed, []string{"rollout", "approve", "night"}},
		{"failed on no device", exitFailed, []string{"rollout", "retry", "night"}},
		{"is about to end, and devices go back", exitDone, []string{"rollout", "abort", "night", "--rollback"}},
		{"aborted", exitFailed, []string{"rollout", "watch", "night", "--wait"}},
		{"done", exitDone, []string{"rollout", "start", "--deadline", "50ms", "--min-top1", "0.8", "--where", "device=desk*", "--phases",
			"1,100%", "--gate", "success=0.9", "--soak", "0s", "--for", "1m", "--id", "day", "--wait"}},
		{`"state":"done"`, exitDone, []string{"rollout", "watch", "day", "--wait", "--json"}},
		{"done", exitDone, []string{"rollout", "start", "--family", file, "--id", "stock", "--wait"}},
		{"1 already there", exitDone, []string{"rollout", "show", "stock"}},
		{"done", exitDone, []string{"rollout", "start", "--family", file, "--id", "beside", "--shadow-only", "--wait"}},
		{"there is no rollout dawn", exitFailed, []string{"rollout", "show", "dawn"}},
	} {
		got := limber(t, at(step.args...)...)
		if got.code != step.code || !strings.Contains(got.stdout+got.stderr, step.want) {
			t.Errorf("fleet %s: got %+v; want exit %d, and %q", strings.Join(step.args, " "), got, step.code, step.want)
		}
	}
}

// serveFleet runs a controller until the test ends, and waits until it is there.
func serveFleet(t *testing.T, args ...string) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan int, 1)
	var out bytes.Buffer
	go func() { ended <- run(ctx, args, &out, &out) }()
	t.Cleanup(func() {
		cancel()
		if code := <-ended; code != exitDone {
			t.Errorf("the controller: exit %d, %s", code, out.String())
		}
	})
	ls := []string{"fleet", "rollout", "ls", "--broker", args[len(args)-1]}
	await(t, exitDone, ls...)
}

// await tries until the exit code is as wanted.
func await(t *testing.T, code int, args ...string) {
	t.Helper()
	for end := time.Now().Add(time.Minute); ; {
		got := limber(t, args...)
		if got.code == code {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%v: got %+v, want exit %d", args, got, code)
		}
	}
}
