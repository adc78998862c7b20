package control

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/firmware/power"
)

// machine is a tree with the sys and etc of a board.
type machine struct {
	t    *testing.T
	root string
}

func (m machine) write(path string, value any) {
	m.t.Helper()
	path = filepath.Join(m.root, path)
	err := os.MkdirAll(filepath.Dir(path), 0o700)
	if err == nil {
		err = os.WriteFile(path, []byte(fmt.Sprintln(value)), 0o700)
	}
	if err != nil {
		m.t.Fatal(err)
	}
}

// limit sets the highest clock of both processors, in MHz of 2000.
func (m machine) limit(mhz int) {
	m.t.Helper()
	for n := range 2 {
		dir := fmt.Sprintf("sys/devices/system/cpu/cpu%d/cpufreq/", n)
		m.write(dir+"cpuinfo_max_freq", 2_000_000)
		m.write(dir+"scaling_cur_freq", 2_000_000)
		m.write(dir+"scaling_max_freq", 1000*mhz)
	}
}

// mustFake is a copy of a board of firmware/power's, with a stand-in for nvpmodel.
func mustFake(t *testing.T, name string) machine {
	t.Helper()
	m := machine{t, t.TempDir()}
	for _, part := range []string{"boards/" + name, "tool"} {
		if err := os.CopyFS(m.root, os.DirFS(filepath.Join("../../firmware/power/testdata", part))); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

func (m machine) read(path string) string {
	m.t.Helper()
	b, err := os.ReadFile(filepath.Join(m.root, path))
	if err != nil {
		m.t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}

var allowed = PowerConfig{SetMode: true, Boot: "first"}

// withPower lets a rig set the power mode of a machine, and counts the changes.
func withPower(m machine, p PowerConfig, changes *atomic.Int64, change ...func(*PowerDeps)) with {
	return func(r *rig, _ *Config, verbs *[]Verb) {
		deps := PowerDeps{Board: power.New(m.root), State: r.state, Events: r.events, Changed: func() { changes.Add(1) },
			Lock: func() (func(), error) { return func() {}, nil }}
		for _, c := range change {
			c(&deps)
		}
		r.power = NewPower(p, deps, discard())
		*verbs = append(*verbs, r.power.Verb())
		go r.power.Run(context.Background())
	}
}

func TestCommandSetsThePowerModeOnce(t *testing.T) {
	m, changes := machine{t, t.TempDir()}, new(atomic.Int64)
	m.limit(2000)
	bubble(t, func(t *testing.T, dir string) {
		r := mustRig(t, dir, withPower(m, allowed, changes))
		first := r.command("power", `{"power_mode":"clock-50","ttl_ms":60000}`)
		first.succeeds(t)
		if got := first.steps(); !slices.Equal(got, allSteps) {
			t.Errorf("got states %v, want %v", got, allSteps)
		}
		m.limit(1500) // by somebody on the device
		q, p := ofCommand("power", "c1", `{"power_mode":"clock-50","ttl_ms":60000}`)
		r.take(q)
		again := r.command("power", `{"power_mode":"clock-100","ttl_ms":60000}`)
		again.fails(t, wire.CommandFailed, wire.Busy, "power mode clock-100: the mode changes at most once in ten seconds")
		time.Sleep(10 * time.Second)
		r.command("power", `{"power_mode":"clock-100","ttl_ms":60000}`).succeeds(t)
		if p.bytes != first.bytes {
			t.Errorf("the same command again: got %s, want %s", p.bytes, first.bytes)
		}
		r.command("power", `{"power_mode":"clock-100","ttl_ms":60000}`).succeeds(t) // in force already
		want := []string{"the board's power mode is clock-50; it was clock-100",
			"the board's power mode is clock-100; it was clock-75"}
		if got := r.events.of(wire.EventPower); !slices.Equal(got, want) || changes.Load() != 2 {
			t.Errorf("told %q and %d changes, want %q", got, changes.Load(), want)
		}
		if got := r.Verbs(); !slices.Equal(got, []string{"mode", "goal", "power"}) {
			t.Errorf("verbs: got %q", got)
		}
	})
}

func TestPowerCommandsAreJudged(t *testing.T) {
	t.Parallel()
	const boot = `{"power_mode":"MODE_15W","at_reboot":true,"allow_reboot":true,"ttl_ms":60000}`
	as := func(file string) func(m machine) { return func(m machine) { m.write("fake/"+file, "") } }
	for _, tt := range []struct {
		name    string
		change  func(m machine)
		allowed PowerConfig
		payload string
		state   wire.Step
		reason  wire.Reason
		detail  string // part of it
	}{
		{"nvpmodel obeys", nil, allowed, `{"power_mode":"MODE_15W","ttl_ms":60000}`, wire.CommandSucceeded, "", ""},
		{"in force already", as("fails"), allowed, `{"power_mode":"MODE_20W_6CORE","ttl_ms":60000}`, wire.CommandSucceeded, "", ""},
		{"it takes a reboot", nil, allowed, `{"power_mode":"MODE_10W_2CORE","ttl_ms":60000}`, wire.CommandFailed,
			wire.NeedsReboot, "--at-reboot leaves it to the board's next start"},
		{"it is left to the next start", nil, allowed, `{"power_mode":"MODE_10W_2CORE","at_reboot":true,"ttl_ms":60000}`,
			wire.CommandSucceeded, "", "takes effect at the next start"},
		{"nvpmodel fails", as("fails"), allowed, `{"power_mode":"MODE_15W","ttl_ms":60000}`, wire.CommandFailed,
			wire.Internal, "NVPM ERROR: failed to set power mode!"},
		{"nvpmodel hangs", as("hangs"), allowed, `{"power_mode":"MODE_15W","ttl_ms":6000}`, wire.CommandTimedOut, wire.Expired,
			"did not end in time"},
		{"nvpmodel is missing", func(m machine) { os.Remove(filepath.Join(m.root, "usr/sbin/nvpmodel")) }, allowed,
			`{"power_mode":"MODE_15W","ttl_ms":60000}`, wire.CommandFailed, wire.Unsupported, "install NVIDIA's package"},
		{"unknown mode", nil, allowed, `{"power_mode":"clock-50","ttl_ms":60000}`, wire.CommandRejected,
			wire.Invalid, "there are MODE_15W, MODE_15W_4CORE, "},
		{"no mode", nil, allowed, `{"ttl_ms":60000}`, wire.CommandRejected, wire.Invalid, "no power_mode"},
		{"mode of another verb", nil, allowed, `{"mode":"balanced","ttl_ms":60000}`, wire.CommandRejected,
			wire.Invalid, "use the verb mode"},
		{"no expiry", nil, allowed, `{"power_mode":"MODE_15W"}`, wire.CommandRejected, wire.Invalid, "ttl_ms"},
		{"now and later", nil, allowed, boot, wire.CommandRejected, wire.Invalid, "both at_reboot and allow_reboot"},
		{"no permission", nil, PowerConfig{}, `{"power_mode":"MODE_15W","ttl_ms":60000}`, wire.CommandRejected,
			wire.Unauthorized, "power.set_mode = true"},
		{"no permission to reboot", nil, allowed, `{"power_mode":"MODE_15W","allow_reboot":true,"ttl_ms":60000}`,
			wire.CommandRejected, wire.Unauthorized, "power.allow_reboot = true"},
		{"no modes", func(m machine) {
			os.RemoveAll(filepath.Join(m.root, "etc"))
			os.RemoveAll(filepath.Join(m.root, "sys"))
		},
			allowed, `{"power_mode":"MAXN","ttl_ms":60000}`, wire.CommandRejected, wire.Unsupported, "no power modes"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m := mustFake(t, "xavier-nx")
			if tt.change != nil {
				tt.change(m)
			}
			// A process of the system does not wait in a bubble.
			r := mustRig(t, t.TempDir(), withPower(m, tt.allowed, new(atomic.Int64)))
			p := r.send("power", "p", tt.payload)
			<-p.over
			p.fails(t, tt.state, tt.reason, tt.detail)
		})
	}
}

// sends sends a command for a power mode and waits for its end.
func (r *rig) sends(id, payload string) *reply {
	p := r.send("power", id, payload)
	<-p.over
	return p
}

// reboots is what is known of the modes of a board.
func (r *rig) reboots() (known string) {
	for _, m := range r.power.Status().List {
		known += fmt.Sprintf("%d %s ", m.ID, m.Reboot)
	}
	return strings.TrimSpace(known)
}

func TestWhatAModeTakesIsLearnedAndKept(t *testing.T) {
	t.Parallel()
	m, dir, changes := mustFake(t, "xavier-nx"), t.TempDir(), new(atomic.Int64)
	r := mustRig(t, dir, withPower(m, allowed, changes))
	if got, want := r.reboots(), "0 unknown 1 unknown 2 unknown 3 unknown 8 unknown"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	r.sends("a", `{"power_mode":"MODE_10W_2CORE","ttl_ms":60000}`)
	r.sends("b", `{"power_mode":"MODE_15W","ttl_ms":60000}`).succeeds(t)
	const want = "0 none 1 unknown 2 unknown 3 required 8 unknown"
	if got := r.reboots(); got != want || r.power.Status().Mode != "MODE_15W" || changes.Load() != 3 {
		t.Errorf("got %q in %s and %d changes, want %q", got, r.power.Status().Mode, changes.Load(), want)
	}
	r.stop()
	if r = mustRig(t, dir, withPower(m, allowed, changes)); r.reboots() != want {
		t.Errorf("after a restart: got %q, want %q", r.reboots(), want)
	}
	pc := mustRig(t, t.TempDir(), withPower(mustFake(t, "pc"), allowed, changes))
	if got, want := pc.reboots(), "0 none 1 none 2 none"; got != want {
		t.Errorf("a PC: got %q, want %q", got, want)
	}
}

func TestAModeThatWaitsForTheNextStartIsNotSaidToBeInForce(t *testing.T) {
	t.Parallel()
	m, dir, changes := mustFake(t, "xavier-nx"), t.TempDir(), new(atomic.Int64)
	keep := allowed
	keep.Keep = true
	r := mustRig(t, dir, withPower(m, keep, changes))
	r.sends("a", `{"power_mode":"MODE_10W_2CORE","at_reboot":true,"ttl_ms":60000}`).succeeds(t)
	for _, when := range []string{"at once", "after the agent was started again"} {
		<-r.power.ready
		if got := r.power.Status().Mode; got != "MODE_20W_6CORE" || m.read("var/lib/nvpmodel/status") != "pmode:0003 fmode:quiet" {
			t.Errorf("%s: got %s and %s, want MODE_20W_6CORE until the start", when, got, m.read("var/lib/nvpmodel/status"))
		}
		r.stop()
		r = mustRig(t, dir, withPower(m, keep, changes))
	}
	r.stop()
	m.write("fake/live", 3)
	keep.Boot = "second"
	r = mustRig(t, dir, withPower(m, keep, changes))
	<-r.power.ready
	if got := r.power.Status().Mode; got != "MODE_10W_2CORE" || len(r.events.of(wire.EventPower)) > 0 {
		t.Errorf("after the start: got %s, told %q", got, r.events.of(wire.EventPower))
	}
}

func TestTheModeSetLastIsRestoredIfItIsToBeKept(t *testing.T) {
	for _, keep := range []bool{false, true} {
		m, changes := mustFake(t, "pc"), new(atomic.Int64)
		bubble(t, func(t *testing.T, dir string) {
			cfg := allowed
			cfg.Keep = keep
			r := mustRig(t, dir, withPower(m, cfg, changes))
			r.command("power", `{"power_mode":"clock-50","ttl_ms":60000}`).succeeds(t)
			r.stop()
			m.limit(2000) // as a start of the board does
			r = mustRig(t, dir, withPower(m, cfg, changes))
			synctest.Wait()
			want := map[bool]string{false: "clock-100", true: "clock-50"}[keep]
			if got := r.power.Status().Mode; got != want {
				t.Errorf("keep %t: got %s, want %s", keep, got, want)
			}
			r.stop()
			m.limit(2000)
			m.write("sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq", "unknown") // it cannot be set any more
			m.write("sys/devices/system/cpu/cpu1/cpufreq/cpuinfo_max_freq", 1_000_000)
			r = mustRig(t, dir, withPower(m, cfg, changes))
			synctest.Wait()
			if got := len(r.events.of(wire.EventPower)) > 0; got != keep {
				t.Errorf("keep %t: told %q", keep, r.events.of(wire.EventPower))
			}
		})
	}
}

func TestThatNvpmodelAndItsFileDisagreeIsToldOnce(t *testing.T) {
	t.Parallel()
	m := mustFake(t, "xavier-nx")
	m.write("fake/live", 2)
	r := mustRig(t, t.TempDir(), withPower(m, allowed, new(atomic.Int64)))
	r.sends("a", `{"power_mode":"MODE_10W_2CORE","ttl_ms":60000}`).fails(t, wire.CommandFailed, wire.NeedsReboot, "")
	want := "nvpmodel -q says that the power mode is MODE_15W_6CORE, and /var/lib/nvpmodel/status that it is " +
		"MODE_20W_6CORE: the former counts"
	if got := r.events.of(wire.EventPower); !slices.Equal(got, []string{want}) || r.power.Status().Mode != "MODE_15W_6CORE" {
		t.Errorf("told %q and %s, want %q", got, r.power.Status().Mode, want)
	}
}

func TestACommandRebootsTheBoardOnceAndEndsAfterIt(t *testing.T) {
	t.Parallel()
	const payload = `{"power_mode":"MODE_10W_2CORE","allow_reboot":true,"ttl_ms":60000}`
	cfg := allowed
	cfg.AllowReboot = true
	for _, tt := range []struct {
		name, comesBack string // in the mode of that number
		boot            string
		state           wire.Step
		reason          wire.Reason
		detail          string
	}{
		{"it comes back in the mode", "3", "second", wire.CommandSucceeded, "", ""},
		{"it comes back in another one", "8", "second", wire.CommandFailed, wire.Internal,
			"restarted for power mode MODE_10W_2CORE, but MODE_20W_6CORE is in force"},
		{"whether it restarted is not known", "8", "", wire.CommandFailed, wire.Internal, "MODE_20W_6CORE is in force"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m, dir, changes := mustFake(t, "xavier-nx"), t.TempDir(), new(atomic.Int64)
			restarts, released := make(chan struct{}), make(chan struct{})
			r := mustRig(t, dir, withPower(m, cfg, changes, func(d *PowerDeps) {
				d.Changed = func() { close(restarts) } // it is known what the mode takes
				d.Lock = func() (func(), error) { return func() { close(released) }, nil }
			}))
			first := r.send("power", "p", payload)
			<-restarts
			r.stop() // as the board does, which goes down
			<-released
			if first.ended() != "released" {
				t.Errorf("the command ended: %s %+v", first.ended(), first.last())
			}
			os.Remove(filepath.Join(m.root, "fake/rebooted"))
			m.write("fake/live", tt.comesBack)
			again := cfg
			again.Boot = tt.boot
			r = mustRig(t, dir, withPower(m, again, changes))
			r.sends("p", payload).fails(t, tt.state, tt.reason, tt.detail)
			if _, err := os.Stat(filepath.Join(m.root, "fake/rebooted")); err == nil {
				t.Error("it was rebooted again")
			}
			if got := r.reboots(); got != "0 unknown 1 unknown 2 unknown 3 required 8 unknown" {
				t.Errorf("got %q, want that mode 3 takes a reboot", got)
			}
		})
	}
}

func TestABoardThatDoesNotGoDownKeepsNobodyFromTheUpdateLock(t *testing.T) {
	t.Parallel()
	m, cfg, released := mustFake(t, "xavier-nx"), allowed, new(atomic.Bool)
	cfg.AllowReboot = true
	r := mustRig(t, t.TempDir(), withPower(m, cfg, new(atomic.Int64), func(d *PowerDeps) {
		d.Lock = func() (func(), error) { return func() { released.Store(true) }, nil }
	}))
	r.power.goesDown = 10 * time.Millisecond
	r.sends("p", `{"power_mode":"MODE_10W_2CORE","allow_reboot":true,"ttl_ms":86400000}`).fails(t, wire.CommandFailed,
		wire.Internal, "was to restart for power mode MODE_10W_2CORE, and has not within 10ms")
	if !released.Load() {
		t.Error("it has the lock still")
	}
}

func TestABoardIsNotRebootedUnderTheUpdateLock(t *testing.T) {
	t.Parallel()
	m, cfg := mustFake(t, "xavier-nx"), allowed
	cfg.AllowReboot = true
	r := mustRig(t, t.TempDir(), withPower(m, cfg, new(atomic.Int64), func(d *PowerDeps) {
		d.Lock = func() (func(), error) { return nil, wire.Refuse(wire.Locked, "held") }
	}))
	r.sends("p", `{"power_mode":"MODE_10W_2CORE","allow_reboot":true,"ttl_ms":60000}`).fails(t, wire.CommandFailed,
		wire.Locked, "held")
	if _, err := os.Stat(filepath.Join(m.root, "fake/rebooted")); err == nil {
		t.Error("it was rebooted")
	}
}
