package agent_test

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent/config"
	"github.com/limber-edge/limber/agent/fleet"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/firmware/power"
)

// newPowerConfig is a device whose owner lets operators set the power mode.
func newPowerConfig(tb testing.TB, broker string) config.Config {
	tb.Helper()
	cfg := newConfig(tb, broker)
	cfg.Power.SetMode = true
	return cfg
}

// inPower waits until the last that a device said of itself is a power mode.
func (o *operator) inPower(cfg config.Config, mode string) {
	o.tb.Helper()
	o.caps(cfg, func(c wire.Caps) bool { return c.Power != nil && c.Power.Mode == mode }, "the power mode is %s", mode)
}

func TestCommandSetsThePowerModeOnce(t *testing.T) {
	brokers(t, func(t *testing.T, addr string) {
		cfg, m, o := newPowerConfig(t, addr), mustMachine(t), operate(t, addr)
		m.clock(2000, 2000)
		start(t, cfg, m.under())
		o.presence(cfg, wire.Online, 0)
		o.inPower(cfg, "clock-100")

		const payload = `{"power_mode":"clock-50","ttl_ms":60000}`
		first := o.command(cfg, cfg.Device, "power", "p1", payload)
		if steps := o.steps(cfg, "power", "p1"); !slices.Equal(steps, allSteps) {
			t.Errorf("got states %v, want %v", steps, allSteps)
		}
		o.inPower(cfg, "clock-50")
		o.tells(cfg, wire.EventPower, "the board's power mode is clock-50; it was clock-100")

		m.clock(2000, 1500) // by somebody on the device
		if again := o.command(cfg, cfg.Device, "power", "p1", payload); again != first {
			t.Errorf("the same command again: got %+v, want %+v", again, first)
		}
		other := o.command(cfg, cfg.Device, "power", "p1", `{"power_mode":"clock-100","ttl_ms":60000}`)
		if other.Reason != wire.Conflict {
			t.Errorf("other bytes: got %+v, want rejected: conflict", other)
		}
		o.obeyed(cfg, "mode", "p1", `{"mode":"balanced","ttl_ms":60000}`) // ids belong to their verb
		m.clock(2000, 2000)                                               // again
		got, err := openClient(t, addr, fleet.CommandFilters("demo")).Command(t.Context(), "demo", "@all",
			wire.Command{PowerMode: "clock-100"}, patience)
		want := []fleet.Outcome{{Device: cfg.Device, State: wire.CommandSucceeded}}
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("for everybody: got %+v, %v; want %+v", got, err, want)
		}
		soon := o.command(cfg, cfg.Device, "power", "p2", `{"power_mode":"clock-75","ttl_ms":60000}`)
		if soon.State != wire.CommandFailed || soon.Reason != wire.Busy {
			t.Errorf("within ten seconds: got %+v, want failed: busy", soon)
		}
		o.fence()
		told := 0
		for _, m := range o.matching(self(cfg).Event(wire.SeverityInfo)) {
			if decoded[wire.Event](t, m).Kind == wire.EventPower {
				told++
			}
		}
		if told != 1 { // the repetition did nothing
			t.Errorf("%d events, want that of the first change alone", told)
		}
	})
}

func TestAPowerCommandThatHangsKeepsNoOtherClassWaitingNorTheDeviceFromStopping(t *testing.T) {
	t.Parallel()
	addr := serve(t)
	cfg, m, o := newPowerConfig(t, addr), mustFake(t, "xavier-nx"), operate(t, addr)
	m.write("fake/hangs")
	d := start(t, cfg, m.under())
	o.presence(cfg, wire.Online, 0)
	const payload = `{"power_mode":"MODE_15W","ttl_ms":3600000}`
	o.publish(self(cfg).Cmd("power", "hangs"), []byte(payload))
	if ack := decoded[wire.Ack](t, o.await(self(cfg).Ack("power", "hangs"), 3)); ack.State != wire.CommandExecuting {
		t.Fatalf("got %+v, want it executing", ack)
	}
	waiting := ids("waits", 3)
	for _, id := range waiting {
		o.publish(self(cfg).Cmd("power", id), []byte(payload))
	}
	o.obeyed(cfg, "mode", "m1", `{"mode":"max-accuracy","ttl_ms":60000}`)
	if took := d.stop(); took > 10*time.Second {
		t.Errorf("the device took %v to stop", took)
	}
	o.fence()
	for _, id := range append(waiting, "hangs") {
		if slices.ContainsFunc(o.steps(cfg, "power", id), wire.Step.Final) {
			t.Errorf("%s ended; want it left to the next start", id)
		}
	}
}

