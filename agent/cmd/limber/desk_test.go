package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent/fleet"
	"github.com/limber-edge/limber/agent/frame"
	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/family/ort/orttest"
	"github.com/limber-edge/limber/family/stock"
)

// desk is a broker and a running `limber agent`.
type desk struct {
	url   string
	state string
	stop  context.CancelFunc
	ended chan int // the agent's exit code
	log   *bytes.Buffer
}

// mustDesk starts both and waits until the agent knows all of its members.
func mustDesk(t *testing.T) *desk {
	t.Helper()
	state := t.TempDir()
	if err := os.CopyFS(state, os.DirFS(prepared(t))); err != nil {
		t.Fatal(err)
	}
	d := mustDeskOn(t, state)
	d.awaitPrepared(t)
	return d
}

// envPrepared names the folder with the state that desks start from.
const envPrepared = "LIMBER_TEST_STATE"

// prepared is the state of a device that measured its members, made by the first test
// that needs it.
func prepared(t *testing.T) (state string) {
	t.Helper()
	state = os.Getenv(envPrepared)
	if _, err := os.Stat(filepath.Join(state, "limber.db")); err != nil {
		var out bytes.Buffer
		if code := run(t.Context(), []string{"agent", "--profile", "--state", state}, &out, &out); code != exitDone {
			t.Fatalf("exit %d, %s", code, out.String())
		}
	}
	return state
}

// mustDeskOn starts both, the agent with a state folder.
func mustDeskOn(t *testing.T, state string) *desk {
	t.Helper()
	d := &desk{url: "mqtt://" + mustBroker(t), state: state, ended: make(chan int, 1), log: new(bytes.Buffer)}
	config := filepath.Join(t.TempDir(), "limber.toml")
	mustWrite(t, config, []byte("[telemetry]\nevery = \"1s\"\n"))
	working, stop := context.WithCancel(t.Context())
	d.stop = stop
	go func() {
		d.ended <- run(working, []string{"agent", "--config", config, "--broker", d.url, "--state", d.state}, d.log, d.log)
	}()
	t.Cleanup(func() {
		stop()
		select {
		case <-d.ended:
		case <-time.After(10 * time.Second):
			t.Error("the agent did not stop")
		}
	})
	return d
}

// asProgram makes the test binary the program itself, which every process is that
// the tests start.
const asProgram = "LIMBER_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main() // which exits
	}
	if err := os.Setenv(asProgram, "1"); err != nil {
		panic(err)
	}
	os.Setenv("GORACE", "atexit_sleep_ms=0") // every process would sleep for a second before it ends
	orttest.Use()
	dir, err := os.MkdirTemp("", "limber-test-")
	if err != nil {
		panic(err)
	}
	os.Setenv(envPrepared, dir)
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// mustBroker runs `limber broker` as a process of its own, so that the race
// detector looks at our code and not at the embedded library's.
func mustBroker(t *testing.T, args ...string) (addr string) {
	t.Helper()
	addr, _ = mustBrokers(t, args...)
	return addr
}

// mustBrokers is mustBroker for one that may serve WebSockets as well.
func mustBrokers(t *testing.T, args ...string) (addr, web string) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command(exe, append([]string{"broker", "--listen", "127.0.0.1:0"}, args...)...)
	stderr, err := c.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Process.Kill()
		c.Wait()
	})
	lines := bufio.NewScanner(stderr)
	for lines.Scan() {
		_, after, ok := strings.Cut(lines.Text(), "broker=")
		switch after = strings.Trim(after, "\" "); {
		case !ok:
			continue
		case addr == "":
			addr = after
		default:
			web = after
		}
		if web != "" || !slices.Contains(args, "--ws") {
			go io.Copy(io.Discard, stderr)
			return addr, web
		}
	}
	t.Fatal("the broker did not say where it listens")
	return "", ""
}

// awaitOnline returns the device's state once it is online.
func (d *desk) awaitOnline(t *testing.T) wire.State {
	t.Helper()
	return d.awaitState(t, func(s wire.State) bool { return s.State == wire.Online })
}

// awaitPrepared returns the device's state once it knows what its members can do.
func (d *desk) awaitPrepared(t *testing.T) wire.State {
	t.Helper()
	return d.awaitState(t, func(s wire.State) bool {
		return s.State == wire.Online && !strings.HasPrefix(s.Detail, "preparing")
	})
}

