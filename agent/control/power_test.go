package control

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

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

// nvpmodel makes it a Jetson in the mode MAXN, with a stand-in for NVIDIA's tool
// that does what the names of its modes say.
func (m machine) nvpmodel() {
	m.t.Helper()
	m.write("etc/nvpmodel.conf", `
< POWER_MODEL ID=0 NAME=MAXN >
< POWER_MODEL ID=1 NAME=MODE_15W >
< POWER_MODEL ID=2 NAME=REBOOTS >
< POWER_MODEL ID=3 NAME=FAILS >
< POWER_MODEL ID=4 NAME=HANGS >
< PM_CONFIG DEFAULT=0 >`)
	m.write("var/lib/nvpmodel/status", "pmode:0000")
	m.write("usr/sbin/nvpmodel", `#!/bin/sh
case "$2" in
2) echo 'Reboot required for changing to this power mode'; exit 0 ;;
3) echo 'NVPM ERROR: out of order'; exit 3 ;;
4) exec sleep 600 ;;
esac
printf 'pmode:%04d\n' "$2" >`+filepath.Join(m.root, "var/lib/nvpmodel/status"))
}

var allowed = power.Permission{SetMode: true}

// withPower lets a rig set the power mode of a machine, and counts the changes.
func withPower(m machine, p power.Permission, changes *int) with {
	return func(r *rig, _ *Config, verbs *[]Verb) {
		*verbs = append(*verbs, Power(power.New(m.root), p, r.events, func() { *changes++ }, discard()))
	}
}

func TestCommandSetsThePowerModeOnce(t *testing.T) {
	m, changes := machine{t, t.TempDir()}, 0
	m.limit(2000)
	bubble(t, func(t *testing.T, dir string) {
		r := mustRig(t, dir, withPower(m, allowed, &changes))
		first := r.command("power", `{"power_mode":"clock-50","ttl_ms":60000}`)
		first.succeeds(t)
		if got := first.steps(); !slices.Equal(got, allSteps) {
			t.Errorf("got states %v, want %v", got, allSteps)
		}
		m.limit(1500) // by somebody on the device
		q, p := ofCommand("power", "c1", `{"power_mode":"clock-50","ttl_ms":60000}`)
		r.take(q)
		r.command("power", `{"power_mode":"clock-100","ttl_ms":60000}`).succeeds(t)
		if p.bytes != first.bytes {
			t.Errorf("the same command again: got %s, want %s", p.bytes, first.bytes)
		}
		r.command("power", `{"power_mode":"clock-100","ttl_ms":60000}`).succeeds(t) // in force already
		want := []string{"the board's power mode is clock-50; it was clock-100",
			"the board's power mode is clock-100; it was clock-75"}
		if got := r.events.of(wire.EventPower); !slices.Equal(got, want) || changes != 2 {
			t.Errorf("told %q and %d changes, want %q", got, changes, want)
		}
		if got := r.Verbs(); !slices.Equal(got, []string{"mode", "goal", "power"}) {
			t.Errorf("verbs: got %q", got)
		}
	})
}

func TestPowerCommandsAreJudged(t *testing.T) {
	t.Parallel()
	jetson, modeless := machine{t, t.TempDir()}, machine{t, t.TempDir()}
	jetson.nvpmodel()
	for _, tt := range []struct {
		name       string
		board      machine
		permission power.Permission
		payload    string
		state      wire.Step
		reason     wire.Reason
		detail     string // part of it
	}{
		{"nvpmodel obeys", jetson, allowed, `{"power_mode":"MODE_15W","ttl_ms":60000}`, wire.CommandSucceeded, "", ""},
		{"in force already", jetson, allowed, `{"power_mode":"MODE_15W","ttl_ms":60000}`, wire.CommandSucceeded, "",
			""},
		{"it takes a reboot", jetson, allowed, `{"power_mode":"REBOOTS","ttl_ms":60000}`, wire.CommandFailed,
			wire.NeedsReboot, "run nvpmodel -m 2 on the device"},
		{"nvpmodel fails", jetson, allowed, `{"power_mode":"FAILS","ttl_ms":60000}`, wire.CommandFailed,
			wire.Internal, "NVPM ERROR: out of order"},
		{"nvpmodel hangs", jetson, allowed, `{"power_mode":"HANGS","ttl_ms":300}`, wire.CommandTimedOut, wire.Expired,
			"did not end in time"},
		{"unknown mode", jetson, allowed, `{"power_mode":"clock-50","ttl_ms":60000}`, wire.CommandRejected,
			wire.Invalid, "there are MAXN, MODE_15W, "},
		{"no mode", jetson, allowed, `{"ttl_ms":60000}`, wire.CommandRejected, wire.Invalid, "no power_mode"},
		{"mode of another verb", jetson, allowed, `{"mode":"balanced","ttl_ms":60000}`, wire.CommandRejected,
			wire.Invalid, "use the verb mode"},
		{"no expiry", jetson, allowed, `{"power_mode":"MAXN"}`, wire.CommandRejected, wire.Invalid, "ttl_ms"},
		{"no permission", jetson, power.Permission{}, `{"power_mode":"MAXN","ttl_ms":60000}`, wire.CommandRejected,
			wire.Unauthorized, "power.set_mode = true"},
		{"no modes", modeless, allowed, `{"power_mode":"MAXN","ttl_ms":60000}`, wire.CommandRejected,
			wire.Unsupported, "no power modes"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			// A process of the system does not wait in a bubble.
			r := mustRig(t, t.TempDir(), withPower(tt.board, tt.permission, new(int)))
			p := r.send("power", "p", tt.payload)
			<-p.over
			p.fails(t, tt.state, tt.reason, tt.detail)
		})
	}
}
