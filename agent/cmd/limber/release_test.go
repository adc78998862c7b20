package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent/fleet"
	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/firmware/repo"
	"github.com/limber-edge/limber/firmware/slot"
)

// built are programs by their version, each linked once.
type built struct {
	sync.Mutex
	dir   string
	paths map[string]string
}

// program builds the program with a version, with more arguments for the compiler.
func (b *built) program(t *testing.T, of, version string, more ...string) string {
	t.Helper()
	b.Lock()
	defer b.Unlock()
	if path := b.paths[of+version]; path != "" {
		return path
	}
	path := filepath.Join(b.dir, filepath.Base(of)+"-"+version)
	args := append([]string{"build", "-ldflags", "-s -w -X main.version=" + version, "-o", path}, more...)
	if out, err := exec.Command("go", append(args, of)...).CombinedOutput(); err != nil {
		t.Fatalf("build %s %s: %v\n%s", of, version, err, out)
	}
	b.paths[of+version] = path
	return path
}

// firmware is a device under limber-boot, its broker and a repository of releases.
type firmware struct {
	*testing.T
	built
	state, url string
	dir, keys  string // of the repository
	site       string
	config     string
	words      *lines // of limber-boot and all that it ran
	boot       *exec.Cmd
	heard      *fleet.Mailbox
	manifests  map[string]*repo.Manifest
	sent       atomic.Int64 // bytes, by the repository
}

// metered counts the bytes that a handler sends.
type metered struct {
	http.Handler
	sent *atomic.Int64
}

func (c metered) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.Handler.ServeHTTP(meter{w, c.sent}, r)
}

type meter struct {
	http.ResponseWriter
	sent *atomic.Int64
}

func (c meter) Write(b []byte) (int, error) {
	n, err := c.ResponseWriter.Write(b)
	c.sent.Add(int64(n))
	return n, err
}

// lines is what a process writes to stderr.
type lines struct {
	sync.Mutex
	bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.Lock()
	defer l.Unlock()
	return l.Buffer.Write(b)
}

func (l *lines) String() string {
	l.Lock()
	defer l.Unlock()
	return l.Buffer.String()
}

const trialTime = 15 * time.Second

// mustFirmware runs the release 1.4.0 as that of the package.
func mustFirmware(t *testing.T, url string) *firmware {
	t.Helper()
	return mustFirmwareOn(t, url, url)
}

// mustFirmwareOn is mustFirmware for a device whose way to the broker is its own.
func mustFirmwareOn(t *testing.T, way, url string) *firmware {
	t.Helper()
	f := &firmware{T: t, built: built{dir: t.TempDir(), paths: map[string]string{}}, state: t.TempDir(), url: url,
		dir: filepath.Join(t.TempDir(), "repo"), keys: t.TempDir(), words: new(lines), manifests: map[string]*repo.Manifest{}}
	if err := os.CopyFS(f.state, os.DirFS(prepared(t))); err != nil {
		t.Fatal(err)
	}
	f.sign()
	f.config = filepath.Join(t.TempDir(), "limber.toml")
	mustWrite(t, f.config, fmt.Appendf(nil, "state = %q\n[broker]\nurl = %q\nreconnect_max = \"1s\"\n[updates]\n"+
		"root_file = %q\nrepository = [%q]\ntrial = %q\n", f.state, way, filepath.Join(f.dir, "metadata", "1.root.json"), f.site,
		trialTime))
	f.hear()
	f.launch()
	return f
}

// sign makes a repository and serves it.
func (f *firmware) sign() {
	f.Helper()
	for _, role := range repo.Roles() {
		if _, err := repo.GenerateKey(role, filepath.Join(f.keys, role+".pem")); err != nil {
			f.Fatal(err)
		}
	}
	ring, err := repo.ReadKeys(f.keys)
	if err != nil {
		f.Fatal(err)
	}
	r, err := repo.Init(f.dir, ring, repo.Setup{}, time.Now())
	if err == nil {
		_, err = r.Publish()
	}
	if err != nil {
		f.Fatal(err)
	}
	folder, err := os.OpenRoot(f.dir)
	if err != nil {
		f.Fatal(err)
	}
	site := httptest.NewServer(metered{repo.NewHandler(folder), &f.sent})
	f.Cleanup(func() { site.Close(); folder.Close() })
	f.site = site.URL
}

// release signs one, of files by their path.
func (f *firmware) release(version string, files map[string]string) {
	f.Helper()
	dir := f.TempDir()
	for path, content := range files {
		if strings.HasPrefix(content, "#!") {
			mustWrite(f.T, filepath.Join(dir, path), []byte(content))
		} else if out, err := exec.Command("cp", content, filepath.Join(dir, path)).CombinedOutput(); err != nil {
			f.Fatalf("%v\n%s", err, out)
		}
		if err := os.Chmod(filepath.Join(dir, path), 0o755); err != nil {
			f.Fatal(err)
		}
	}
	ring, err := repo.ReadKeys(f.keys)
	if err != nil {
		f.Fatal(err)
	}
	r, err := repo.Open(f.dir, ring, time.Now())
	if err != nil {
		f.Fatal(err)
	}
	m := &repo.Manifest{Version: version, Arch: runtime.GOARCH, State: repo.TwoWay}
	if err = r.Pack(dir, m); err == nil {
		err = r.AddRelease(m)
	}
	if err == nil {
		_, err = r.Publish()
	}
	if err != nil {
		f.Fatal(err)
	}
	f.manifests[version] = m
}

