package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/limber-edge/limber/agent/wire"
)

func checkTarget(c *cobra.Command, target string) error {
	if !wire.ValidName(target) && !wire.ValidGroup(target) {
		return usageError{fmt.Errorf("%q is neither a device nor a @group; see `%s --help`", target, c.CommandPath())}
	}
	return nil
}

// checkPositive judges a flag whose duration must leave time for something.
func checkPositive(flag string, d time.Duration) error {
	if d <= 0 {
		return usageError{fmt.Errorf("%s: must be over 0", flag)}
	}
	return nil
}

// checkDeadline judges a deadline in the words of the flag: those of the wire
// are about milliseconds.
func checkDeadline(d time.Duration) error {
	const least, most = wire.MinDeadlineMS * time.Millisecond, wire.MaxDeadlineMS * time.Millisecond
	if d < least || d > most {
		return usageError{fmt.Errorf("--deadline: %v is not from %v to %v", d, least, most)}
	}
	return nil
}
