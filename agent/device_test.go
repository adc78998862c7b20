package agent_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent"
	"github.com/limber-edge/limber/agent/config"
	"github.com/limber-edge/limber/agent/governor"
	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/sim"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/broker-config/natstest"
	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/family/ort"
	"github.com/limber-edge/limber/family/ort/orttest"
	members "github.com/limber-edge/limber/family/resident"
	"github.com/limber-edge/limber/family/stock"
	"github.com/limber-edge/limber/firmware/power"
	"github.com/limber-edge/limber/store"
)

// patience is how long a test waits for what must come.
const patience = 30 * time.Second

// envConfig turns the test binary into a device: an agent in a process of its own,
// so that it can be killed.
const envConfig = "LIMBER_TEST_CONFIG"

// envSimulated gives that device simulated members: set to a time, some that take as
// long; set to deadly, those that a white picture kills, with their process.
const envSimulated = "LIMBER_TEST_SIMULATED"

const deadly = "deadly"

// envBoard names the folder that the files of that device's board lie in.
const envBoard = "LIMBER_TEST_BOARD"

// envGroup names the folder of a control group that the device goes into.
const envGroup = "LIMBER_TEST_GROUP"

// raceExit has the race detector not wait a second for reports at the end.
const raceExit = "GORACE=atexit_sleep_ms=0"

// envBroker turns it into the embedded broker, with the access list of a file, or
// the shipped one.
const envBroker = "LIMBER_TEST_BROKER"

// envPrepared names the folder for the state that tests start from.
const envPrepared = "LIMBER_TEST_STATE"

