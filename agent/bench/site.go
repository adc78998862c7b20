package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/limber-edge/limber/agent/bench/desk"
	"github.com/limber-edge/limber/agent/fleet"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/family/ort"
)

// site is broker and agent in processes of their own, as in the field. What a
// benchmark does as camera and operator is in this process.
type site struct {
	dir     string // for configurations and the agent's state
	broker  string // which one, and its version
	url     string
	self    wire.Address // of the agent
	stderr  io.Writer
	running []*exec.Cmd // in the order in which they were started
}

// openSite starts a mosquitto where one is installed, else the embedded broker,
// and an agent that infers with so many threads; 0 is as it sees fit. The folder
// is its own. Nothing runs when it fails.
func openSite(ctx context.Context, dir string, threads int, stderr io.Writer) (*site, error) {
	if _, err := ort.Find(); err != nil { // the agent would stay up, and refuse every frame
		return nil, err
	}
	addr, err := freeAddress()
	if err != nil {
		return nil, err
	}
	s := &site{dir: dir, url: "mqtt://" + addr, self: desk.Self(), stderr: stderr}
	if err := s.startBroker(ctx, addr); err != nil {
		return nil, err
	}
	if err := s.startAgent(ctx, threads); err != nil {
		return nil, errors.Join(err, s.close(ctx))
	}
	return s, nil
}

// freeAddress is a port of this machine that nobody listens on now.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("find a free port: %w", err)
	}
	return l.Addr().String(), l.Close()
}

// mosquittoConfig is the field's broker (broker-config/mosquitto) without its
// certificates, on one port of this machine.
const mosquittoConfig = `listener %s 127.0.0.1
allow_anonymous true
set_tcp_nodelay true
max_packet_size 16777216
max_inflight_messages 1024
max_queued_messages 10000
max_queued_bytes 268435456
persistence false
user root
log_dest stderr
log_type error
`

func (s *site) startBroker(ctx context.Context, addr string) error {
	program, version := mosquitto(ctx)
	if program == "" {
		s.broker = "the embedded broker, as no mosquitto is installed"
		return s.startSelf(ctx, "broker", "--listen", addr)
	}
	s.broker = version
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return err
	}
	file := filepath.Join(s.dir, "mosquitto.conf")
	if err := os.WriteFile(file, fmt.Appendf(nil, mosquittoConfig, port), 0o600); err != nil {
		return err
	}
	return s.start(ctx, program, "-c", file)
}

// mosquitto is where it is installed and what it calls itself; empty if it is not.
func mosquitto(ctx context.Context) (program, version string) {
	for _, name := range [2]string{"mosquitto", "/usr/sbin/mosquitto"} {
		path, err := exec.LookPath(name)
		if err != nil {
			continue
		}
		// Its exit code for help is not 0 in every version.
		help, _ := exec.CommandContext(ctx, path, "-h").Output()
		version, _, _ := strings.Cut(strings.TrimSpace(string(help)), "\n")
		return path, version
	}
	return "", ""
}

func (s *site) startAgent(ctx context.Context, threads int) error {
	file := filepath.Join(s.dir, "limber.toml")
	config := fmt.Sprintf("state = %q\nlog_level = \"error\"\n[broker]\nurl = %q\n[runtime]\nthreads = %d\n",
		filepath.Join(s.dir, "state"), s.url, threads)
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		return err
	}
	return s.startSelf(ctx, "agent", "--config", file)
}

func (s *site) startSelf(ctx context.Context, args ...string) error {
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	return s.start(ctx, exe, args...)
}

// partingTime is how long a process of the site may take to end.
const partingTime = 10 * time.Second

// start runs a program that ends with this one, however that ends: who reads only
// the first lines of a benchmark kills it. The kernel watches the thread that
// started the program; Go ends a thread only with a goroutine that is locked to it.
func (s *site) start(ctx context.Context, program string, args ...string) error {
	c := exec.CommandContext(ctx, program, args...)
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	c.Cancel = func() error { return c.Process.Signal(syscall.SIGTERM) }
	c.WaitDelay = partingTime
	if err := c.Start(); err != nil {
		return fmt.Errorf("start %s: %w", filepath.Base(program), err)
	}
	s.running = append(s.running, c)
	return nil
}

// close ends the processes, the last one first. One that ended before, or badly,
// is told of.
func (s *site) close(ctx context.Context) error {
	var errs []error
	for i := len(s.running) - 1; i >= 0; i-- {
		c := s.running[i]
		late := time.AfterFunc(partingTime, func() { c.Process.Kill() })
		err := c.Process.Signal(syscall.SIGTERM)
		if err = errors.Join(err, c.Wait()); err != nil && ctx.Err() == nil {
			errs = append(errs, fmt.Errorf("%s: %w", strings.Join(c.Args, " "), err))
		}
		late.Stop()
	}
	return errors.Join(errs...)
}

// connectAll connects n clients that only speak.
func connectAll(ctx context.Context, broker string, stderr io.Writer, n int, work func(context.Context,
	[]*fleet.Mailbox) error) error {
	var more func(context.Context, []*fleet.Mailbox) error
	more = func(ctx context.Context, all []*fleet.Mailbox) error {
		if len(all) == n {
			return work(ctx, all)
		}
		return desk.Connect(ctx, broker, stderr, nil, func(ctx context.Context, one *fleet.Mailbox) error {
			return more(ctx, append(all, one))
		})
	}
	return more(ctx, nil)
}

// atSite opens a site and runs work with a client of its agent, in the mode that is
// said once its members are known, by rising cost.
func (b *Bench) atSite(ctx context.Context, threads int, mode func([]wire.Member) string,
	work func(context.Context, *site, *desk.Client) error) (err error) {
	b.Progress.Say("starting broker and agent, measuring the members on this machine")
	s, err := openSite(ctx, b.Dir, threads, b.Stderr)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close(ctx)) }()
	filters := append(desk.ClientFilters(s.self), s.self.Caps(), s.self.State(), s.self.Filter(wire.KindAck))
	return desk.Connect(ctx, s.url, s.stderr, filters, func(ctx context.Context, st *fleet.Mailbox) error {
		starting, cancel := context.WithTimeout(ctx, desk.StartTime)
		defer cancel()
		_, caps, err := desk.AwaitMembers(starting, st, s.self)
		if err != nil {
			return err
		}
		if err := desk.SetMode(ctx, st, s.self, mode(caps.Members)); err != nil {
			return err
		}
		return work(ctx, s, desk.NewClient(st, s.self))
	})
}
