// Command limber is the one program: the device's agent, a broker for a desk,
// the operator's tools and the workshop where families are made.
//
// Every file here holds one sub-command, or a few short ones of a kind. They read
// flags, put parts together and print; what they do is in the packages. The data of a device flows
//
//	broker ──▶ agent ──▶ pipeline (decode, governor, session) ──▶ outbox ──▶ broker
//
// Exit codes: 0 done, 1 failed, 2 wrong usage, 3 the state folder is in use.
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

	"github.com/spf13/cobra"

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
)

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
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &usage):
		fmt.Fprintf(stderr, "limber: %v\n", err)
		return exitUsage
	case ctx.Err() != nil && errors.Is(err, ctx.Err()):
		fmt.Fprintln(stderr, "limber: interrupted")
		return exitFailed
	case errors.Is(err, store.ErrLocked):
		fmt.Fprintf(stderr, "limber: %v\n", err)
		return exitLocked
	}
	fmt.Fprintf(stderr, "limber: %v\n", err)
	return exitFailed
}

func newRoot() *cobra.Command {
	root := group("limber", "Classify camera frames at the edge, with the network that fits the moment",
		`  limber demo                       see all of it on this machine

  limber broker &                   or a desk of your own:
  limber agent &
  limber publish cat.jpg
  limber fleet ls`)
	root.Long = root.Short + `.

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 the state folder is in use.`
	root.SilenceErrors, root.SilenceUsage = true, true
	root.CompletionOptions.HiddenDefaultCmd = true
	root.AddCommand(newAgent(), newBroker(), newPublish(), newFleet(), newExplain(), newFamily(), newDemo(), newBench(),
		newHog(), newColdStart(), newProbe(), newVersion())
	takeNoArguments(root)
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
