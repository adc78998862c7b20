package main

import (
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/limber-edge/limber/agent/bench/load"
)

// newHog is the process that burdens the machine beside a benchmark.
func newHog() *cobra.Command {
	return &cobra.Command{
		Use:    "hog cpu|memory|low",
		Short:  "Keep one CPU busy until standard input ends",
		Args:   exactly(1, "a kind"),
		Hidden: true,
		RunE: func(c *cobra.Command, args []string) error {
			kind := load.Kind(args[0])
			if !slices.Contains(load.Kinds(), kind) {
				return usageError{fmt.Errorf("hog: %q is none of %v", kind, load.Kinds())}
			}
			return load.Burden(kind, c.InOrStdin())
		},
	}
}
