package dash

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent/fleet"
	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/sim"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/broker-config/brokertest"
)

// webFolder has the sources of the page, the scripts that look at it in a browser, and the
// versions of what both need, which npm puts beside them.
const webFolder = "web"

// installWeb does so once.
var installWeb = sync.OnceValues(func() (string, error) {
	npm := exec.Command("npm", "ci", "--engine-strict", "--ignore-scripts", "--no-audit", "--no-fund")
	npm.Dir = webFolder
	said, err := npm.CombinedOutput()
	return string(said), err
})

// mustInstall skips the test without npm, with a node that is too old, or where npm reaches
// no registry.
func mustInstall(tb testing.TB) {
	tb.Helper()
	brokertest.Program(tb, "npm")
	brokertest.Program(tb, "node")
	if said, err := installWeb(); err != nil {
		tb.Skipf("npm does not install what builds the page: %v\n%s", err, said)
	}
}

// look runs a script that looks at the page, whose lines it does, one after the other. The
// test fails if the script complains, and is skipped without a browser.
func look(tb testing.TB, does map[string]func(), script string, args ...string) {
	tb.Helper()
	mustInstall(tb)
	ctx, cancel := context.WithTimeout(tb.Context(), 2*time.Minute)
	defer cancel()
	c := exec.CommandContext(ctx, "node", append([]string{filepath.Join("test", script)}, args...)...)
	c.Dir, c.Env = webFolder, append(os.Environ(), "LIMBER_CHROMIUM="+brokertest.Program(tb, "chromium"))
	var complaints strings.Builder
	c.Stderr = &complaints
	in, err := c.StdinPipe()
	if err != nil {
		tb.Fatal(err)
	}
	out, err := c.StdoutPipe()
	if err == nil {
		err = c.Start()
	}
	if err != nil {
		tb.Fatal(err)
	}
	for lines := bufio.NewScanner(out); lines.Scan(); {
		f, ok := does[lines.Text()]
		if !ok {
			tb.Log(lines.Text())
			continue
		}
		f()
		fmt.Fprintln(in, "done")
	}
	if err := c.Wait(); err != nil {
		tb.Errorf("%s: %v\n%s", script, err, complaints.String())
	}
}

// simulate has devices at a broker until the test ends, whose load comes and goes.
func simulate(tb testing.TB, n int, addr string, telemetry time.Duration) {
	tb.Helper()
	profile, err := sim.ParseProfile(sim.Example)
	if err != nil {
		tb.Fatal(err)
	}
	profile.FPS = 2
	state, err := os.MkdirTemp(sim.StateFolder(), "limber-dash-")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { os.RemoveAll(state) })
	at := mqtt.Broker{URL: mqtt.URLs{"mqtt://" + addr}}
	f, err := sim.New(sim.Config{Devices: n, Seed: 1, Profile: profile, Fleet: yard, State: state, Version: "v1.5.0",
		Telemetry: telemetry, Broker: func(string) mqtt.Broker { return at }}, discard())
	if err != nil {
		tb.Fatal(err)
	}
	run(tb, f.Run)
}

// golden publishes a document of wire's, which is retained.
func golden(tb testing.TB, b *fleet.Mailbox, topic, name string) {
	tb.Helper()
	body, err := os.ReadFile(filepath.Join("../wire/testdata", name+".json"))
	if err == nil {
		err = b.Publish(tb.Context(), mqtt.Message{Topic: topic, Payload: bytes.TrimSpace(body), QoS: 1, Retained: true})
	}
	if err != nil {
		tb.Fatal(err)
	}
}

// TestInABrowserAFleetIsFilteredOpenedAndSteered has fifty devices, at the widths of a desk
// and of a phone. No screen may log an error, scroll sideways, ask another host, or have
// what axe calls serious.
func TestInABrowserAFleetIsFilteredOpenedAndSteered(t *testing.T) {
	addr, _ := broker(t, "127.0.0.1:0", nil)
	simulate(t, 50, addr, time.Second)
	s := serveTo(t, linkTo(addr, "", ""))
	b := mailbox(t, linkTo(addr, "", ""))
	controller := at(wire.Controller)
	publish(t, b, controller.State(), true, wire.State{State: wire.Online})
	golden(t, b, controller.Rollout("r-1"), "rollout-running")
	look(t, nil, "fifty.js", s.URL(), secret)
}

// TestInABrowserAThousandDevicesNeverHoldThePage has as many say what they measured every
// five seconds.
func TestInABrowserAThousandDevicesNeverHoldThePage(t *testing.T) {
	addr, _ := broker(t, "127.0.0.1:0", nil)
	s := serveTo(t, linkTo(addr, "", ""))
	b := mailbox(t, linkTo(addr, "", ""))
	for i := range 1000 {
		who := at(fmt.Sprintf("cam-%04d", i))
		publish(t, b, who.State(), true, wire.State{State: wire.Online, TS: wire.At(time.Now())})
		golden(t, b, who.Caps(), "caps-full")
	}
	run(t, func(ctx context.Context) error { return measure(ctx, b) })
	look(t, nil, "thousand.js", s.URL())
}

