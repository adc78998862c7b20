package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/limber-edge/limber/agent/fleet"
	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/wire"
)

func newFleet() *cobra.Command {
	c := group("fleet", "See and steer the devices of a fleet", `  limber fleet ls
  limber fleet watch --where label.site=berlin
  limber fleet show desk
  limber fleet label desk site=berlin
  limber fleet mode desk max-accuracy
  limber fleet mode @all balanced
  limber fleet goal @gate --deadline 50ms --min-top1 0.87
  limber fleet power desk clock-75
  limber fleet set @all --mode power-save
  limber fleet serve --state ./controller
  limber fleet rollout ls
  limber fleet sync
  limber fleet explain desk
  limber fleet export --prometheus-sd`)
	c.AddCommand(newFleetLs(), newFleetWatch(), newFleetShow(), newFleetEvents(), newFleetLabel(), newFleetForget(),
		newFleetCmd(), newFleetMode(), newFleetGoal(), newFleetPower(), newFleetSet(), newFleetSync(),
		newFleetServe(), newFleetRollout(), newFleetExplain(), newFleetExport())
	return c
}

// operatorArgs are the flags of every command that talks to a fleet.
type operatorArgs struct {
	broker mqtt.Broker
	fleet  string
}

func (a *operatorArgs) flags(c *cobra.Command) {
	f := c.Flags()
	a.broker.URL = mqtt.DefaultBroker().URL
	f.Var(&a.broker.URL, "broker", "URL of the broker; several have commas between them")
	f.StringVar(&a.fleet, "fleet", wire.DefaultFleet, "name of the fleet")
	a.credentials(c)
}

// credentials are the flags that say who comes to the broker.
func (a *operatorArgs) credentials(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&a.broker.User, "user", "", "name at the broker")
	f.StringVar(&a.broker.PasswordFile, "password-file", "", "file whose first line is the password")
	f.StringVar(&a.broker.CAFile, "ca-file", "", "PEM of the authorities to trust")
	f.StringVar(&a.broker.CertFile, "cert-file", "", "PEM of this client's certificate")
	f.StringVar(&a.broker.KeyFile, "key-file", "", "PEM of its key")
}

// client connects a client, runs work with it, and disconnects.
func (a *operatorArgs) client(ctx context.Context, stderr io.Writer, filters []string,
	work func(context.Context, *fleet.Client) error) error {
	cfg, err := a.link()
	if err != nil {
		return err
	}
	c, err := fleet.Open(cfg, newLogger(stderr, "error"), filters...)
	if err != nil {
		return err
	}
	return withRemedy(c.While(ctx, func(ctx context.Context) error { return work(ctx, c) }))
}

// withRemedy says what to do where there is no connection. The broker's alert has no
// type of its own.
func withRemedy(err error) error {
	var unknown x509.UnknownAuthorityError
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("%w (`limber broker` starts one for a desk)", err)
	case errors.As(err, &unknown):
		return fmt.Errorf("%w; --ca-file names the one to trust", err)
	case errors.Is(err, fleet.ErrDropped):
		return fmt.Errorf("%w; --cert-file and --key-file, or --user, name an operator", err)
	case err != nil && strings.Contains(err.Error(), "tls: certificate required"):
		return fmt.Errorf("%w; --cert-file and --key-file name this client's", err)
	}
	return err
}

// link is the configuration of a connection of its own.
func (a *operatorArgs) link() (mqtt.Config, error) {
	if !wire.ValidName(a.fleet) {
		return mqtt.Config{}, usagef("--fleet %q is not [A-Za-z0-9_.-]{1,64}", a.fleet)
	}
	return a.broker.Config("limber-" + fleet.NewID()[:12])
}

// commandArgs are the flags of `fleet mode`, `fleet goal` and `fleet power`.
type commandArgs struct {
	operatorArgs
	ttl    time.Duration
	asJSON bool
}

func (a *commandArgs) flags(c *cobra.Command, ttl time.Duration) {
	a.operatorArgs.flags(c)
	c.Flags().DurationVar(&a.ttl, "ttl", ttl,
		"how long to wait, and how long the command is good for by this computer's clock: where that of a device is "+
			"ahead, set the clocks or give more")
	c.Flags().BoolVar(&a.asJSON, "json", false, "print one JSON object a line")
}

// run leaves what is asked for to the device to judge: it may know more than this
// program does, and says which modes it knows.
func (a *commandArgs) run(c *cobra.Command, target, what string, command wire.Command) error {
	if err := errors.Join(checkTarget(c, target), checkPositive("--ttl", a.ttl)); err != nil {
		return err
	}
	return a.client(c.Context(), c.ErrOrStderr(), fleet.CommandFilters(a.fleet),
		func(ctx context.Context, fl *fleet.Client) error {
			outcomes, err := fl.Command(ctx, a.fleet, target, command, a.ttl)
			if err != nil {
				return err
			}
			failed := func(o fleet.Outcome) bool { return o.State != wire.CommandSucceeded }
			line := func(o fleet.Outcome) string { return sentence(o.Device, string(o.State), o.Reason, o.Detail) }
			return printEach(c.OutOrStdout(), outcomes, a.asJSON, line, failed, "set the "+what)
		})
}

