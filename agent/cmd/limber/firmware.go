package main

import "github.com/spf13/cobra"

func newFirmware() *cobra.Command {
	c := group("firmware", "See which release a device runs, and why not another",
		`  limber firmware status --state /var/lib/limber`)
	c.AddCommand(newFirmwareStatus())
	return c
}
