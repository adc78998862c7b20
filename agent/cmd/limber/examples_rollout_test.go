package main

import (
	"context"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/limber-edge/limber/firmware/repo"
)

// yard is a fleet of simulated devices that stands in for those that examples name.
type yard struct {
	url        string
	site, root string // of a repository, ./repo
	n          int    // rollouts so far
}

// mustYard has two devices of the site berlin, simulated so, in a folder with what examples
// need.
func mustYard(t *testing.T, so ...string) *yard {
	t.Helper()
	y := &yard{url: "mqtt://" + mustBroker(t)}
	t.Chdir(t.TempDir())
	y.mustRepository(t)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan int, 1)
	out := &stopper{stop: func() {}}
	go func() {
		ended <- run(ctx, append([]string{"sim", "-n", "2", "--broker", y.url, "--pack", "families", "--repository", y.site,
			"--root-file", y.root}, so...), out, out)
	}()
	t.Cleanup(func() {
		stop()
		if code := <-ended; code != exitDone {
			t.Errorf("sim: exit %d, %s", code, out)
		}
	})
	for end := time.Now().Add(time.Minute); ; {
		got := y.limber(t, "ls", "--where", "state=online", "--json")
		if strings.Count(got.stdout, "\n") == 2 {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("got %+v, want two devices; sim says %s", got, out)
		}
	}
	for _, name := range []string{"sim-0000", "sim-0001"} {
		y.must(t, "label", name, "site=berlin")
	}
	if err := os.Rename(filepath.Join("families", "day.family"), "mine.family"); err != nil { // that all of them have
		t.Fatal(err)
	}
	return y
}

// mustRepository has ./repo be a repository that is served, of releases that examples name.
func (y *yard) mustRepository(t *testing.T) {
	t.Helper()
	keys := keyring(t)
	mustLimber(t, "firmware", "repo", "init", "--repo", "repo", "--keys", keys)
	for _, v := range []string{"1.4.0", "1.5.0", "1.6.0"} {
		mustLimber(t, "firmware", "repo", "add", "--repo", "repo", "--keys", keys, "--version", v, "--arch", runtime.GOARCH,
			releaseFolder(t))
	}
	folder, err := os.OpenRoot("repo")
	if err != nil {
		t.Fatal(err)
	}
	site := httptest.NewServer(repo.NewHandler(folder))
	t.Cleanup(func() { site.Close(); folder.Close() })
	if y.root, err = filepath.Abs("repo/metadata/1.root.json"); err != nil {
		t.Fatal(err)
	}
	y.site = site.URL
}

// limber calls a command of the fleet.
func (y *yard) limber(t *testing.T, args ...string) ran {
	t.Helper()
	return limber(t, append(append([]string{"fleet"}, args...), "--broker", y.url, "--fleet", "demo")...)
}

func (y *yard) must(t *testing.T, args ...string) {
	t.Helper()
	if got := y.limber(t, args...); got.code != exitDone {
		t.Fatalf("fleet %s: %+v", strings.Join(args, " "), got)
	}
}

// as are the arguments of an example, with what there is here for what it names.
func (y *yard) as(e example, id string) (args []string) {
	other := map[string]string{"night": id, "device=cam-*": "device=sim-*", "device=desk": "device=sim-*", "group=@gate": "group=@all", "cam-1": "sim-0001",
		"group=@gate,arch=arm64": "group=@all,arch=" + runtime.GOARCH,
		"mqtts://broker:8883":    y.url, "192.0.2.10:8080": "127.0.0.1:0", "https://files.example/repo": y.site,
		"mqtt://127.0.0.1:1883": y.url, "http://127.0.0.1:8090": y.site}
	for _, arg := range e.args {
		if is, ok := other[arg]; ok {
			arg = is
		}
		args = append(args, strings.Replace(arg, "/var/lib", ".", 1))
	}
	if !slices.Contains(args, "--broker") {
		args = append(args, "--broker", y.url)
	}
	return args
}

