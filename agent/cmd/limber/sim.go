package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/limber-edge/limber/agent/fleet"
	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/sim"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/broker-config/devbroker"
	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/firmware/repo"
)

// simArgs are the flags of `limber sim`.
type simArgs struct {
	operator operatorArgs // broker, fleet, and who looks on
	certs    string       // folder, of the devices
	trials   []string     // "NAME=REASON"
	cfg      sim.Config
	profile  string // file
	churn    string // "1%"
	pack     string // folder
	length   time.Duration
	asJSON   bool
}

func newSim() *cobra.Command {
	var a simArgs
	c := &cobra.Command{
		Use:   "sim",
		Short: "Run a fleet of simulated devices in this process",
		Long: `Run as many devices as you like in this process: the agents are real, their
inferences only take their time, the machine below them is simulated, and their state
is in memory. See births, commands and rollouts of a whole fleet on one desk.

Without --broker a broker is started on a free port, whose address is printed. The
devices are called sim-0000 and so on: a second simulation at a broker needs a --fleet
of its own. At a broker that wants certificates, --certs has those of "limber broker
certs", of each device, and of the operator who looks on unless other flags name those.

--churn is the share of the devices that end in a minute; they come back within ten
seconds, every fourth as another device under its name, without its state. With --cut
the link of each device is broken for that long, a tenth of all the time. The same
--seed repeats who ends and whose link breaks.

FILE is JSON. Devices start with its first family; --pack writes all of them to a
folder as NAME.family, to be rolled out. A member whose takes_ms is over its latency_ms
misses deadlines that its profile promises to keep: a rollout has to find out.
agreement is the share of pictures that it gives to the class all others give; cv is
the coefficient of variation of its times, kib the size of its model. load is repeated:
slowdown is that of each inference. Each device is sent fps frames a second, with a
deadline of deadline_ms each. With --repository and --root-file devices take releases
of the program that are signed there, and run on under their versions, whatever is in
them; those that releases names fail. Without --profile it is this one:

` + string(sim.Example) + `
--trial has a family or a release not prove itself on any device, for a rehearsal: a
family misses, every deadline, or fails its canary, as every member gives other logits;
a release fails as a program would by itself: crash, hang, no_link, canary, inference,
state. All but no_link are told at once, without the time that they take in the field.
fails in the profile says the same.

It runs until it is interrupted, or for --for, and prints totals then: births of agents
that took place and that an operator's client saw, ends, other devices, broken links and
frames. --json prints them as one object, after one with the broker's address and one
when all devices were seen online.`,
		Example: `  limber sim -n 1000
  limber sim -n 100 --churn 1% --cut 30s --for 5m --json
  limber sim -n 20 --profile fleet.json --broker mqtt://127.0.0.1:1883 --pack families
  limber sim -n 20 --broker mqtt://127.0.0.1:1883 --pack families --trial night=canary
  limber sim -n 20 --broker mqtt://127.0.0.1:1883 --repository http://127.0.0.1:8090 \
    --root-file ./repo/metadata/1.root.json --trial 1.5.0=hang --trial 1.6.0=state
  limber sim -n 1 --broker mqtts://127.0.0.1:8883 --certs certs`,
		RunE: func(c *cobra.Command, _ []string) error { return a.run(c) },
	}
	f := c.Flags()
	f.IntVarP(&a.cfg.Devices, "number", "n", 10, "how many devices")
	f.Uint64Var(&a.cfg.Seed, "seed", 1, "of all chance")
	f.StringVar(&a.profile, "profile", "", "FILE with families, load and frames")
	f.DurationVar(&a.cfg.Ramp, "ramp", 0, "time over which the devices start; 0: all at once")
	f.StringVar(&a.churn, "churn", "0%", "share of the devices that end in a minute")
	f.DurationVar(&a.cfg.Cut, "cut", 0, "how long links are broken, now and then; 0: never")
	f.Var(&a.operator.broker.URL, "broker", "URL of the broker; several have commas between them; default: one is started")
	f.StringVar(&a.operator.fleet, "fleet", wire.DefaultFleet, "name of the fleet")
	a.operator.credentials(c)
	f.StringVar(&a.certs, "certs", "", "folder with NAME.crt and NAME.key of each device, ca.crt and operator.crt")
	f.StringArrayVar(&a.trials, "trial", nil, "NAME=REASON: a family or release that fails, and how; may be given again")
	f.StringSliceVar(&a.cfg.Releases.Repository, "repository", nil, "URL of a repository of releases, and of its mirrors")
	f.StringVar(&a.cfg.Releases.RootFile, "root-file", "", "metadata/1.root.json of the repository")
	f.StringVar(&a.pack, "pack", "", "folder to write the families to")
	f.DurationVar(&a.length, "for", 0, "how long it runs; 0: until it is interrupted")
	f.BoolVar(&a.asJSON, "json", false, "print JSON objects")
	return c
}

