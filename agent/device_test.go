package agent_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent"
	"github.com/limber-edge/limber/agent/monitor"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/family/ort"
	"github.com/limber-edge/limber/firmware/power"
)

// patience is how long a test waits for what must come.
const patience = 30 * time.Second

// envConfig turns the test binary into a device: the agent runs in a process
// of its own, so that it can be killed, and many can run at once.
const envConfig = "LIMBER_TEST_CONFIG"

// envPrepared names the folder for the state that tests start from.
const envPrepared = "LIMBER_TEST_STATE"

// envGPU gives the device an execution provider that no machine here has: see gpu.
const envGPU = "LIMBER_TEST_GPU"

// envRoot names a folder with the proc and sys of another machine.
const envRoot = "LIMBER_TEST_ROOT"

// envHang names a member whose first run does not end; with a "!" behind it, the
// session after that one cannot be made.
const envHang = "LIMBER_TEST_HANG"

// envCores is how many processors the device believes to have. More threads make
// it faster with three of them, and slower with four.
const envCores = "LIMBER_TEST_CORES"

// envGroup names the folder of a control group that the device goes into.
const envGroup = "LIMBER_TEST_GROUP"

// envBroker turns it into the embedded broker, with the access list of a file, or
// the shipped one.
const envBroker = "LIMBER_TEST_BROKER"