func TestMain(m *testing.M) {
	natstest.Main()
	var err error
	switch path := os.Getenv(envConfig); {
	case path != "":
		err = beDevice(path)
	case os.Getenv(envBroker) != "":
		err = beBroker(os.Getenv(envBroker))
	default:
		os.Exit(runTests(m))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// runTests names the runtime that the project fetched, and removes the state
// that the tests share.
func runTests(m *testing.M) int {
	flag.Set("test.parallel", "4") // they wait more than they work; a flag of the command line still counts
	orttest.Use()
	dir, err := os.MkdirTemp("", "limber-agent-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	os.Setenv(envPrepared, dir)
	return m.Run()
}

// onnxRuntime is the one that this process may have open.
var onnxRuntime = sync.OnceValues(func() (*ort.Runtime, error) {
	path, err := ort.Find()
	if err != nil {
		return nil, err
	}
	return ort.Open(path)
})

// onRuntime makes real members, on the one runtime of this process.
type onRuntime struct{ agent.ONNXRuntime }

func (onRuntime) Close() error { return nil }

func openRuntime(cfg config.Config) (agent.Inference, error) {
	rt, err := onnxRuntime()
	return onRuntime{agent.ONNXRuntime{Runtime: rt, Cache: members.NewCache(rt, cfg.State, nil)}}, err
}

// real is a device with real members.
func real(cfg config.Config) rig {
	return rig{inference: func() (agent.Inference, error) { return openRuntime(cfg) }, stored: true}
}

func stockFamily(tb testing.TB) *family.Family {
	tb.Helper()
	carried, err := stock.Family()
	if err != nil {
		tb.Fatal(err)
	}
	return &carried.Family
}

// simulated makes members that only take their time; shape changes how they do, and
// may be nil.
func simulated(shape func(*sim.Loader)) func() (agent.Inference, error) {
	return func() (agent.Inference, error) { return sim.Inference{Shape: shape}, nil }
}

// beDevice runs an agent until SIGTERM.
func beDevice(path string) error {
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	if group := os.Getenv(envGroup); group != "" {
		if err := os.WriteFile(filepath.Join(group, "cgroup.procs"), []byte("0"), 0); err != nil {
			return err
		}
	}
	cfg, err := config.Read(path)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	options := agent.Options{Version: "test", Inference: real(cfg).inference}
	switch latency := os.Getenv(envSimulated); latency {
	case "":
	case deadly:
		options.Inference = func() (agent.Inference, error) { return mortal{}, nil }
	default:
		options.Inference = simulated(nil)
		if each, err := time.ParseDuration(latency); err == nil {
			options.Inference = slow(each)
		}
	}
	go sayHeld(ctx)
	deps, err := agent.Open(cfg, options, log)
	if err != nil {
		return err
	}
	if root := os.Getenv(envBoard); root != "" {
		deps.Board = power.New(root)
	}
	a, err := agent.New(cfg, deps, log)
	if err == nil {
		err = a.Run(ctx)
	}
	return errors.Join(err, deps.Close())
}

// prepared is a state folder with the stock family built and profiled, made
// once for all tests.
var prepared = sync.OnceValues(func() (string, error) {
	dir := os.Getenv(envPrepared)
	cfg := config.Default()
	cfg.State = dir
	deps, err := agent.Open(cfg, agent.Options{Version: "test", Inference: real(cfg).inference}, discard())
	if err != nil {
		return dir, err
	}
	if deps.Fault != nil {
		return dir, errors.Join(deps.Fault, deps.Close())
	}
	_, err = deps.TakeProfile(context.Background(), cfg)
	if err == nil {
		err = editProfile(deps.Store, ort.CPU, deps.Family.Digest(), rising)
	}
	return dir, errors.Join(err, deps.Close())
})

// rising makes every member worth using, also in batches: on a busy machine two that
// are close may be measured the wrong way round, and tests name members.
func rising(p *family.Profile) {
	for i := range p.Members {
		m := &p.Members[i]
		if i > 0 {
			m.P50ms = max(m.P50ms, 1.02*p.Members[i-1].P50ms)
		}
		m.Batch = min(m.Batch, 0.9*family.Batch*m.P50ms)
	}
}

// tables are those of the governors in this process.
var tables governor.Tables

// newConfig is a new device that reconnects soon and talks much.
func newConfig(tb testing.TB, broker string) config.Config {
	tb.Helper()
	cfg := config.Default()
	cfg.Broker.URL = mqtt.URLs{broker}
	cfg.State = filepath.Join(tb.TempDir(), "state")
	cfg.Broker.ReconnectMin.Duration, cfg.Broker.ReconnectMax.Duration = 20*time.Millisecond, 100*time.Millisecond
	cfg.Telemetry.Every.Duration = 100 * time.Millisecond
	return cfg
}

// newRealConfig is a device that has the stock family built and measured.
func newRealConfig(tb testing.TB, broker string) config.Config {
	tb.Helper()
	dir, err := prepared()
	if err != nil {
		tb.Fatal(err)
	}
	cfg := newConfig(tb, broker)
	if err := os.CopyFS(cfg.State, os.DirFS(dir)); err != nil {
		tb.Fatal(err)
	}
	return cfg
}

// rig is what a device in this process is made of; its zero value has simulated
// members of the stock family, and does not wait for the disk.
type rig struct {
	inference func() (agent.Inference, error)
	stored    bool // the family comes from the device's state, as real members need
	alter     func(*agent.Deps)
}

// device is an agent in this process.
type device struct {
	tb    testing.TB
	cfg   config.Config
	deps  *agent.Deps
	agent *agent.Agent
	end   context.CancelFunc
	ended chan error
	log   *logged

	broken bool // it need not end without an error
}

// online is a device that is connected to a broker and can answer, and its operator.
func online(tb testing.TB, broker string, r rig) (*operator, config.Config, *device) {
	tb.Helper()
	cfg := newConfig(tb, broker)
	o := operate(tb, broker)
	d := start(tb, cfg, r)
	d.ready()
	o.presence(cfg, wire.Online, 0)
	return o, cfg, d
}

// ready returns when a member can answer.
func (d *device) ready() {
	d.tb.Helper()
	select {
	case <-d.agent.Ready():
	case <-time.After(patience):
		d.tb.Fatal("no member can answer")
	}
}

// start runs a device until the test ends, if nothing ends it before.
func start(tb testing.TB, cfg config.Config, r rig) *device {
	tb.Helper()
	d := &device{tb: tb, cfg: cfg, ended: make(chan error, 1), log: newLogged()}
	if r.inference == nil {
		r.inference = simulated(nil)
	}
	log := slog.New(slog.NewTextHandler(d.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	var err error
	options := agent.Options{Version: "test", Inference: r.inference, Store: store.Options{NoSync: true, StayUp: true}}
	if !r.stored {
		options.Family = stockFamily(tb)
	}
	if d.deps, err = agent.Open(cfg, options, log); err != nil {
		tb.Fatal(err)
	}
	d.deps.Tables, d.deps.Rest = &tables, 0
	if r.alter != nil {
		r.alter(d.deps)
	}
	if d.agent, err = agent.New(cfg, d.deps, log); err != nil {
		tb.Fatal(errors.Join(err, d.deps.Close()))
	}
	var ctx context.Context
	ctx, d.end = context.WithCancel(context.Background())
	go func() { d.ended <- errors.Join(d.agent.Run(ctx), d.deps.Close()) }()
	tb.Cleanup(func() {
		d.end()
		if err := d.wait(); err != nil && !d.broken {
			tb.Error(err)
		}
		if tb.Failed() {
			tb.Logf("log of device %s:\n%s", cfg.Device, d.log)
		}
	})
	return d
}

// stop asks the device to stop and returns how long it took.
func (d *device) stop() time.Duration {
	d.tb.Helper()
	began := time.Now()
	d.end()
	if err := d.wait(); err != nil {
		d.tb.Fatalf("the device ended with %v", err)
	}
	return time.Since(began)
}

// wait returns how the device ended.
func (d *device) wait() error {
	d.tb.Helper()
	select {
	case err := <-d.ended:
		d.ended <- err
		return err
	case <-time.After(patience):
		d.tb.Fatal("the device does not end")
		return nil
	}
}

// process is an agent in a process of its own; its members are real ones, but with
// envSimulated.
type process struct {
	tb     testing.TB
	cmd    *exec.Cmd
	exited chan error
	log    *logged
}

// launch runs a device until the test ends, if nothing ends it before.
func launch(tb testing.TB, cfg config.Config, env ...string) *process {
	tb.Helper()
	p := spawn(tb, writeConfig(tb, cfg), env...)
	tb.Cleanup(func() {
		p.kill()
		if log := p.log.String(); tb.Failed() || strings.Contains(log, "DATA RACE") {
			tb.Errorf("log of device %s:\n%s", cfg.Device, log)
		}
	})
	return p
}

// writeConfig returns the path of a file with the configuration.
func writeConfig(tb testing.TB, cfg config.Config) string {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), "limber.toml")
	toml, err := cfg.Marshal()
	if err == nil {
		err = os.WriteFile(path, toml, 0o600)
	}
	if err != nil {
		tb.Fatal(err)
	}
	return path
}

// spawn runs a device until it is killed.
func spawn(tb testing.TB, path string, env ...string) *process {
	tb.Helper()
	return spawnBy(tb, exec.Command(os.Args[0]), path, env...)
}

// spawnBy runs a device by a command for this program.
func spawnBy(tb testing.TB, by *exec.Cmd, path string, env ...string) *process {
	tb.Helper()
	p := &process{tb: tb, cmd: by, exited: make(chan error, 1), log: newLogged()}
	p.cmd.Env = append(append(os.Environ(), envConfig+"="+path, raceExit), env...)
	p.cmd.Stderr = p.log
	if err := p.cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	go func() { p.exited <- p.cmd.Wait() }()
	return p
}

// stop asks the process to stop; it must exit with 0.
func (p *process) stop() {
	p.tb.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		p.tb.Fatal(err)
	}
	if err := p.wait(); err != nil {
		p.tb.Fatalf("the device exited with %v, want 0", err)
	}
}

// kill ends the process as a power cut would.
func (p *process) kill() {
	p.cmd.Process.Kill()
	p.wait()
}

// wait returns how the process exited.
func (p *process) wait() error {
	p.tb.Helper()
	select {
	case err := <-p.exited:
		p.exited <- err
		return err
	case <-time.After(patience):
		p.tb.Fatal("the device does not exit")
		return nil
	}
}

// logged keeps what a device logs.
type logged struct {
	mu   sync.Mutex
	text bytes.Buffer  // guarded by mu
	more chan struct{} // guarded by mu: closed when there is more
}

func newLogged() *logged { return &logged{more: make(chan struct{})} }

func (l *logged) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	close(l.more)
	l.more = make(chan struct{})
	return l.text.Write(b)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// await returns when there were n times a text.
func (l *logged) await(tb testing.TB, text string, n int) {
	tb.Helper()
	late := time.After(patience)
	for {
		l.mu.Lock()
		found, more := strings.Count(l.text.String(), text), l.more
		l.mu.Unlock()
		if found >= n {
			return
		}
		select {
		case <-more:
		case <-late:
			tb.Fatalf("the device logged %q %d times, want %d", text, found, n)
		}
	}
}