func (d *desk) awaitState(t *testing.T, fits func(wire.State) bool) wire.State {
	t.Helper()
	cfg := mqtt.Default()
	cfg.Broker, cfg.ClientID = d.url, "watcher"
	s, err := fleet.OpenMailbox(cfg, slog.New(slog.DiscardHandler), wire.Address{Fleet: "demo", Device: "desk"}.State())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	defer func() { cancel(); <-done }()
	for {
		m, err := s.Next(ctx)
		if err != nil {
			t.Fatalf("the agent did not come online: %v", err)
		}
		var state wire.State
		if wire.Decode(m.Payload, &state) == nil && fits(state) {
			return state
		}
	}
}

// limber runs a command against the desk and returns what it printed.
func (d *desk) limber(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	var out, err bytes.Buffer
	code = run(t.Context(), append(args, "--broker", d.url), &out, &err)
	return out.String(), err.String(), code
}

// mustFrame writes test image i as a PNG file.
func mustFrame(t *testing.T, i int) (path string, label int) {
	t.Helper()
	sheet, err := stock.Sheet(frame.OpenSheet)
	if err != nil {
		t.Fatal(err)
	}
	png, err := sheet.PNG(i)
	if err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(t.TempDir(), "frame.png")
	if err := os.WriteFile(path, png, 0o600); err != nil {
		t.Fatal(err)
	}
	return path, sheet.Label(i)
}

func TestADeskAnswersItsOperator(t *testing.T) {
	d := mustDesk(t)
	t.Run("publish prints the class", d.publishes)
	t.Run("a refused frame fails and says why", d.refuses)
	t.Run("fleet ls lists the device", func(t *testing.T) {
		out, _, code := d.limber(t, "fleet", "ls")
		if code != exitDone || !strings.Contains(out, "desk") || !strings.Contains(out, "online") || !strings.Contains(out, "balanced") {
			t.Errorf("exit %d, %q; want desk, online, balanced", code, out)
		}
	})
	t.Run("fleet show says what is known", d.shows)
	t.Run("fleet label labels, and --where finds", d.labels)
	t.Run("fleet cmd prints every state", d.commands)
	t.Run("fleet watch tells of a change", d.watches)
	t.Run("fleet explain shows the last decisions", d.explains)
	t.Run("fleet mode sets the mode", d.changesMode)
	t.Run("fleet goal sets a goal", d.changesGoal)
	t.Run("fleet power needs the owner's permission", d.keepsPower)
	t.Run("fleet set sets the desired state", d.changesDesired)
	t.Run("T7 a second agent on the same state is refused", func(t *testing.T) {
		var errs bytes.Buffer
		code := run(t.Context(), []string{"agent", "--state", d.state, "--broker", d.url}, &errs, &errs)
		if code != exitLocked || !strings.Contains(errs.String(), "in use by another process") {
			t.Errorf("exit %d, %q; want %d and who holds it", code, errs.String(), exitLocked)
		}
	})
	t.Run("T2 being asked to stop is no failure", func(t *testing.T) {
		d.stop()
		select {
		case code := <-d.ended:
			d.ended <- code // for the cleanup
			if code != exitDone {
				t.Errorf("exit %d, log %s; want 0", code, d.log)
			}
		case <-time.After(10 * time.Second):
			t.Fatal("the agent did not stop")
		}
		if out, _, _ := d.limber(t, "fleet", "ls"); !strings.Contains(out, "offline") {
			t.Errorf("got %q, want the device offline", out)
		}
		if out, errs, code := d.limber(t, "fleet", "forget", "desk"); code != exitDone || !strings.Contains(out, "desk: cleared state, caps, reported, desired, labels") {
			t.Errorf("exit %d, %q, %q; want all that was retained cleared", code, out, errs)
		}
		if out, _, _ := d.limber(t, "fleet", "ls"); !strings.Contains(out, "no device of fleet demo has ever been") {
			t.Errorf("got %q, want nobody", out)
		}
	})
}