// hear subscribes to what the device says.
func (f *firmware) hear() {
	f.Helper()
	cfg := mqtt.Default()
	cfg.Broker, cfg.ClientID = f.url, "hears"
	self := wire.Address{Fleet: "demo", Device: "desk"}
	var err error
	f.heard, err = fleet.OpenMailbox(cfg, slog.New(slog.DiscardHandler), self.Filter(wire.KindEvent), self.Caps(), self.Filter(wire.KindAck))
	if err != nil {
		f.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f.heard.Run(ctx) }()
	f.Cleanup(func() { cancel(); <-done })
}

// next is the next message that fits.
func next[T any](f *firmware, kind wire.Kind, fits func(T) bool) (v T) {
	f.Helper()
	ctx, cancel := context.WithTimeout(f.Context(), 90*time.Second)
	defer cancel()
	for {
		m, err := f.heard.Next(ctx)
		if err != nil {
			f.Fatalf("%s: %v\n%s", kind, err, f.words)
		}
		topic, err := wire.ParseTopic(m.Topic)
		if err != nil || topic.Kind != kind {
			continue
		}
		var got T
		if err := json.Unmarshal(m.Payload, &got); err == nil && fits(got) {
			return got
		}
	}
}

// launch starts limber-boot.
func (f *firmware) launch() {
	f.Helper()
	f.boot = exec.Command(f.program(f.T, "../limber-boot", "1"), "--state", f.state, "--",
		f.program(f.T, ".", "1.4.0"), "agent", "--config", f.config)
	f.boot.Env = append(os.Environ(), asProgram+"=")
	f.boot.Stderr = f.words
	f.boot.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := f.boot.Start(); err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() {
		f.boot.Process.Signal(syscall.SIGTERM)
		f.boot.Wait()
		if f.Failed() {
			f.Logf("limber-boot and what it ran:\n%s", f.words)
		}
	})
}

// runs waits until a version runs.
func (f *firmware) runs(version string) {
	f.Helper()
	next(f, wire.KindCaps, func(c wire.Caps) bool { return c.Release != nil && c.Release.Version == version })
}

// order sends a command for a release.
func (f *firmware) order(id, version, more string) {
	f.Helper()
	payload := fmt.Sprintf(`{"version":%q,"digest":"sha256:%s"%s}`, version, f.manifests[version].Digest(), more)
	var out, bad bytes.Buffer
	if code := run(f.Context(), []string{"fleet", "cmd", "release", "desk", "--payload", payload, "--ttl", "10m", "--async",
		"--broker", f.url}, &out, &bad); code != exitDone {
		f.Fatalf("%s: exit %d, %s", id, code, bad.String())
	}
}

// ends waits for the last state of the command.
func (f *firmware) ends(state wire.Step, reason wire.Reason, rolledBack bool) {
	f.Helper()
	a := f.last()
	if a.State != state || a.Reason != reason || a.RolledBack != rolledBack {
		f.Errorf("got %+v; want %s %s, rolled back: %t", a, state, reason, rolledBack)
	}
}

func (f *firmware) last() wire.Ack {
	f.Helper()
	return next(f, wire.KindAck, func(a wire.Ack) bool { return a.Verb == wire.VerbRelease && a.State.Final() })
}

// fails waits for the event of a release that went back, and wants its last words.
func (f *firmware) fails(reason slot.Reason, tail string) {
	f.Helper()
	e := next(f, wire.KindEvent, func(e wire.Event) bool { return e.Kind == wire.EventUpdate && e.Reason != "" })
	if e.Reason != string(reason) || !strings.Contains(e.Tail, tail) || !strings.Contains(e.Detail, tail) {
		f.Errorf("got %q, %q and the tail %q; want %s with %q", e.Reason, e.Detail, e.Tail, reason, tail)
	}
}

// answers has a job answered.
func (f *firmware) answers() {
	f.Helper()
	picture, _ := mustFrame(f.T, 0)
	var out, bad bytes.Buffer
	if code := run(f.Context(), []string{"publish", picture, "--broker", f.url, "--wait", "30s"}, &out, &bad); code != exitDone {
		f.Errorf("no answer: exit %d, %s", code, bad.String())
	}
}

func TestAReleaseThatProvesItselfIsConfirmedAndOneThatEndsAtOnceGoesBack(t *testing.T) {
	t.Parallel()
	f := mustFirmware(t, "mqtt://"+mustBroker(t))
	f.runs("1.4.0")
	f.release("1.5.0", map[string]string{"limber": f.program(t, ".", "1.5.0"), "notice.txt": "#! words"})
	f.order("u1", "1.5.0", "")
	f.runs("1.5.0")
	f.ends(wire.CommandSucceeded, "", false)
	f.answers()

	f.release("1.6.0", map[string]string{"limber": "#!/bin/sh\necho 'panic: no such board' >&2\nexit 3\n", "notice.txt": "#! words"})
	f.order("u2", "1.6.0", "")
	f.fails(slot.Crash, "panic: no such board")
	f.ends(wire.CommandFailed, wire.Internal, true)
	f.answers()
	f.order("u3", "1.6.0", "")
	f.ends(wire.CommandRejected, wire.Precondition, false)
	f.order("u4", "1.5.0", "")
	f.ends(wire.CommandSucceeded, "", false) // it runs
}
