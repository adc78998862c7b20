// Command limber is the one program: the device's agent, a broker for a desk,
// the operator's tools and the workshop where families are made.
//
// Every file here holds one sub-command, or a few short ones of a kind. They read
// flags, put parts together and print; what they do is in the packages. The data of a device flows
//
//	broker ──▶ agent ──▶ pipeline (decode, governor, session) ──▶ outbox ──▶ broker
//
// Exit codes: 0 done, 1 failed, 2 wrong usage, 3 the state folder is in use, or another
// controller serves the fleet, 4 another release of the program is to take over.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/limber-edge/limber/agent/fleet"
	"github.com/limber-edge/limber/agent/fleet/controller"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/store"
)

// version is set when the program is linked.
var version = "unknown"

// Exit codes.
const (
	exitDone = iota
	exitFailed
	exitUsage
	exitLocked
	exitSwitch
)

const exitCodes = `0 done, 1 failed, 2 wrong usage, 3 the state folder is in use, or
another controller serves the fleet, 4 another release is to take over.`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), stopSignals()...)
	context.AfterFunc(ctx, stop) // whoever asks twice does not want to wait
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// stopSignals are those that ask for an orderly end. A terminal that closes is
// one of them, unless nohup said otherwise.
func stopSignals() []os.Signal {
	signals := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) {
		signals = append(signals, syscall.SIGHUP)
	}
	return signals
}

// run is main without the process around it.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := newRoot()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	var usage usageError
	var other exitError
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &other):
		return other.code
	case errors.As(err, &usage):
		fmt.Fprintf(stderr, "limber: %v\n", err)
		return exitUsage
	case ctx.Err() != nil && errors.Is(err, ctx.Err()):
		fmt.Fprintln(stderr, "limber: interrupted")
		return exitFailed
	case errors.Is(err, store.ErrLocked), errors.Is(err, controller.ErrTaken):
		fmt.Fprintf(stderr, "limber: %v\n", err)
		return exitLocked
	}
	fmt.Fprintf(stderr, "limber: %v\n", err)
	return exitFailed
}

func newRoot() *cobra.Command {
	root := group("limber", "Classify camera frames at the edge, with the network that fits the moment",
		`  limber demo                     # see all of it on this machine

  limber broker &                 # or a desk of your own:
  limber agent &
  limber publish cat.jpg
  limber fleet ls`)
	root.Long = root.Short + ".\n\nExit codes: " + exitCodes
	root.SilenceErrors, root.SilenceUsage = true, true
	root.AddCommand(newAgent(), newCheck(), newBroker(), newPublish(), newFleet(), newDash(), newExplain(), newFamily(), newFirmware(),
		newPowerHelper(), newDemo(), newBench(), newSim(), newHog(), newColdStart(), newProbe(), newManual(), newCompletion(),
		newVersion())
	takeNoArguments(root)
	complete(root)
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return usagef("%w; see `%s --help`", err, c.CommandPath())
	})
	return root
}

func newVersion() *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Print the version",
		Example: `  limber version`,
		RunE: func(c *cobra.Command, _ []string) error {
			_, err := fmt.Fprintf(c.OutOrStdout(), "limber %s %s/%s %s\n", version, runtime.GOOS, runtime.GOARCH,
				runtime.Version())
			return err
		},
	}
}

// usageError marks a command line that is wrong.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// group is a command that only holds others. Alone it prints its help, which is
// what was wanted: exit 0.
func group(name, short, example string) *cobra.Command {
	return &cobra.Command{
		Use:     name,
		Short:   short,
		Example: example,
		Args:    cobra.ArbitraryArgs,
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usagef("there is no `%s %s`; see `%s --help`", c.CommandPath(), args[0], c.CommandPath())
			}
			return c.Help()
		},
	}
}

func exactly(n int, what string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) != n {
			return usagef("%s wants %s, got %s; see `%s --help`", c.CommandPath(), what,
				fleet.Count(len(args), "argument"), c.CommandPath())
		}
		return nil
	}
}

// takeNoArguments is for all commands that do not say which they take.
func takeNoArguments(c *cobra.Command) {
	if c.Args == nil {
		c.Args = exactly(0, "no arguments")
	}
	for _, sub := range c.Commands() {
		takeNoArguments(sub)
	}
}

// needed wants a value for every flag of a list of names and values.
func needed(command string, flags ...string) error {
	for i := 0; i < len(flags); i += 2 {
		if flags[i+1] == "" {
			return usagef("%s: --%s is missing; see `%s --help`", command, flags[i], command)
		}
	}
	return nil
}

func checkTarget(c *cobra.Command, target string) error {
	if !wire.ValidName(target) && !wire.ValidGroup(target) {
		return usagef("%q is neither a device nor a @group; see `%s --help`", target, c.CommandPath())
	}
	return nil
}

// checkPositive judges a flag whose duration must leave time for something.
func checkPositive(flag string, d time.Duration) error {
	if d <= 0 {
		return usagef("%s: must be over 0", flag)
	}
	return nil
}

// checkDeadline judges a deadline in the words of the flag: those of the wire
// are about milliseconds.
func checkDeadline(d time.Duration) error {
	const least, most = wire.MinDeadlineMS * time.Millisecond, wire.MaxDeadlineMS * time.Millisecond
	if d < least || d > most {
		return usagef("--deadline: %v is not from %v to %v", d, least, most)
	}
	return nil
}