func (d *desk) publishes(t *testing.T) {
	png, label := mustFrame(t, 1)
	out, errs, code := d.limber(t, "publish", "--json", png)
	var r wire.Result
	if err := json.Unmarshal([]byte(out), &r); code != exitDone || err != nil || r.Status != wire.OK || len(r.Classes) != 5 {
		t.Fatalf("exit %d, %q, %q, %v; want one ok result of five classes", code, out, errs, err)
	}
	if r.Classes[0].Index != label || !r.Met {
		t.Errorf("got %+v, met %v; want class %d in time", r.Classes[0], r.Met, label)
	}
	if out, _, code := d.limber(t, "publish", png); code != exitDone || !strings.Contains(out, "frame.png: "+r.Classes[0].Label) {
		t.Errorf("exit %d, %q; want the label %s", code, out, r.Classes[0].Label)
	}
}

func (d *desk) refuses(t *testing.T) {
	text := filepath.Join(t.TempDir(), "notes.txt")
	mustWrite(t, text, []byte("not a frame"))
	out, errs, code := d.limber(t, "publish", text)
	if code != exitFailed || !strings.Contains(out, "refused, invalid: the frame is neither JPEG, PNG nor WebP") || !strings.Contains(errs, "1 of 1 frames were refused") {
		t.Errorf("exit %d, %q, %q; want 1 and the reason", code, out, errs)
	}
	if _, errs, code := d.limber(t, "publish", "--min-top1", "2", text); code != exitUsage {
		t.Errorf("exit %d, %q; want 2 for a min-top1 of 2", code, errs)
	}
}

func (d *desk) explains(t *testing.T) {
	out, errs, code := d.limber(t, "fleet", "explain", "desk")
	for _, want := range []string{"mode balanced", "MEMBER  EXPECTED MS  IN TIME %  WORTH", "  >  ", "ms of inference"} {
		if code != exitDone || !strings.Contains(out, want) {
			t.Errorf("exit %d, %q, %q; want %q", code, out, errs, want)
		}
	}
	out, errs, code = d.limber(t, "fleet", "explain", "desk", "--json")
	var first wire.Decision
	if err := json.NewDecoder(strings.NewReader(out)).Decode(&first); code != exitDone || err != nil || first.InferMS == nil || len(first.Options) < 2 {
		t.Errorf("exit %d, %q, %q, %v; want a decision a line", code, out, errs, err)
	}
	if _, errs, code = d.limber(t, "fleet", "explain", "nobody", "--wait", "100ms"); code != exitFailed || !strings.Contains(errs, "no telemetry of nobody within 100ms") {
		t.Errorf("exit %d, %q; want 1 and that nothing came", code, errs)
	}
	if _, errs, code = d.limber(t, "fleet", "explain", "@all"); code != exitUsage {
		t.Errorf("a group: exit %d, %q; want 2", code, errs)
	}
}

func (d *desk) shows(t *testing.T) {
	out, errs, code := d.limber(t, "fleet", "show", "desk")
	for _, want := range []string{"state       online for ", "pursues     balanced\n", "family      cifar10, sha256:", ", operating\n", "telemetry   of "} {
		if code != exitDone || !strings.Contains(out, want) {
			t.Errorf("exit %d, %q, %q; want %q", code, out, errs, want)
		}
	}
	out, errs, code = d.limber(t, "fleet", "show", "desk", "--json")
	var whole fleet.Whole
	if err := json.Unmarshal([]byte(out), &whole); code != exitDone || err != nil || whole.Telemetry == nil || whole.Caps == nil || len(whole.Caps.Members) == 0 {
		t.Errorf("exit %d, %q, %q, %v; want caps and telemetry", code, out, errs, err)
	}
	if _, errs, code = d.limber(t, "fleet", "show", "nobody"); code != exitFailed || !strings.Contains(errs, "nothing is known of a device nobody") {
		t.Errorf("exit %d, %q; want 1 and that nothing is known", code, errs)
	}
}

