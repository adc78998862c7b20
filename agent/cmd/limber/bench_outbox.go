package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/limber-edge/limber/agent/bench"
)

func newBenchOutbox() *cobra.Command {
	var asJSON bool
	var dir string
	c := &cobra.Command{
		Use:   "outbox",
		Short: "What it takes to keep results until the broker has them",
		Long: `Measure, in turns in one run, records of 512 bytes:

  append         records a second that become durable, 64 at once, against appending
                 them to a file in the same groups: a checksum each, one fdatasync a
                 group; then against a transaction of bbolt each, and against the
                 client library's file store, which does not sync
  p99            how long such a group takes, 99th percentile, against the same file
  amplification  bytes written for a byte of a record at 20 records a second, each a
                 group of its own, against the same file: a disk writes blocks of
                 4 KiB, eight times as much as one record has
  size           an outbox that was compacted, most of it delivered, against the bytes
                 that are live in it
  drain          records a second from a backlog to a broker, QoS 1, against
                 publishing the same from memory
  window         publish to result, 95th percentile at 1000 jobs a second of a device
                 that answers at once, a job acknowledged when its answer is on the
                 disk, against when the answer was delivered

The broker is a mosquitto where one is installed, else the embedded one. Every figure
is a median of ` + fmt.Sprint(bench.OutboxRounds) + ` rounds; what --dir is on is measured.`,
		Example: `  limber bench outbox
  limber bench outbox --dir /var/lib/limber --json`,
		RunE: func(c *cobra.Command, _ []string) error { return withFolder(c, asJSON, dir, bench.Outbox) },
	}
	jsonFlag(c, &asJSON, "figure")
	c.Flags().StringVar(&dir, "dir", "", "folder on the disk that is to be measured; default: where temporary files go")
	return c
}
