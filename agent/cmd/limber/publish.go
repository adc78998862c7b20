package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/limber-edge/limber/agent"
	"github.com/limber-edge/limber/agent/fleet"
	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/wire"
)

// publishArgs are the flags of `limber publish`.
type publishArgs struct {
	operatorArgs
	device   string
	deadline time.Duration
	minTop1  float64
	wait     time.Duration
	asJSON   bool
}

func newPublish() *cobra.Command {
	var a publishArgs
	c := &cobra.Command{
		Use:   "publish FILE...",
		Short: "Send frames to a device and print the answers",
		Example: `  limber publish cat.jpg
  limber publish --deadline 50ms --min-top1 0.7 --json frames/*.png`,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usageError{fmt.Errorf("%s wants at least one file; see `%s --help`", c.CommandPath(), c.CommandPath())}
			}
			return nil
		},
		RunE: func(c *cobra.Command, files []string) error { return a.run(c, files) },
	}
	a.flags(c)
	f := c.Flags()
	f.StringVar(&a.device, "device", agent.Default().Device, "name of the device")
	f.DurationVar(&a.deadline, "deadline", wire.DefaultDeadline, "how long the device may take, from receipt")
	f.Float64Var(&a.minTop1, "min-top1", 0, "least accuracy of the member that answers, a fraction")
	f.DurationVar(&a.wait, "wait", 10*time.Second, "how long to wait for the answers beyond the deadline")
	f.BoolVar(&a.asJSON, "json", false, "print each result as it came, one JSON object a line")
	return c
}

func (a *publishArgs) run(c *cobra.Command, files []string) error {
	header, err := a.header()
	if err != nil {
		return usageError{err}
	}
	frames := make([][]byte, len(files))
	for i, name := range files {
		body, err := os.ReadFile(name)
		if err != nil {
			return fmt.Errorf("frame: %w", err)
		}
		if frames[i], err = wire.JoinJob(header, body); err != nil {
			return err
		}
	}
	self := wire.Address{Fleet: a.fleet, Device: a.device}
	if !wire.ValidName(a.device) {
		return usageError{fmt.Errorf("--device %q is not [A-Za-z0-9_.-]{1,64}", a.device)}
	}
	filters := []string{self.Filter(wire.KindResult), self.State()}
	return a.station(c.Context(), c.ErrOrStderr(), filters, func(ctx context.Context, s *fleet.Station) error {
		ctx, cancel := context.WithTimeout(ctx, a.deadline+a.wait)
		defer cancel()
		return a.exchange(ctx, s, self, files, frames, c.OutOrStdout())
	})
}

func (a *publishArgs) header() (wire.Header, error) {
	ms := wire.Millis(a.deadline)
	h := wire.Header{DeadlineMS: &ms}
	if a.minTop1 != 0 {
		h.MinTop1 = &a.minTop1
	}
	_, err := wire.JoinJob(h, nil) // judges the values
	return h, err
}

// exchange publishes every frame and prints the results as they come.
func (a *publishArgs) exchange(ctx context.Context, s *fleet.Station, self wire.Address, files []string, frames [][]byte, out io.Writer) error {
	if err := awaitOnline(ctx, s, self); err != nil {
		return err
	}
	batch := fleet.NewID()[:12]
	names := map[string]string{}
	for i, frame := range frames {
		id := fmt.Sprintf("%s-%d", batch, i)
		names[id] = filepath.Base(files[i])
		if err := s.Publish(ctx, mqtt.Message{Topic: self.Job(id), Payload: frame, QoS: 1}); err != nil {
			return fmt.Errorf("frame %s: %w", files[i], err)
		}
	}
	refused := 0
	for len(names) > 0 {
		m, err := s.Next(ctx)
		if err != nil {
			return fmt.Errorf("%d of %d frames were not answered within %v: is the device there? see `limber fleet ls`",
				len(names), len(frames), a.deadline+a.wait)
		}
		t, err := wire.ParseTopic(m.Topic)
		name, ours := names[t.ID]
		if err != nil || !ours {
			continue
		}
		delete(names, t.ID)
		var r wire.Result
		if err := wire.Decode(m.Payload, &r); err != nil {
			return fmt.Errorf("result for %s: %w", name, err)
		}
		if r.Status != wire.OK {
			refused++
		}
		if err := a.print(out, name, m.Payload, r); err != nil {
			return err
		}
	}
	if refused > 0 {
		return fmt.Errorf("%d of %d frames were refused", refused, len(frames))
	}
	return nil
}

// awaitOnline waits until the device says that it is there: a frame sent before
// would reach nobody.
func awaitOnline(ctx context.Context, s *fleet.Station, self wire.Address) error {
	last := "it has never called at this broker"
	for {
		m, err := s.Next(ctx)
		if err != nil {
			return fmt.Errorf("device %s of fleet %s is not there: %s; see `limber fleet ls`", self.Device, self.Fleet, last)
		}
		var state wire.State
		if m.Topic != self.State() || wire.Decode(m.Payload, &state) != nil {
			continue
		}
		if state.State == wire.Online {
			return nil
		}
		last = fmt.Sprintf("%s since %s", state.State, state.TS.Local().Format(time.DateTime))
	}
}

func (a *publishArgs) print(out io.Writer, name string, payload []byte, r wire.Result) error {
	var err error
	switch {
	case a.asJSON:
		_, err = fmt.Fprintf(out, "%s\n", json.RawMessage(payload))
	case r.Status != wire.OK:
		_, err = fmt.Fprintf(out, "%s: refused, %s: %s\n", name, r.Reason, r.Detail)
	default:
		best := r.Classes[0]
		_, err = fmt.Fprintf(out, "%s: %s %.0f %%  (member %s, %.2f ms of %.0f ms)\n", name, best.Label, 100*best.P, r.Member, r.MS.Total, r.DeadlineMS)
	}
	return err
}
