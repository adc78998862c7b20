package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/limber-edge/limber/agent/lock"
)

func newAgentLock() *cobra.Command {
	var state string
	c := &cobra.Command{
		Use:   "lock [-- COMMAND...]",
		Short: "Keep the device from activating another family or release",
		Long: `Keep the device from activating another family or release while COMMAND runs, and end
with its exit code; without COMMAND, until a signal comes. Blobs are fetched meanwhile,
and what is on trial already ends its trial. Several may hold the lock.

The lock is STATE/update.lock (flock): it ends with its holder, whatever ends that.`,
		Example: `  limber agent lock
  limber agent lock --state /var/lib/limber -- ./take-samples --minutes 10`,
		Args: cobra.ArbitraryArgs,
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) > 0 && c.ArgsLenAtDash() != 0 {
				return exactly(0, "its command behind --")(c, args)
			}
			return runLocked(c, state, args)
		},
	}
	stateFlag(c, &state)
	return c
}

// runLocked runs a command under the update lock.
func runLocked(c *cobra.Command, state string, command []string) error {
	say := func(format string, args ...any) { fmt.Fprintf(c.ErrOrStderr(), "limber: "+format+"\n", args...) }
	release, err := lock.Share(c.Context(), state, func() { say("waiting: a family or release is being activated") })
	if err != nil {
		return noState(err)
	}
	defer release()
	if len(command) == 0 {
		say("the update lock of %s is held until a signal comes", state)
		<-c.Context().Done()
		return nil
	}
	say("the update lock of %s is held while %s runs", state, command[0])
	run := exec.CommandContext(c.Context(), command[0], command[1:]...)
	run.Stdin, run.Stdout, run.Stderr = c.InOrStdin(), c.OutOrStdout(), c.ErrOrStderr()
	run.Cancel = func() error { return run.Process.Signal(syscall.SIGTERM) }
	run.WaitDelay = lockedEnds
	err = run.Run()
	if ended, ok := errors.AsType[*exec.ExitError](err); ok {
		return exitError{codeOf(ended.ProcessState)}
	} else if run.ProcessState != nil && run.ProcessState.Success() {
		return nil
	}
	return err
}

// lockedEnds is how long a command that was asked to end may take.
const lockedEnds = 10 * time.Second

// codeOf is how a shell tells of the end of a process.
func codeOf(s *os.ProcessState) int {
	if status, ok := s.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return 128 + int(status.Signal())
	}
	return s.ExitCode()
}

// exitError has the program end with the code of another one, which said why.
type exitError struct{ code int }

func (e exitError) Error() string { return fmt.Sprintf("the command ended with exit code %d", e.code) }
