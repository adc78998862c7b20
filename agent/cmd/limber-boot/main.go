// Command limber-boot runs the program of a device from its slots, and brings the release
// before back when a new one does not prove itself:
//
//	limber-boot --state /var/lib/limber -- /usr/bin/limber agent --config /etc/limber/limber.toml
//
// The word behind -- is the program of the package. Where a slot is in use, its program is
// started in its place, with the same arguments. See firmware/boot.
//
// Exit codes: that of the program, once it was asked to stop, and 0 if none ran then; 1 another
// limber-boot runs with the same state; 2 wrong usage.
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/limber-edge/limber/firmware/boot"
)

// version is set when the program is linked.
var version = "unknown"

const exitUsage = 2

func main() {
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, stopSignals()...)
	if !signal.Ignored(syscall.SIGPIPE) { // which would end it once nobody reads its stderr
		signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	}
	os.Exit(run(os.Args[1:], signals, os.Stdout, os.Stderr))
}

// stopSignals are those that are passed on. A terminal that closes sends one of them, unless
// nohup said otherwise.
func stopSignals() []os.Signal {
	all := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) {
		all = append(all, syscall.SIGHUP)
	}
	return all
}

// run is main without the process around it.
func run(args []string, signals <-chan os.Signal, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("limber-boot", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() {
		fmt.Fprintln(stderr, "usage: limber-boot --state DIR -- PROGRAM [ARGUMENT...]")
	}
	state := flags.String("state", "", "")
	asked := flags.Bool("version", false, "")
	switch err := flags.Parse(args); {
	case err == flag.ErrHelp:
		return 0
	case err != nil:
		return exitUsage
	case *asked:
		fmt.Fprintln(stdout, "limber-boot", version)
		return 0
	case *state == "" || flags.NArg() == 0:
		flags.Usage()
		return exitUsage
	}
	code, err := boot.Run(boot.Config{State: *state, Argv: flags.Args(), Timing: boot.DefaultTiming()}, signals, stderr)
	if err != nil {
		fmt.Fprintf(stderr, "limber-boot: %v\n", err)
		return 1
	}
	return code
}
