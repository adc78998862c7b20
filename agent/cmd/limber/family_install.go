package main

import (
	"fmt"
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/limber-edge/limber/agent"
	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/family/library"
)

func newFamilyInstall() *cobra.Command {
	var dir string
	state := agent.Default().State
	c := &cobra.Command{
		Use:   "install",
		Short: "Give a device on this machine a family",
		Long: `Store a family in the state folder of a device that does not run. From its next
start on the device uses it: the members are cut, checked by their canaries and
measured there. A file made with "family pack --without-supernet" will do if the
device has the supernet.`,
		Example: `  limber family install --family mine.family
  limber family install --family ./mine --state ./state`,
		Args: exactly(0, "no arguments"),
		RunE: onFamily(&dir, func(c *cobra.Command, f *family.Folder) error {
			if err := library.Install(state, f, slog.New(slog.DiscardHandler)); err != nil {
				return err
			}
			_, err := fmt.Fprintf(c.OutOrStdout(), "family %s (%s), %d members, is in %s; the next start of the agent uses it\n",
				f.Name, f.Digest().Short(), len(f.Members), state)
			return err
		}),
	}
	familyFlag(c, &dir)
	c.Flags().StringVar(&state, "state", state, "state folder of the device")
	return c
}