func (d *desk) labels(t *testing.T) {
	for _, tt := range []struct{ args, out, errs string }{
		{"fleet label desk site=berlin line=2", "line=2\nsite=berlin\n", ""},
		{"fleet label desk line- --json", `{"device":"desk","labels":{"site":"berlin"}}` + "\n", ""},
		{"fleet label cam-9 a=b", "a=b\n", "cam-9 has not been at this broker so far\n"},
		{"fleet forget cam-9 --json", `{"device":"cam-9","cleared":["labels"]}` + "\n", ""},
		{"fleet forget cam-9", "nothing was known of cam-9\n", ""},
		{"fleet ls --where label.site=rome", "fleet demo has 1 device: none fits\n", ""},
		{"fleet ls --where label.site=rome --json", "", ""},
	} {
		out, errs, code := d.limber(t, strings.Fields(tt.args)...)
		if code != exitDone || out != tt.out || errs != tt.errs {
			t.Errorf("%s: exit %d, %q, %q; want %q, %q", tt.args, code, out, errs, tt.out, tt.errs)
		}
	}
	if out, _, _ := d.limber(t, "fleet", "ls", "--where", "label.site=berlin,can=60s@0.85,family=cifar10"); !strings.Contains(out, "desk    online") {
		t.Errorf("got %q, want the desk", out)
	}
}

func (d *desk) commands(t *testing.T) {
	for _, tt := range []struct {
		args []string
		code int
		out  string
		says string
	}{
		{[]string{"mode", "desk", "--payload", `{"mode":"balanced"}`}, exitDone, "desk: received\ndesk: accepted\ndesk: executing\ndesk: succeeded\n", "command "},
		{[]string{"mode", "@all", "--payload", `{"mode":"warp"}`}, exitFailed, "desk: rejected (invalid): mode", "did not succeed on 1 of 1 devices"},
		{[]string{"dance", "desk"}, exitFailed, "desk: rejected (unsupported)", "1 of 1"},
		{[]string{"mode", "desk", "--payload", `{"mode":"balanced"}`, "--json"}, exitDone, `,"verb":"mode","state":"succeeded",`, ""},
		{[]string{"mode", "nobody", "--payload", `{"mode":"balanced"}`, "--async", "--json"}, exitDone, `,"verb":"mode","target":"nobody"}`, ""},
		{[]string{"mode", "nobody", "--payload", `{"mode":"balanced"}`}, exitFailed, "", "no device of fleet demo that is online answers to nobody"},
	} {
		out, errs, code := d.limber(t, append([]string{"fleet", "cmd"}, tt.args...)...)
		if code != tt.code || !strings.Contains(out, tt.out) || !strings.Contains(errs, tt.says) {
			t.Errorf("%v: exit %d, %q, %q; want %d, %q, %q", tt.args, code, out, errs, tt.code, tt.out, tt.says)
		}
	}
}

// watches sees the device, and then that it pursues something else.
func (d *desk) watches(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out, printed := io.Pipe()
	code := make(chan int, 1)
	go func() {
		code <- run(ctx, []string{"fleet", "watch", "--broker", d.url}, printed, io.Discard)
		printed.Close()
	}()
	lines := bufio.NewScanner(out)
	for _, mode := range []string{"balanced", "low-latency"} {
		if mode != "balanced" {
			d.limber(t, "fleet", "mode", "desk", mode)
		}
		for lines.Scan() && !strings.Contains(lines.Text(), "\tdesk\tonline\t"+mode+"\t") {
		}
		if ctx.Err() != nil {
			t.Fatalf("no line has %s", mode)
		}
	}
	cancel()
	for lines.Scan() { // what was under way
	}
	if got := <-code; got != exitDone {
		t.Errorf("exit %d, want 0 for one that was stopped", got)
	}
	d.limber(t, "fleet", "mode", "desk", "balanced")
}

func (d *desk) changesMode(t *testing.T) {
	for _, tt := range []struct {
		target, mode string
		code         int
		want         string
	}{
		{"desk", "max-accuracy", exitDone, "desk: succeeded"},
		{"@all", "low-latency", exitDone, "desk: succeeded"},
		{"desk", "fixed:nobody", exitFailed, "desk: rejected (invalid)"},
		{"desk", "nonsense", exitFailed, `desk: rejected (invalid): mode "nonsense" is not known; supported are balanced`},
		{"a/b", "balanced", exitUsage, ""},
		{"absent", "balanced", exitFailed, ""},
	} {
		out, errs, code := d.limber(t, "fleet", "mode", tt.target, tt.mode)
		if code != tt.code || !strings.Contains(out, tt.want) {
			t.Errorf("%s %s: exit %d, %q, %q; want %d, %q", tt.target, tt.mode, code, out, errs, tt.code, tt.want)
		}
	}
}