func TestACommandThatRebootsTheBoardEndsWhenItIsBack(t *testing.T) {
	brokers(t, func(t *testing.T, addr string) {
		cfg, m, o := newPowerConfig(t, addr), mustFake(t, "xavier-nx"), operate(t, addr)
		cfg.Power.AllowReboot = true
		const boot = "proc/sys/kernel/random/boot_id"
		m.write(boot, "first")
		d := start(t, cfg, m.under())
		o.presence(cfg, wire.Online, 0)
		o.publish(self(cfg).Cmd("power", "p1"), []byte(`{"power_mode":"MODE_10W_2CORE","allow_reboot":true,"ttl_ms":60000}`))
		o.caps(cfg, func(c wire.Caps) bool {
			return c.Power.Mode == "MODE_20W_6CORE" && c.Power.List[3].Reboot == wire.RebootRequired
		}, "the mode takes a reboot, and the former one is in force until then")
		d.stop() // as the board does, which goes down

		if err := os.Remove(filepath.Join(m.root, "fake/rebooted")); err != nil {
			t.Fatal(err)
		}
		m.write("fake/live", 3)
		m.write(boot, "second")
		start(t, cfg, m.under())
		if ack := o.final(self(cfg).Ack("power", "p1"), 0); ack.State != wire.CommandSucceeded {
			t.Errorf("got %+v, want it succeeded", ack)
		}
		o.inPower(cfg, "MODE_10W_2CORE")
		if _, err := os.Stat(filepath.Join(m.root, "fake/rebooted")); err == nil {
			t.Error("it was rebooted again")
		}
	})
}

// nobody is a user without any rights, and its group.
const nobody = 65534

// mustPlace is a folder of nobody's, which holds this program as well.
func mustPlace(t *testing.T) (dir, program string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "limber-nobody-") // those of tests are root's alone
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	program = filepath.Join(dir, "device")
	if out, err := exec.Command("cp", os.Args[0], program).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return dir, program
}

// help runs a power helper for a board as long as the test.
func help(t *testing.T, m machine, socket string, cfg power.HelperConfig) {
	t.Helper()
	l, err := power.Listen(socket, nobody)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- power.NewHelper(power.New(m.root), cfg, discard()).Run(ctx, l) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// unprivileged is a device that is nobody, on a fake Xavier NX, with a helper that is root.
type unprivileged struct {
	*operator
	t     *testing.T
	cfg   config.Config
	board machine
}

func mustUnprivileged(t *testing.T) unprivileged {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can be a helper, and another user")
	}
	t.Parallel()
	dir, program := mustPlace(t)
	m, addr := mustFake(t, "xavier-nx"), serve(t)
	board, path := filepath.Join(dir, "board"), filepath.Join(dir, "limber.toml")
	cfg, o := newPowerConfig(t, addr), operate(t, addr)
	cfg.State, cfg.Power.Socket = filepath.Join(dir, "state"), filepath.Join(dir, "power.sock")
	err := errors.Join(os.Rename(m.root, board), os.Chmod(board, 0o755), os.Rename(writeConfig(t, cfg), path),
		os.Chown(dir, nobody, nobody), os.Chown(path, nobody, nobody)) // but not the board
	if err != nil {
		t.Fatal(err)
	}
	m.root = board
	help(t, m, cfg.Power.Socket, power.HelperConfig{Allow: []string{"MODE_15W", "MODE_10W_2CORE"}, Peers: []uint32{0, nobody}})
	c := exec.Command(program)
	c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	d := spawnBy(t, c, path, envBoard+"="+board, envSimulated+"=1ms")
	t.Cleanup(d.stop) // in order: it is still alive
	o.inPower(cfg, "MODE_20W_6CORE")
	return unprivileged{o, t, cfg, m}
}

