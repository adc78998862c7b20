package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/limber-edge/limber/agent"
	"github.com/limber-edge/limber/agent/config"
	"github.com/limber-edge/limber/agent/governor"
	"github.com/limber-edge/limber/agent/metrics"
	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/release"
	"github.com/limber-edge/limber/agent/systemd"
	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/family/ort"
	"github.com/limber-edge/limber/firmware/slot"
	"github.com/limber-edge/limber/store"
)

// agentArgs are the flags of `limber agent`; those that were given override the
// configuration file.
type agentArgs struct {
	config               string
	broker               mqtt.URLs
	fleet, device, state string
	check, profile       bool
}

func newAgent() *cobra.Command {
	var a agentArgs
	c := &cobra.Command{
		Use:   "agent",
		Short: "Run this device: answer frames, obey commands",
		Long: `Run this device. Without a configuration it is the device "desk" of the fleet
"demo" and looks for a broker on this machine.

The configuration is one TOML file; --check prints the one that would be used,
with every default. With metrics.listen = "127.0.0.1:9464" in it, Prometheus reads
the device at /metrics, and /healthz says whether a fault stands.`,
		Example: `  limber agent
  limber agent --config /etc/limber.toml
  limber agent --broker mqtts://broker:8883 --device cam-17 --check
  limber agent --profile
  limber agent lock -- ./take-samples      # no other family meanwhile`,
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := a.read(c)
			if err != nil {
				return err
			}
			return a.run(c, cfg)
		},
	}
	a.register(c)
	f := c.Flags()
	f.BoolVar(&a.check, "check", false, "print what would run, and do not run it")
	f.BoolVar(&a.profile, "profile", false, "measure the members on this device again, and do not run")
	c.AddCommand(newAgentLock())
	return c
}

// register adds the flags that say which device it is.
func (a *agentArgs) register(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&a.config, "config", "", "TOML file")
	f.Var(&a.broker, "broker", "URL of the broker, mqtt://host:port, or with mqtts, ws or wss; several have commas "+
		"between them")
	f.StringVar(&a.fleet, "fleet", "", "name of the fleet")
	f.StringVar(&a.device, "device", "", "name of this device")
	f.StringVar(&a.state, "state", "", "folder for what must outlive a restart; delete it to start anew")
}

// stateFlag is for commands beside the agent. Its default is not printed, as it depends on
// the user, and what a package says does not depend on who builds it.
func stateFlag(c *cobra.Command, state *string) {
	c.Flags().StringVar(state, "state", config.Default().State, "state folder of the device (default: that of the agent)")
	c.Flags().Lookup("state").DefValue = ""
}

// noState adds the remedy to an error of a folder that is not there.
func noState(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: name the state folder of the device with --state", err)
	}
	return err
}

func (a *agentArgs) read(c *cobra.Command) (config.Config, error) {
	cfg := config.Default()
	if a.config != "" {
		var err error
		if cfg, err = config.Read(a.config); err != nil {
			return config.Config{}, err
		}
	}
	sound := cfg.Validate() == nil
	for flag, set := range map[string]func(){
		"broker": func() { cfg.Broker.URL = a.broker },
		"fleet":  func() { cfg.Fleet = a.fleet },
		"device": func() { cfg.Device = a.device },
		"state":  func() { cfg.State = a.state },
	} {
		if c.Flags().Changed(flag) {
			set()
		}
	}
	if err := cfg.Validate(); err != nil {
		err = fmt.Errorf("configuration: %w", err)
		if sound || cfg.ReservedName() { // before the flags, or wherever it stands
			err = usageError{err}
		}
		return config.Config{}, err
	}
	return cfg, nil
}

func (a *agentArgs) run(c *cobra.Command, cfg config.Config) error {
	log := newLogger(c.ErrOrStderr(), cfg.LogLevel).With("device", cfg.Device)
	if a.check {
		return printCheck(c.OutOrStdout(), cfg)
	}
	launched := slot.Launched()
	watch, stopBeats := beat(launched.Beat)
	defer stopBeats()
	slots := slotsOf(launched, cfg.State, log)
	// A device works on without a disk; a profile that is not stored is of no use.
	deps, err := openLaunched(cfg, store.Options{StayUp: !a.profile}, slots, log)
	if err != nil {
		return err
	}
	defer deps.Close()
	if a.profile {
		profile, err := deps.TakeProfile(c.Context(), cfg)
		if err != nil {
			return err
		}
		return printProfile(c.OutOrStdout(), deps.Family, profile)
	}
	return serve(c.Context(), cfg, deps, watch, log)
}