// config is what the flags ask for.
func (a *simArgs) config() error {
	churn, percent := strings.CutSuffix(a.churn, "%")
	share, err := strconv.ParseFloat(churn, 64)
	switch {
	case err != nil || !percent || !(share >= 0 && share <= 100):
		return usagef("--churn %q: wants a share such as 1%%", a.churn)
	case a.cfg.Devices < 1 || a.cfg.Devices > sim.MaxDevices:
		return usagef("-n %d: wants 1 to %d devices", a.cfg.Devices, sim.MaxDevices)
	case a.cfg.Cut < 0 || a.length < 0 || a.cfg.Ramp < 0:
		return usagef("--cut, --for and --ramp: must not be under 0")
	case (a.cfg.Releases.Repository == nil) != (a.cfg.Releases.RootFile == ""):
		return usagef("--repository and --root-file: one wants the other")
	}
	a.cfg.Churn, a.cfg.Version, a.cfg.Fleet = share/100, version, a.operator.fleet
	if err := a.read(); err != nil {
		return err
	}
	if err := a.identify(); err != nil {
		return err
	}
	_, err = a.operator.link()
	return err
}

// read reads the profile, and what is to fail of it.
func (a *simArgs) read() (err error) {
	text := sim.Example
	if a.profile != "" {
		if text, err = os.ReadFile(a.profile); err != nil {
			return fmt.Errorf("profile: %w", err)
		}
	}
	if a.cfg.Profile, err = sim.ParseProfile(text); err != nil {
		return fmt.Errorf("%s: %w", cmp.Or(a.profile, "example"), err)
	}
	for _, trial := range a.trials {
		name, reason, ok := strings.Cut(trial, "=")
		named := func(f sim.Family) bool { return f.Name == name }
		if !ok || !repo.ValidVersion(name) && !slices.ContainsFunc(a.cfg.Profile.Families, named) {
			return usagef("--trial %q: wants a family of the profile or a version, and how it fails, such as 1.6.0=crash", trial)
		}
		if err := a.cfg.Profile.Fail(name, reason); err != nil {
			return usagef("--trial %q: %w", trial, err)
		}
	}
	return nil
}

// identify finds the certificates that --certs has.
func (a *simArgs) identify() error {
	if a.certs == "" {
		return nil
	}
	b := &a.operator.broker
	if b.URL == nil {
		return usagef("--certs: wants the --broker that asks for them")
	}
	b.CAFile = cmp.Or(b.CAFile, filepath.Join(a.certs, "ca.crt"))
	if b.CertFile == "" && b.User == "" {
		b.CertFile, b.KeyFile = a.certificate(wire.Operator)
	}
	for i := range a.cfg.Devices {
		cert, _ := a.certificate(sim.Name(i))
		if _, err := os.Stat(cert); err != nil {
			return fmt.Errorf("%w: `limber broker certs --out %s --device %s` makes it", err, a.certs, sim.Name(i))
		}
	}
	return nil
}

// certificate are the files of a name's.
func (a *simArgs) certificate(name string) (cert, key string) {
	return filepath.Join(a.certs, name+".crt"), filepath.Join(a.certs, name+".key")
}

// brokerOf is the broker as a device comes to it: with a certificate of its own, or as the
// operator does.
func (a *simArgs) brokerOf(device string) mqtt.Broker {
	b := a.operator.broker
	if a.certs != "" {
		b.User, b.PasswordFile = "", ""
		b.CertFile, b.KeyFile = a.certificate(device)
	}
	return b
}