// rollout starts one that an example can be of, and returns its id.
func (y *yard) rollout(t *testing.T, action string) (id string) {
	y.n++
	id = fmt.Sprintf("night-%d", y.n)
	deadline := fmt.Sprintf("%dms", 50+y.n) // which no device has yet
	start := []string{"rollout", "start", "--id", id, "--deadline", deadline, "--gate", "success=0.9", "--where"}
	switch action {
	case "approve": // its second phase may begin
		y.must(t, append(start, "label.site=berlin", "--soak", "0s", "--phases", "1,100%", "--approve")...)
		y.becomes(t, id, "approval")
	case "retry": // it failed on a device
		if got := y.limber(t, append(start, "label.site=berlin", "--min-top1", "0.99", "--wait")...); got.code != exitFailed || !strings.Contains(got.stdout, "failed") {
			t.Fatalf("%s: got %+v, want it failed", id, got)
		}
	case "watch --wait": // it ends
		y.must(t, append(start, "label.site=berlin", "--soak", "0s")...)
	default: // it goes on
		y.must(t, append(start, "label.site=berlin", "--soak", "1h")...)
	}
	return id
}

// becomes waits until a rollout is in a state.
func (y *yard) becomes(t *testing.T, id, state string) {
	t.Helper()
	for end := time.Now().Add(time.Minute); ; {
		got := y.limber(t, "rollout", "show", id, "--json")
		if strings.Contains(got.stdout, `"state":"`+state+`"`) {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%s: got %+v, want %s", id, got, state)
		}
	}
}

// TestEveryExampleOfRolloutsIsRun runs each with a controller that is an example itself, on
// a rollout of its own where it is of one; and simulations with the repository of releases.
func TestEveryExampleOfRolloutsIsRun(t *testing.T) {
	all := examples(t)
	y := mustYard(t)
	seen := map[string]bool{}
	var rollouts []example
	for _, e := range all {
		line := strings.Join(e.args, " ")
		switch {
		case seen[line]:
		case strings.HasPrefix(line, "fleet serve "):
			y.serves(t, e)
		case strings.HasPrefix(line, "sim ") && slices.Contains(e.args, "--repository"):
			e.succeeds(t, append(y.as(e, ""), "-n", "2", "--for", "1s", "--fleet", "examples"))
		case strings.HasPrefix(line, "fleet rollout "):
			rollouts = append(rollouts, e)
		}
		seen[line] = true
	}
	serveFleet(t, "fleet", "serve", "--state", filepath.Join(t.TempDir(), "state"), "--broker", y.url)
	for _, e := range rollouts {
		t.Run(strings.Join(e.args, " "), func(t *testing.T) { y.runs(t, e) })
	}
}

// serves runs a controller as an example has it, until it is found.
func (y *yard) serves(t *testing.T, e example) {
	t.Helper()
	t.Run(strings.Join(e.args, " "), func(t *testing.T) { serveFleet(t, y.as(e, "")...) })
}

// runs runs an example of a rollout.
func (y *yard) runs(t *testing.T, e example) {
	action, id := e.args[2], "night"
	if action == "watch" && slices.Contains(e.args, "--wait") {
		action = "watch --wait"
	}
	if action != "start" && action != "ls" {
		id = y.rollout(t, action)
	}
	out := &stopper{stop: func() {}}
	ctx := t.Context()
	if action == "watch" { // it goes on until it is stopped
		soon, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		ctx, out.stop = soon, cancel
	}
	want := exitDone
	if slices.Contains(e.args, "families/night.family") || slices.Contains(e.args, "1.6.0") { // which fail on purpose
		want = exitFailed
	}
	if code := run(ctx, y.as(e, id), out, out); code != want {
		t.Errorf("exit %d, want %d: %s", code, want, out)
	}
	y.end(t)
}

// end aborts what goes on, and waits for that, so that the next is not in its way.
func (y *yard) end(t *testing.T) {
	t.Helper()
	for line := range strings.Lines(y.limber(t, "rollout", "ls", "--json").stdout) {
		_, id, _ := strings.Cut(line, `"id":"`)
		id, _, _ = strings.Cut(id, `"`)
		if y.limber(t, "rollout", "abort", id).code == exitDone { // one that has ended refuses that
			y.becomes(t, id, "aborted")
		}
	}
}