// serve runs a device until it is asked to stop, or to give way. watch is handed what tells
// whether its work goes on.
func serve(ctx context.Context, cfg config.Config, deps *agent.Deps, watch func(moved func() bool),
	log *slog.Logger) error {
	dev, err := agent.New(cfg, deps, log)
	if err != nil {
		return err
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(garbage)
	}
	log.Info("agent starts", "fleet", cfg.Fleet, "state", cfg.State, "version", version)
	stopTelling, err := tellManager(ctx, dev, log)
	if err != nil {
		return err
	}
	defer stopTelling()
	watch(moves(dev))
	err = runAgent(ctx, cfg.Metrics, dev, log)
	if errors.Is(err, agent.ErrHung) {
		log.Error("agent ends, to be started anew", "err", err)
		os.Exit(exitFailed) // whatever is closed may wait for what hangs
	}
	if errors.Is(err, release.ErrSwitch) {
		return exitError{exitSwitch}
	}
	if err != nil {
		return err
	}
	log.Info("agent stopped")
	return nil
}

// tellManager tells systemd, where it waits for this process, that the device is up, and
// how it is until stop is called. It is up once all that could keep it from starting has
// gone well: its configuration is sound, its state open and its own. Neither the link nor
// the first member is waited for. One may be away for days and the other take minutes, and
// a device works on its outbox or says how far it is meanwhile, while a unit that does not
// become ready is killed, and started again to no avail.
func tellManager(ctx context.Context, dev *agent.Agent, log *slog.Logger) (stop func(), err error) {
	manager, err := systemd.FromEnvironment(os.Getenv, os.Getpid(), os.Getppid())
	if err != nil {
		return nil, err
	}
	unregister := context.AfterFunc(ctx, func() {
		if err := manager.Tell(systemd.Stopping); err != nil {
			log.Warn("service manager not told of the stop", "err", err)
		}
	})
	watching, end := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		manager.Insist(watching, systemd.Ready, func(err error) {
			log.Warn("service manager not told, it will be told again", "err", err)
		})
		manager.Watch(watching, moves(dev))
	}()
	return func() {
		unregister()
		end()
		<-ended
	}, nil
}

// moves tells with each call whether the work of a device went on since the last one, or
// there was none.
func moves(dev *agent.Agent) func() bool {
	last := dev.Progress()
	return func() bool {
		now := dev.Progress()
		moved := now.Moved(last)
		last = now
		return moved
	}
}

// runAgent runs a device, and lets it be read meanwhile if that was asked for.
func runAgent(ctx context.Context, cfg config.Metrics, dev *agent.Agent, log *slog.Logger) error {
	if cfg.Listen == "" {
		return dev.Run(ctx)
	}
	reading, stop := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan error, 1)
	go func() { ended <- metrics.New(cfg, dev, log).Run(reading) }()
	err := dev.Run(ctx)
	stop()
	return errors.Join(err, <-ended)
}

// openDevice opens the state, family and runtime of a device.
func openDevice(cfg config.Config, state store.Options, slots *slot.Agent, log *slog.Logger) (*agent.Deps, error) {
	inference := func() (agent.Inference, error) { return agent.OpenONNXRuntime(cfg.State, newTrial()) }
	return agent.Open(cfg, agent.Options{Version: version, Store: state, Slots: slots, Inference: inference}, log)
}

// garbage is how much may come together, in percent of what is in use, before it is
// collected, unless GOGC says how much. Every frame leaves some 200 kB behind, and about 10 MB are in use: with
// Go's 100 % a twentieth to a tenth of the processors goes into collecting.
const garbage = 400

// newLogger writes lines of key=value.
func newLogger(w io.Writer, level string) *slog.Logger {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		l = slog.LevelInfo // Validate has refused every other name
	}
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: l}))
}