func (a *simArgs) run(c *cobra.Command) (err error) {
	if err := a.config(); err != nil {
		return err
	}
	if err := a.packAll(c); err != nil {
		return err
	}
	if a.cfg.State, err = os.MkdirTemp(sim.StateFolder(), "limber-sim-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(a.cfg.State)) }()
	g, ctx := errgroup.WithContext(context.WithoutCancel(c.Context()))
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	if a.operator.broker.URL == nil {
		b, err := devbroker.New(devbroker.Config{Listen: "127.0.0.1:0"}, newLogger(c.ErrOrStderr(), "error"))
		if err != nil {
			return err
		}
		g.Go(func() error { return b.Run(ctx) })
		a.operator.broker.URL = mqtt.URLs{"mqtt://" + b.Addr()}
	}
	g.Go(func() error {
		defer stop()
		return a.simulate(ctx, c)
	})
	return g.Wait()
}

// packAll writes the families, if that is asked for.
func (a *simArgs) packAll(c *cobra.Command) error {
	if a.pack == "" {
		return nil
	}
	if err := os.MkdirAll(a.pack, 0o755); err != nil {
		return err
	}
	for i := range a.cfg.Profile.Families {
		f, err := a.cfg.Profile.Folder(i)
		if err != nil {
			return err
		}
		path := filepath.Join(a.pack, f.Name+".family")
		file, err := os.Create(path)
		if err != nil {
			return err
		}
		err = family.Pack(file, &f.Family, f, func(family.Digest) bool { return false })
		if err := errors.Join(err, file.Close()); err != nil {
			return err
		}
		if !a.asJSON {
			fmt.Fprintf(c.OutOrStdout(), "%s: family %s (%s), %s\n", path, f.Name, f.Digest().Short(),
				fleet.Count(len(f.Members), "member"))
		}
	}
	return nil
}

// simSummary is what `limber sim --json` prints.
type simSummary struct {
	Broker  string      `json:"broker,omitempty"` // of the first object alone
	Devices int         `json:"devices"`
	Seen    int         `json:"seen"`                // births that the operator saw
	Online  int         `json:"online"`              // devices, as the operator has it
	OnlineS float64     `json:"online_s,omitempty"`  // s until all were seen online
	Counts  *sim.Counts `json:"simulated,omitempty"` // of the last alone
}

// simulate runs the fleet, and an operator's client that looks on, until the command is
// interrupted or its time is over. The client is there until the last device has ended.
func (a *simArgs) simulate(ctx context.Context, c *cobra.Command) error {
	a.cfg.Broker = a.brokerOf
	devices, err := sim.New(a.cfg, newLogger(c.ErrOrStderr(), "error"))
	if err != nil {
		return err
	}
	if err := a.say(c, simSummary{Broker: a.operator.broker.URL.Redacted().String(), Devices: a.cfg.Devices}); err != nil {
		return err
	}
	s := &simView{simArgs: a, c: c, progress: newProgress(c), began: time.Now()}
	s.seen.Store(new(sim.Seen))
	err = a.operator.client(ctx, c.ErrOrStderr(), fleet.ListFilters(a.cfg.Fleet),
		func(ctx context.Context, fl *fleet.Client) error { return s.look(ctx, fl, devices) })
	s.progress.End()
	if err = errors.Join(err, s.err); err != nil {
		return err
	}
	seen, counts := s.seen.Load(), devices.Counts()
	last := simSummary{Devices: a.cfg.Devices, Seen: seen.Births, Online: seen.Online, OnlineS: s.all, Counts: &counts}
	return a.say(c, last)
}

// simView follows what the operator sees.
type simView struct {
	*simArgs
	c        *cobra.Command
	progress *progress
	began    time.Time
	seen     atomic.Pointer[sim.Seen]
	all      float64 // s until all were online; 0: they were not yet
	err      error
}

// look follows the fleet while it runs.
func (s *simView) look(ctx context.Context, fl *fleet.Client, devices *sim.Fleet) error {
	running, stop := context.WithCancel(s.c.Context())
	defer stop()
	if s.length > 0 {
		running, stop = context.WithTimeout(running, s.length)
		defer stop()
	}
	watching, leave := context.WithCancel(ctx)
	g, watching := errgroup.WithContext(watching)
	g.Go(func() error {
		if err := sim.Watch(watching, fl.Registry(), s.tell); !errors.Is(err, context.Canceled) {
			return err
		}
		return nil
	})
	g.Go(func() error {
		defer leave()
		return devices.Run(running)
	})
	return g.Wait()
}

// tell takes what is seen now.
func (s *simView) tell(seen sim.Seen) bool {
	s.seen.Store(&seen)
	if s.all == 0 {
		s.progress.Tell("births seen", seen.Births, s.cfg.Devices)
	}
	if s.all == 0 && seen.Online == s.cfg.Devices {
		s.progress.End()
		s.all = time.Since(s.began).Seconds()
		s.err = s.say(s.c, simSummary{Devices: s.cfg.Devices, Seen: seen.Births, Online: seen.Online, OnlineS: s.all})
	}
	return true
}

// say prints how far it is.
func (a *simArgs) say(c *cobra.Command, s simSummary) (err error) {
	w := c.OutOrStdout()
	switch n := s.Counts; {
	case a.asJSON:
		err = json.NewEncoder(w).Encode(s)
	case s.Broker != "":
		_, err = fmt.Fprintf(w, "%s at %s; see `limber fleet ls --broker %[2]s --fleet %s`\n",
			fleet.Count(s.Devices, "device"), s.Broker, a.cfg.Fleet)
	case n == nil:
		_, err = fmt.Fprintf(w, "%s seen online after %.1f s\n", fleet.Count(s.Devices, "device"), s.OnlineS)
	default:
		_, err = fmt.Fprintf(w, "%s, %d seen; %s, %d of them for good; %s; %s\n", fleet.Count(int(n.Births), "birth"), s.Seen,
			fleet.Count(int(n.Ends), "end"), n.Others, fleet.Count(int(n.Cuts), "broken link"),
			fleet.Count(int(n.Frames), "frame"))
	}
	return err
}
