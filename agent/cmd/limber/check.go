package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/limber-edge/limber/agent/wire"
)

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
			return usagef("%s wants %s, got %d arguments; see `%s --help`", c.CommandPath(), what, len(args),
				c.CommandPath())
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