// printCheck prints the configuration as TOML, but for passwords, and what it leads to
// as comments. A state that is not there stays so; one that is there gets the stock
// family of this program, as at a start, if its own is an older one.
func printCheck(w io.Writer, cfg config.Config) error {
	shown := cfg
	shown.Broker.URL = cfg.Broker.URL.Redacted()
	b, err := shown.Marshal()
	if err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	fmt.Fprintf(w, "%s\n", b)
	if !slices.Equal(shown.Broker.URL, cfg.Broker.URL) {
		fmt.Fprintln(w, "# broker.url: the password is not shown; broker.password_file keeps it out of here")
	}
	if say := cfg.Schedule.Say(time.Now()); say != "" {
		fmt.Fprintf(w, "# schedule: %s; unless an operator set another after that\n", say)
	}
	if m := cfg.Metrics; m.Listen != "" {
		fmt.Fprintf(w, "# metrics: http://%s/metrics and /healthz, for %s\n", m.Listen, readers(m))
	}
	if path, err := ort.Find(); err != nil {
		fmt.Fprintf(w, "# no inference: %v\n", err)
	} else {
		fmt.Fprintf(w, "# ONNX Runtime %s\n", path)
	}
	if _, err := os.Stat(filepath.Join(cfg.State, "limber.db")); err != nil {
		_, err = fmt.Fprintln(w, "# no state yet: the first start installs the stock family and measures it")
		return err
	}
	deps, err := openDevice(cfg, store.Options{}, nil, slog.New(slog.DiscardHandler))
	if errors.Is(err, store.ErrLocked) {
		_, err = fmt.Fprintln(w, "# the state is in use: an agent is running")
		return err
	} else if err != nil {
		return err
	}
	defer deps.Close()
	if mode, err := governor.ParseMode(cfg.Mode); err == nil && mode.Member() != "" &&
		deps.Family.Index(mode.Member()) < 0 {
		fmt.Fprintf(w, "# mode %s: the family has no member of that name; balanced will be used\n", cfg.Mode)
	}
	return printState(w, cfg, deps)
}

// readers says who may read the metrics.
func readers(m config.Metrics) string {
	if m.TokenFile != "" {
		return "who has the token of " + m.TokenFile
	}
	return "every program of this machine"
}

func printState(w io.Writer, cfg config.Config, d *agent.Deps) error {
	fmt.Fprintf(w, "# family %s (%s), %d members\n", d.Family.Name, d.Family.Digest().Short(), len(d.Family.Members))
	if d.Open == nil {
		return nil
	}
	profile, err := d.StoredProfile(cfg)
	if err != nil {
		return err
	}
	if profile == nil {
		_, err = fmt.Fprintln(w, "# no profile of this device yet: the next start takes one")
		return err
	}
	_, err = fmt.Fprintf(w, "# profile of %s, %s\n", profile.Taken.Format("2006-01-02 15:04:05 MST"), others(profile))
	return err
}

// others says under what load a profile was taken.
func others(p *family.Profile) string {
	if p.OthersPercent == nil {
		return "CPU of other processes unknown"
	}
	return fmt.Sprintf("other processes used %.0f %% of the CPU", *p.OthersPercent)
}

func printProfile(w io.Writer, f *family.Family, p *family.Profile) error {
	fmt.Fprintf(w, "%s, ONNX Runtime %s, %s, %d runs each, %s\n\n", p.Taken.Format("2006-01-02 15:04:05 MST"), p.Runtime,
		p.Options, p.Rounds, others(p))
	front := p.Front(f)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "member\ttop-1 %\tp50 ms\tp95 ms\tvariation %\tin use")
	for i, m := range p.Members {
		use := "yes"
		if m.Fault != "" {
			use = "no: " + m.Fault
		} else if !slices.Contains(front, i) {
			use = "no: another is faster and more accurate here"
		}
		fmt.Fprintf(t, "%s\t%.2f\t%.3f\t%.3f\t%.1f\t%s\n", m.Name, 100*f.Members[i].Top1, m.P50ms, m.P95ms, 100*m.CV, use)
	}
	return t.Flush()
}