// ends sends a command for a power mode, which must end so.
func (u unprivileged) ends(id, command string, state wire.Step, reason wire.Reason, detail string) {
	u.t.Helper()
	ack := u.command(u.cfg, u.cfg.Device, "power", id, command)
	if ack.State != state || ack.Reason != reason || !strings.Contains(ack.Detail, detail) {
		u.t.Errorf("%s: got %+v, want %s %s with %q", command, ack, state, reason, detail)
	}
}

func TestAnAgentWithoutPrivilegesSetsThePowerModeByTheHelper(t *testing.T) {
	u := mustUnprivileged(t)
	u.ends("other", `{"power_mode":"MODE_15W_4CORE","ttl_ms":60000}`, wire.CommandFailed, wire.Unauthorized,
		"may only set MODE_15W, MODE_10W_2CORE")
	u.ends("set", `{"power_mode":"MODE_15W","ttl_ms":60000}`, wire.CommandSucceeded, "", "")
	u.inPower(u.cfg, "MODE_15W")
	u.tells(u.cfg, wire.EventPower, "the board's power mode is MODE_15W; it was MODE_20W_6CORE")
	u.ends("soon", `{"power_mode":"MODE_10W_2CORE","ttl_ms":60000}`, wire.CommandFailed, wire.Busy, "try again in")
	u.ends("none", `{"power_mode":"MODE_99W","ttl_ms":60000}`, wire.CommandRejected, wire.Invalid, "no such power mode")
	if got, err := os.ReadFile(filepath.Join(u.board.root, "fake/live")); string(got) != "0\n" {
		t.Errorf("the board is in %s, %v; want mode 0", got, err)
	}
}

func TestWhatCannotBeSetHasItsReasonAndLeavesAgentAndHelperAlive(t *testing.T) {
	u := mustUnprivileged(t)
	tool := filepath.Join(u.board.root, "usr/sbin/nvpmodel")
	u.ends("takes", `{"power_mode":"MODE_10W_2CORE","ttl_ms":60000}`, wire.CommandFailed, wire.NeedsReboot, "--at-reboot leaves it")
	u.caps(u.cfg, func(c wire.Caps) bool {
		return c.Power.List[3] == wire.PowerMode{Name: "MODE_10W_2CORE", ID: 3, Reboot: wire.RebootRequired}
	}, "mode 3 takes a reboot")
	os.Rename(tool, tool+".away")
	u.ends("missing", `{"power_mode":"MODE_15W","ttl_ms":60000}`, wire.CommandFailed, wire.Unsupported, "install NVIDIA's package")
	os.Rename(tool+".away", tool)
	u.board.write("fake/hangs")
	u.ends("hangs", `{"power_mode":"MODE_15W","ttl_ms":1000}`, wire.CommandTimedOut, wire.Expired, "did not answer in time")
	os.Remove(filepath.Join(u.board.root, "fake/hangs"))
	u.ends("left", `{"power_mode":"MODE_10W_2CORE","at_reboot":true,"ttl_ms":60000}`, wire.CommandSucceeded, "",
		"takes effect at the next start")
	if got, err := os.ReadFile(filepath.Join(u.board.root, "var/lib/nvpmodel/status")); string(got) != "pmode:0003 fmode:quiet\n" {
		t.Errorf("the status file has %q, %v; want mode 3", got, err)
	}
	u.inPower(u.cfg, "MODE_20W_6CORE") // until then
	if err := os.Remove(u.cfg.Power.Socket); err != nil {
		t.Fatal(err)
	}
	u.ends("alone", `{"power_mode":"MODE_15W","at_reboot":true,"ttl_ms":60000}`, wire.CommandFailed, wire.Unauthorized,
		"have `limber power-helper` run")
	l, err := net.Listen("unix", u.cfg.Power.Socket)
	if err == nil {
		err = os.Chmod(u.cfg.Power.Socket, 0o666)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		if conn, err := l.Accept(); err == nil {
			io.WriteString(conn, `{"ok":true,"mo`)
			conn.Close()
		}
	}()
	u.ends("half", `{"power_mode":"MODE_15W","ttl_ms":60000}`, wire.CommandFailed, wire.Internal, "no whole answer")
	u.obeyed(u.cfg, "mode", "still", `{"mode":"balanced","ttl_ms":60000}`)
}
