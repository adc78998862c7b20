package main

import "github.com/spf13/cobra"

func newFirmware() *cobra.Command {
	c := group("firmware", "Sign releases of the program, keep them where devices find them, and see which one runs",
		`  limber firmware keygen --role releases --out keys/releases-alice.pem
  limber firmware repo status --repo ./repo
  limber firmware status`)
	c.AddCommand(newFirmwareKeygen(), newFirmwareRepo(), newFirmwareStatus())
	return c
}
