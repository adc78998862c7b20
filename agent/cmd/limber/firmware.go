package main

import "github.com/spf13/cobra"

func newFirmware() *cobra.Command {
	c := group("firmware", "Sign releases of the program, and keep them where devices find them",
		`  limber firmware keygen --role releases --out keys/releases-alice.pem
  limber firmware repo status --repo ./repo`)
	c.AddCommand(newFirmwareKeygen(), newFirmwareRepo())
	return c
}