func TestMain(m *testing.M) {
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
	if os.Getenv("ONNXRUNTIME_LIB") == "" {
		root, _ := filepath.Abs("..")
		if found, _ := filepath.Glob(filepath.Join(ort.InProject(root), "libonnxruntime.so*")); len(found) > 0 {
			os.Setenv("ONNXRUNTIME_LIB", found[0])
		}
	}
	dir, err := os.MkdirTemp("", "limber-agent-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	os.Setenv(envPrepared, dir)
	return m.Run()
}

// beDevice runs an agent until SIGTERM.
func beDevice(path string) error {
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	if group := os.Getenv(envGroup); group != "" {
		if err := os.WriteFile(filepath.Join(group, "cgroup.procs"), []byte("0"), 0); err != nil {
			return err
		}
	}
	cfg, err := agent.ReadConfig(path)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	parts, err := agent.Open(cfg, "test", nil, log)
	if err != nil {
		return err
	}
	if root := os.Getenv(envRoot); root != "" {
		parts.Machine, parts.Board = monitor.New(root), power.New(root)
	}
	if kind := os.Getenv(envGPU); kind != "" {
		parts.On = gpu(cfg, parts, kind)
	}
	if cores := os.Getenv(envCores); cores != "" {
		parts.Cores, _ = strconv.Atoi(cores)
		parts.Threads = wide(parts, parts.Threads)
	}
	if name := os.Getenv(envHang); name != "" {
		name, fails := strings.CutSuffix(name, "!")
		parts.Shelf = &hangingShelf{Shelf: parts.Shelf, member: parts.Family.Index(name), fails: fails}
	}
	a, err := agent.New(cfg, parts, log)
	if err == nil {
		err = a.Run(ctx)
	}
	return errors.Join(err, parts.Close())
}

// prepared is a state folder with the stock family built and profiled, made
// once for all tests.
var prepared = sync.OnceValues(func() (string, error) {
	dir := os.Getenv(envPrepared)
	cfg := agent.Default()
	cfg.State = dir
	parts, err := agent.Open(cfg, "test", nil, discard())
	if err != nil {
		return dir, err
	}
	if parts.Fault != nil {
		return dir, errors.Join(parts.Fault, parts.Close())
	}
	_, sessions, err := agent.TakeProfile(context.Background(), parts, parts.Shelf, func(int) {})
	for _, s := range sessions {
		err = errors.Join(err, s.Close())
	}
	if err == nil {
		err = editProfile(parts.Store, ort.CPU, parts.Family.Digest(), rising)
	}
	return dir, errors.Join(err, parts.Close())
})

// rising makes every member worth using: on a busy machine two that are close may
// be measured the wrong way round, and tests name members.
func rising(p *family.Profile) {
	for i := 1; i < len(p.Members); i++ {
		p.Members[i].P50ms = max(p.Members[i].P50ms, 1.02*p.Members[i-1].P50ms)
	}
}

// newConfig is a device that is ready soon, reconnects soon and talks much.
func newConfig(tb testing.TB, broker string) agent.Config {
	tb.Helper()
	dir, err := prepared()
	if err != nil {
		tb.Fatal(err)
	}
	cfg := agent.Default()
	cfg.Broker.URL = broker
	cfg.State = filepath.Join(tb.TempDir(), "state")
	cfg.Broker.ReconnectMin.Duration, cfg.Broker.ReconnectMax.Duration = 20*time.Millisecond, 100*time.Millisecond
	cfg.Telemetry.Every.Duration = 100 * time.Millisecond
	if err := os.CopyFS(cfg.State, os.DirFS(dir)); err != nil {
		tb.Fatal(err)
	}
	return cfg
}

// device is an agent in a process of its own.
type device struct {
	tb     testing.TB
	cfg    agent.Config
	cmd    *exec.Cmd
	exited chan error

	mu   sync.Mutex
	said []string      // lines of its log
	more chan struct{} // closed when there is another
}

// online is a device that is connected to a broker, and its operator.
func online(tb testing.TB, broker string, env ...string) (*operator, agent.Config, *device) {
	tb.Helper()
	cfg := newConfig(tb, broker)
	o := operate(tb, broker)
	d := start(tb, cfg, env...)
	o.presence(cfg, wire.Online, 0)
	return o, cfg, d
}

// start runs a device until the test ends, if nothing ends it before.
func start(tb testing.TB, cfg agent.Config, env ...string) *device {
	tb.Helper()
	toml, err := cfg.Marshal()
	if err != nil {
		tb.Fatal(err)
	}
	path := filepath.Join(tb.TempDir(), "limber.toml")
	if err := os.WriteFile(path, toml, 0o600); err != nil {
		tb.Fatal(err)
	}
	d := &device{tb: tb, cfg: cfg, exited: make(chan error, 1), more: make(chan struct{})}
	d.cmd = exec.Command(os.Args[0])
	d.cmd.Env = append(append(os.Environ(), envConfig+"="+path), env...)
	log, err := d.cmd.StderrPipe()
	if err == nil {
		err = d.cmd.Start()
	}
	if err != nil {
		tb.Fatal(err)
	}
	go func() {
		d.listen(log)
		d.exited <- d.cmd.Wait()
	}()
	tb.Cleanup(d.cleanUp)
	return d
}

func (d *device) listen(log io.Reader) {
	for lines := bufio.NewScanner(log); lines.Scan(); {
		d.mu.Lock()
		d.said = append(d.said, lines.Text())
		close(d.more)
		d.more = make(chan struct{})
		d.mu.Unlock()
	}
}

func (d *device) cleanUp() {
	d.cmd.Process.Kill()
	<-d.exited
	d.exited <- nil
	d.mu.Lock()
	defer d.mu.Unlock()
	if log := strings.Join(d.said, "\n"); d.tb.Failed() || strings.Contains(log, "DATA RACE") {
		d.tb.Errorf("log of device %s:\n%s", d.cfg.Device, log)
	}
}

// awaitLog returns when the log had n lines with a text.
func (d *device) awaitLog(text string, n int) {
	d.tb.Helper()
	late := time.After(patience)
	for {
		d.mu.Lock()
		found := 0
		for _, line := range d.said {
			if strings.Contains(line, text) {
				found++
			}
		}
		more := d.more
		d.mu.Unlock()
		if found >= n {
			return
		}
		select {
		case <-more:
		case <-late:
			d.tb.Fatalf("the device logged %q %d times, want %d", text, found, n)
		}
	}
}

// logged tells whether a line of the log has a text by now.
func (d *device) logged(text string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.ContainsFunc(d.said, func(line string) bool { return strings.Contains(line, text) })
}

// stop asks the device to stop and returns how long it took; it must exit with
// 0.
func (d *device) stop() time.Duration {
	d.tb.Helper()
	began := time.Now()
	d.terminate()
	if err := d.wait(); err != nil {
		d.tb.Fatalf("the device exited with %v, want 0", err)
	}
	return time.Since(began)
}

// terminate asks the device to stop.
func (d *device) terminate() {
	d.tb.Helper()
	if err := d.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		d.tb.Fatal(err)
	}
}

// kill ends the device as a power cut would.
func (d *device) kill() {
	d.tb.Helper()
	d.cmd.Process.Kill()
	d.wait()
}

// wait returns how the process exited.
func (d *device) wait() error {
	d.tb.Helper()
	select {
	case err := <-d.exited:
		d.exited <- err
		return err
	case <-time.After(patience):
		d.tb.Fatal("the device does not exit")
		return nil
	}
}