// measure publishes telemetry of a thousand devices until ctx ends.
func measure(ctx context.Context, b *fleet.Mailbox) error {
	full, err := os.ReadFile("../wire/testdata/telemetry-full.json")
	if err != nil {
		return err
	}
	pace := time.NewTicker(5 * time.Second / 1000)
	defer pace.Stop()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case now := <-pace.C:
			is := strings.NewReplacer("2026-01-31T12:00:00.123Z", now.UTC().Format(time.RFC3339Nano),
				`"jobs":1000`, fmt.Sprintf(`"jobs":%d`, 1000+n/10), `"p95_ms":9`, fmt.Sprintf(`"p95_ms":%d`, 9+n%7))
			m := mqtt.Message{Topic: at(fmt.Sprintf("cam-%04d", n%1000)).Telemetry(), Payload: []byte(is.Replace(string(full)))}
			if err := b.Publish(ctx, m); err != nil {
				return err
			}
		}
	}
}

// odd is a device by the name of what every object of a page has.
func odd() wire.Address { return at("constructor") }

// appear has it there, with members whose figures are at the ends of what a number holds.
func appear(tb testing.TB, b *fleet.Mailbox) {
	tb.Helper()
	member := func(name string, ms float64) wire.Member {
		return wire.Member{Name: name, Top1: 0.9, P50MS: new(ms), P95MS: new(ms)}
	}
	publish(tb, b, odd().State(), true, wire.State{State: wire.Online, TS: wire.At(time.Now())})
	publish(tb, b, odd().Caps(), true,
		wire.Caps{Members: []wire.Member{member("a", 1e-300), member("b", 1.7e308), member("c", 5)}})
}

// misspeak has it tell such figures, the nth time, and set its clock back twice.
func misspeak(tb testing.TB, b *fleet.Mailbox, n int) {
	tb.Helper()
	clock := wire.At(time.Now().Add(time.Duration(n) * time.Second))
	if n == 2 || n == 4 {
		clock = wire.At(time.Now().Add(-time.Minute))
	}
	publish(tb, b, odd().Telemetry(), false, wire.Telemetry{TS: clock, Member: "a", P95MS: new(1e300)})
}

func TestInABrowserAnEmptyFleetAndALostBrokerSayWhatToDo(t *testing.T) {
	addr, lose := broker(t, "127.0.0.1:0", nil)
	s, err := New(Config{Broker: linkTo(addr, "", ""), Fleet: yard, Listen: "127.0.0.1:0"}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	end := run(t, s.Run)
	said := 0
	look(t, map[string]func(){
		"lose the broker":           lose,
		"bring the broker back":     func() { broker(t, addr, nil) },
		"have a device there":       func() { appear(t, mailbox(t, linkTo(addr, "", ""))) },
		"let it say what cannot be": func() { said++; misspeak(t, mailbox(t, linkTo(addr, "", "")), said) },
		"end the server":            end,
	}, "trouble.js", s.URL())
}

// TestThePictureOfTheReadme makes it anew where it is asked for, of the demo of a program
// that was built: `make picture`.
func TestThePictureOfTheReadme(t *testing.T) {
	file, program := os.Getenv("LIMBER_PICTURE"), os.Getenv("LIMBER_PROGRAM")
	if file == "" {
		t.Skip("LIMBER_PICTURE names no file to write it to")
	}
	look(t, nil, "picture.js", program, file)
}

// TestThePageIsBuiltFromItsSources builds it anew: what is committed is that, byte for byte.
func TestThePageIsBuiltFromItsSources(t *testing.T) {
	mustInstall(t)
	built := t.TempDir()
	npm := exec.CommandContext(t.Context(), "npm", "run", "build", "--", "--outDir", built)
	npm.Dir = webFolder
	if said, err := npm.CombinedOutput(); err != nil {
		t.Fatalf("npm run build: %v\n%s", err, said)
	}
	want, got := files(t, built), files(t, filepath.Join(webFolder, "dist"))
	for name, b := range want {
		if got[name] != b {
			t.Errorf("dist/%s is not what the sources give: run `npm ci && npm run build` in agent/dash/web", name)
		}
	}
	for name := range got {
		if _, ok := want[name]; !ok {
			t.Errorf("dist/%s comes from no source: remove it", name)
		}
	}
}

// files are those of a folder, by their paths in it.
func files(tb testing.TB, folder string) map[string]string {
	tb.Helper()
	all := map[string]string{}
	root := os.DirFS(folder)
	err := fs.WalkDir(root, ".", func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		b, err := fs.ReadFile(root, path)
		all[path] = string(b)
		return err
	})
	if err != nil {
		tb.Fatal(err)
	}
	return all
}
