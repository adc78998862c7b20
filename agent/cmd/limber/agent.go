package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/limber-edge/limber/agent"
	"github.com/limber-edge/limber/agent/mqtt"
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
with every default.`,
		Example: `  limber agent
  limber agent --config /etc/limber.toml
  limber agent --broker mqtts://broker:8883 --device cam-17 --check
  limber agent --profile`,
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := a.read(c)
			if err != nil {
				return err
			}
			return a.run(c, cfg)
		},
	}
	f := c.Flags()
	f.StringVar(&a.config, "config", "", "TOML file")
	f.Var(&a.broker, "broker", "URL of the broker, mqtt://host:port, or with mqtts, ws or wss; several have commas between them")
	f.StringVar(&a.fleet, "fleet", "", "name of the fleet")
	f.StringVar(&a.device, "device", "", "name of this device")
	f.StringVar(&a.state, "state", "", "folder for what must outlive a restart; delete it to start anew")
	f.BoolVar(&a.check, "check", false, "print what would run, and do not run it")
	f.BoolVar(&a.profile, "profile", false, "measure the members on this device again, and do not run")
	return c
}

// read joins defaults, file and flags.
func (a *agentArgs) read(c *cobra.Command) (agent.Config, error) {
	cfg := agent.Default()
	if a.config != "" {
		var err error
		if cfg, err = agent.ReadConfig(a.config); err != nil {
			return agent.Config{}, err
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
		return agent.Config{}, err
	}
	return cfg, nil
}

func (a *agentArgs) run(c *cobra.Command, cfg agent.Config) error {
	log := newLogger(c.ErrOrStderr(), cfg.LogLevel).With("device", cfg.Device)
	if a.check {
		return printCheck(c.OutOrStdout(), cfg)
	}
	deps, err := openDevice(cfg, log)
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
	dev, err := agent.New(cfg, deps, log)
	if err != nil {
		return err
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(garbage)
	}
	log.Info("agent starts", "fleet", cfg.Fleet, "state", cfg.State, "version", version)
	err = dev.Run(c.Context())
	if errors.Is(err, agent.ErrHung) {
		log.Error("agent ends, to be started anew", "err", err)
		os.Exit(exitFailed) // whatever is closed may wait for what hangs
	}
	if err != nil {
		return err
	}
	log.Info("agent stopped")
	return nil
}

// openDevice opens the state, family and runtime of a device.
func openDevice(cfg agent.Config, log *slog.Logger) (*agent.Deps, error) {
	return agent.Open(cfg, agent.Options{Version: version, Inference: func() (agent.Inference, error) {
		return agent.OpenONNXRuntime(cfg.State, newTrial())
	}}, log)
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