func (d *desk) changesGoal(t *testing.T) {
	for _, tt := range []struct {
		args string
		code int
		want string
	}{
		{"desk --deadline 70s --min-top1 0.75 --prefer latency", exitDone, "desk: succeeded"},
		{"desk --min-top1 0.99", exitFailed, "desk: rejected (infeasible): no member reaches a top-1 of 0.99"},
		{"@all --max-watts 5 --json", exitFailed, `"reason":"infeasible"`},
		{"desk --min-top1 0.99 --json", exitFailed, `"nearest":{"min_top1":0.8`},
		{"desk", exitUsage, ""},
		{"desk --min-top1 75", exitUsage, ""},
		{"desk --prefer speed", exitUsage, ""},
		{"desk --deadline 0s", exitUsage, ""},
		{"a/b --prefer energy", exitUsage, ""},
		{"absent --prefer energy", exitFailed, ""},
	} {
		out, errs, code := d.limber(t, append([]string{"fleet", "goal"}, strings.Fields(tt.args)...)...)
		if code != tt.code || !strings.Contains(out, tt.want) {
			t.Errorf("%s: exit %d, %q, %q; want %d, %q", tt.args, code, out, errs, tt.code, tt.want)
		}
	}
	png, _ := mustFrame(t, 1)
	if out, errs, code := d.limber(t, "publish", "--json", png); code != exitDone || !strings.Contains(out, `"deadline_ms":70000,`) {
		t.Errorf("exit %d, %q, %q; want the goal's deadline", code, out, errs)
	}
}

func (d *desk) keepsPower(t *testing.T) {
	for _, tt := range []struct {
		args string
		code int
		want string
	}{
		{"desk clock-75", exitFailed, "desk: rejected (unauthorized): changing the power mode was not allowed on this device: its configuration must have power.set_mode = true"},
		{"@all MAXN --json", exitFailed, `"state":"rejected","reason":"unauthorized"`},
		{"desk", exitUsage, ""},
		{"a/b MAXN", exitUsage, ""},
		{"absent MAXN", exitFailed, ""},
	} {
		out, errs, code := d.limber(t, append([]string{"fleet", "power"}, strings.Fields(tt.args)...)...)
		if code != tt.code || !strings.Contains(out, tt.want) {
			t.Errorf("%s: exit %d, %q, %q; want %d, %q", tt.args, code, out, errs, tt.code, tt.want)
		}
	}
}

func (d *desk) changesDesired(t *testing.T) {
	for _, tt := range []struct {
		args string
		code int
		want string
	}{
		{"desk --mode power-save", exitDone, "desk: applied, version 1: power-save"},
		{"desk --min-top1 0.75 --prefer energy", exitDone, "desk: applied, version 2: a top-1 of 0.75, rather energy"},
		{"@all --min-top1 0.99", exitFailed, "desk: rejected, version 3 (infeasible): no member reaches a top-1 of 0.99"},
		{"@all --mode low-latency --json", exitDone, `{"device":"desk","version":4,"status":"applied","mode":"low-latency"}`},
		{"desk --mode fixed:nobody", exitFailed, "desk: rejected, version 5 (invalid)"},
		{"desk --mode balanced --force-version", exitDone, "desk: applied, version 6: balanced"},
		{"desk --mode warp", exitUsage, ""},
		{"desk --mode balanced --min-top1 0.5", exitUsage, ""},
		{"desk", exitUsage, ""},
		{"desk --max-watts 0", exitUsage, ""},
		{"a/b --mode balanced", exitUsage, ""},
		{"absent --mode balanced", exitFailed, ""},
	} {
		out, errs, code := d.limber(t, append([]string{"fleet", "set"}, strings.Fields(tt.args)...)...)
		if code != tt.code || !strings.Contains(out, tt.want) {
			t.Errorf("%s: exit %d, %q, %q; want %d, %q", tt.args, code, out, errs, tt.code, tt.want)
		}
	}
}

func TestAnAbsentBrokerIsNamedWithARemedy(t *testing.T) {
	t.Parallel()
	soon, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond) // a command waits for five seconds
	defer cancel()
	var errs bytes.Buffer
	code := run(soon, []string{"fleet", "ls", "--broker", "127.0.0.1:1"}, &errs, &errs)
	if code != exitFailed || !strings.Contains(errs.String(), "127.0.0.1:1") || !strings.Contains(errs.String(), "limber broker") {
		t.Errorf("exit %d, %q; want 1, the address and the remedy", code, errs.String())
	}
}
