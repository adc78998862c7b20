package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/limber-edge/limber/agent/bench"
	"github.com/limber-edge/limber/agent/bench/camera"
)

func newBenchE2E() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "e2e",
		Short: "What a camera's frame takes on its whole way, broker and decoding included",
		Long: `Measure, in turns in one run, with broker and agent in processes of their own and
the largest member that is worth using on this machine:

  request       from publishing a frame to its result, against decoding, resizing
                and inferring it in this process plus the echo of the same bytes
                through the same broker
  jpeg          a 1920x1080 JPEG to the member's tensor, against image/jpeg
                decoding it alone
  decode_allocs allocations a frame of the same, against image/jpeg's
  throughput    answers a second with ` + fmt.Sprint(bench.Window) + ` frames under way, against 1/max(decoding,
                inference): what the slower of the two could do alone

tiny is a 32x32 PNG of the test images, vga the same enlarged to 480x480 and padded
to 640x480, hd to 1080x1080 and 1920x1080, both JPEGs of quality ` + fmt.Sprint(camera.Quality) + `. Messages are of
QoS 1. The broker is a mosquitto where one is installed, else the embedded one.
Every figure is a median of ` + fmt.Sprint(bench.Rounds) + ` rounds.`,
		Example: `  limber bench e2e
  limber bench e2e --json`,
		Args: exactly(0, "no arguments"),
		RunE: func(c *cobra.Command, _ []string) error {
			return withBench(c, asJSON, bench.E2E)
		},
	}
	jsonFlag(c, &asJSON, "figure")
	return c
}
