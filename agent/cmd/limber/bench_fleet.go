package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/limber-edge/limber/agent/bench"
)

func newBenchFleet() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "fleet",
		Short: "What fleets of 10, 100 and 1,000 devices take of broker and operator",
		Long: `Measure fleets of simulated devices (` + "`limber sim`" + `), with broker, controller and
devices in processes of their own:

  birth     from the start of all devices at once until a client has seen each of them
            online, against a second and 10 ms a device
  mode      from the publication of a mode to all until a device has taken it, 50th and
            95th percentile, against 2 s
  memory    of the broker; of the controller, once it has brought a mode to all; of a
            client that sees all documents, telemetry and events; and of an hour of
            telemetry as gates of rollouts need it: KiB a device in a fleet of 1,000,
            against that in one of 100
  blob      MB/s of a blob that a device fetches over the broker, against HTTP, both on
            this machine

The broker is a mosquitto where one is installed, else the embedded one. Every figure
is a median of ` + fmt.Sprint(bench.FleetRounds) + ` rounds.`,
		Example: `  limber bench fleet
  limber bench fleet --json`,
		RunE: func(c *cobra.Command, _ []string) error { return withFolder(c, asJSON, "", bench.Fleet) },
	}
	jsonFlag(c, &asJSON, "figure")
	return c
}