// printEach prints a line for each device. It is an error that some failed to do what
// they were told.
func printEach[T any](w io.Writer, all []T, asJSON bool, line func(T) string, failed func(T) bool, told string) error {
	n := 0
	for _, one := range all {
		if failed(one) {
			n++
		}
		if !asJSON {
			fmt.Fprintln(w, line(one))
		}
	}
	if asJSON {
		if err := printLines(w, all); err != nil {
			return err
		}
	}
	if n > 0 {
		return fmt.Errorf("%d of %d devices did not %s", n, len(all), told)
	}
	return nil
}

// sentence is how it went on a device, on one line.
func sentence(device, state string, reason wire.Reason, detail string) string {
	line := device + ": " + state
	if reason != "" {
		line += fmt.Sprintf(" (%s)", reason)
	}
	if detail != "" {
		line += ": " + fleet.Printable(detail)
	}
	return line
}

// checkDevice judges the name of one device.
func checkDevice(c *cobra.Command, device string) error {
	if !wire.ValidName(device) {
		return usagef("%q is no device; see `%s --help`", device, c.CommandPath())
	}
	return nil
}

func newFleetMode() *cobra.Command {
	var a commandArgs
	c := &cobra.Command{
		Use:   "mode DEVICE|@GROUP MODE",
		Short: "Set the mode of a device or of a group, and wait for the answers",
		Long: `Set how a device chooses its sub-network:

  balanced      highest expected accuracy that leaves the queue its share
  max-accuracy  the most accurate member that meets each job's own deadline
  low-latency   the fastest member within two points of the best
  power-save    the cheapest member within three points of the best
  fixed:MEMBER  always that member

Everybody is in the group @all. The exit code is 0 when every device that is
online set the mode.`,
		Example: `  limber fleet mode desk max-accuracy
  limber fleet mode @all balanced
  limber fleet mode cam-17 fixed:9.7M --json`,
		Args: exactly(2, "a device or a group, and a mode"),
		RunE: func(c *cobra.Command, args []string) error {
			return a.run(c, args[0], "mode", wire.Command{Mode: args[1]})
		},
	}
	a.flags(c, 5*time.Second)
	return c
}

// rebootWait is how long a board may take to reboot and be back, where no --ttl is given.
const rebootWait = 5 * time.Minute

func newFleetPower() *cobra.Command {
	var a commandArgs
	var command wire.Command
	c := &cobra.Command{
		Use:   "power DEVICE|@GROUP MODE",
		Short: "Set the power mode of a device or of a group, and wait for the answers",
		Long: `Set the power mode of a board: on a Jetson one of nvpmodel's, such as MAXN or
MODE_15W; elsewhere clock-100, clock-75 or clock-50, which limit the clocks of the
processors to that many percent. ` + "`limber fleet ls --json`" + ` has those of each board.

It is for all programs on the board, so its owner must allow it in the agent's
configuration, power.set_mode = true, and have a power helper on the board, or the
agent run as root. A board changes its mode at most once in ten seconds.

A mode that takes a reboot fails, and says so. With --at-reboot it is left to the
board's next start, whenever that comes. With --allow-reboot the board reboots now if
the mode takes it, where its owner allows that too, power.allow_reboot = true, and
nobody holds the update lock; the command ends when the board is back in that mode.
nvpmodel keeps its mode over a reboot by itself; a limit of the clocks ends with it,
unless power.keep = true sets it again.

Everybody is in the group @all. The exit code is 0 when every device that is
online set the power mode.`,
		Example: `  limber fleet power desk clock-75
  limber fleet power @all MODE_15W
  limber fleet power desk MODE_10W --at-reboot
  limber fleet power desk MODE_10W --allow-reboot
  limber fleet power cam-17 MAXN --ttl 10s --json`,
		Args: exactly(2, "a device or a group, and a power mode"),
		RunE: func(c *cobra.Command, args []string) error {
			if !wire.ValidName(args[1]) {
				return usagef("%q is not a power mode; see `%s --help`", args[1], c.CommandPath())
			}
			if command.AtReboot && command.AllowReboot {
				return usagef("both --at-reboot and --allow-reboot: give one of them; see `%s --help`", c.CommandPath())
			}
			if command.AllowReboot && !c.Flags().Changed("ttl") {
				a.ttl = rebootWait
			}
			command.PowerMode = args[1]
			return a.run(c, args[0], "power mode", command)
		},
	}
	a.flags(c, 30*time.Second)
	c.Flags().BoolVar(&command.AtReboot, "at-reboot", false, "leave the mode to the board's next start")
	c.Flags().BoolVar(&command.AllowReboot, "allow-reboot", false,
		"reboot the board now if the mode takes it, and wait five minutes for it unless --ttl says otherwise")
	return c
}
