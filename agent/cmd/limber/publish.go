package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/limber-edge/limber/agent/fleet"
	"github.com/limber-edge/limber/agent/wire"
)

// publishArgs are the flags of `limber publish`.
type publishArgs struct {
	operatorArgs
	device   string
	deadline time.Duration
	minTop1  float64
	priority string
	wait     time.Duration
	asJSON   bool
}

func newPublish() *cobra.Command {
	var a publishArgs
	c := &cobra.Command{
		Use:   "publish FILE...",
		Short: "Send frames to a device and print the answers",
		Long: `Send JPEG, PNG or WebP files to a device and print what it saw, in the order of
the files. Nothing is sent when one of them cannot be read. The exit code is 0
when every frame was answered and none refused.

With --json each line is the result as it came; its id ends in the number of the
file, from 0.`,
		Example: `  limber publish cat.jpg
  limber publish --device cam-17 --deadline 50ms --min-top1 0.87 --json frames/*.png`,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usagef("%s wants at least one file; see `%s --help`", c.CommandPath(), c.CommandPath())
			}
			return nil
		},
		RunE: func(c *cobra.Command, files []string) error { return a.run(c, files) },
	}
	a.flags(c)
	f := c.Flags()
	f.StringVar(&a.device, "device", wire.DefaultDevice, "name of the device")
	f.DurationVar(&a.deadline, "deadline", wire.DefaultDeadline,
		"how long the device may take, from receipt; if not given, its goal decides")
	f.Float64Var(&a.minTop1, "min-top1", 0,
		"least accuracy of the member that answers, a fraction; if not given, its goal decides; 0 asks for none")
	f.StringVar(&a.priority, "priority", wire.Normal, "low, normal or high: frames of higher priority go first")
	f.DurationVar(&a.wait, "wait", 10*time.Second,
		"how long to wait for the device, and beyond the deadline for an answer")
	f.BoolVar(&a.asJSON, "json", false, "print each result as it came, one JSON object a line")
	return c
}

func (a *publishArgs) run(c *cobra.Command, files []string) error {
	header, err := a.header(c)
	if err != nil {
		return usageError{err}
	}
	if !wire.ValidName(a.device) {
		return usagef("--device %q is not [A-Za-z0-9_.-]{1,64}", a.device)
	}
	if err := checkPositive("--wait", a.wait); err != nil {
		return err
	}
	for _, name := range files {
		if err := checkFrame(name); err != nil {
			return err
		}
	}
	self := wire.Address{Fleet: a.fleet, Device: a.device}
	return a.client(c.Context(), c.ErrOrStderr(), fleet.ExchangeFilters(self),
		func(ctx context.Context, fl *fleet.Client) error {
			p := answerPrinter{out: c.OutOrStdout(), asJSON: a.asJSON, progress: newProgress(c)}
			defer p.progress.End()
			p.progress.Say("waiting for device " + a.device)
			if err := a.awaitOnline(ctx, fl); err != nil {
				return err
			}
			err := fl.Exchange(ctx, fleet.Frames{
				To: self, Header: header, Names: files, Read: readFrame, Patience: a.deadline + a.wait, Answer: p.print,
				Progress: func(answered int) { p.progress.Tell("frames", answered, len(files)) },
			})
			if err == nil && p.refused > 0 {
				err = fmt.Errorf("%d of %d frames were refused", p.refused, len(files))
			}
			return err
		})
}

func (a *publishArgs) header(c *cobra.Command) (wire.Header, error) {
	var h wire.Header
	if c.Flags().Changed("deadline") {
		if err := checkDeadline(a.deadline); err != nil {
			return h, err
		}
		h.DeadlineMS = new(wire.Millis(a.deadline))
	}
	if c.Flags().Changed("min-top1") {
		h.MinTop1 = &a.minTop1
	}
	if c.Flags().Changed("priority") {
		h.Priority = a.priority
	}
	_, err := wire.JoinJob(h, nil) // judges the values
	return h, err
}

// awaitOnline waits until the device says that it is there.
func (a *publishArgs) awaitOnline(ctx context.Context, fl *fleet.Client) error {
	wait, cancel := context.WithTimeout(ctx, a.wait)
	defer cancel()
	d, err := fl.AwaitOnline(wait, a.device)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return errors.New("stopped before anything was sent")
	}
	last := "it has never been at this broker"
	if d.State != nil {
		last = string(d.State.State)
		if d.State.State != wire.Lost { // nobody knows since when that is
			last += " since " + d.State.TS.Local().Format(time.DateTime)
		}
	}
	return fmt.Errorf("device %s of fleet %s is not there: %s; start it with `limber agent`, or see `limber fleet ls`",
		a.device, a.fleet, last)
}

// frameLimit is the size in bytes of a frame that no device takes whatever its
// configuration: with topic and header it would pass 16 MiB, and the device
// would close its connection.
const frameLimit = 16<<20 - 4<<10

// checkFrame says whether a file can be a frame, before anything is sent.
func checkFrame(name string) error {
	info, err := os.Stat(name)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("frame %s: there is no such file", name)
	case err != nil:
		return fmt.Errorf("frame: %w", err)
	case info.IsDir():
		return fmt.Errorf("frame %s: it is a folder; name the files in it, such as %s/*.jpg", name, filepath.Clean(name))
	case !info.Mode().IsRegular():
		return nil // a pipe can be opened once, and its size is known when it was read
	}
	f, err := os.Open(name)
	if err != nil {
		return fmt.Errorf("frame: %w", err)
	}
	defer f.Close()
	return checkSize(name, info.Size())
}

func checkSize(name string, bytes int64) error {
	switch {
	case bytes == 0:
		return fmt.Errorf("frame %s: the file is empty; a frame is a JPEG, PNG or WebP picture", name)
	case bytes > frameLimit:
		return fmt.Errorf("frame %s: more than the %.0f MiB that a device may take; send a smaller picture", name,
			float64(frameLimit)/(1<<20))
	}
	return nil
}

func readFrame(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("frame: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, frameLimit+1))
	if err != nil {
		return nil, fmt.Errorf("frame: %w", err)
	}
	return b, checkSize(name, int64(len(b)))
}

// answerPrinter prints answers to frames, and counts those that say no.
type answerPrinter struct {
	out      io.Writer
	asJSON   bool
	progress *progress
	refused  int
}

func (p *answerPrinter) print(name string, a fleet.Answer) error {
	p.progress.End()
	r := a.Result
	if r.Status != wire.OK {
		p.refused++
	}
	var err error
	switch {
	case p.asJSON:
		_, err = fmt.Fprintf(p.out, "%s\n", a.Payload)
	case r.Status != wire.OK:
		_, err = fmt.Fprintf(p.out, "%s: refused, %s: %s\n", name, r.Reason, r.Detail)
	default:
		_, err = fmt.Fprintf(p.out, "%s: %s\n", name, seen(r))
	}
	return err
}

// seen says what a device saw, and how well.
func seen(r wire.Result) string {
	if len(r.Classes) == 0 || r.MS == nil {
		return "answered, but without classes and times"
	}
	best, late := r.Classes[0], ""
	if !r.Met {
		late = ", late"
	}
	return fmt.Sprintf("%s %.0f %%  (member %s, %.2f ms of %.0f ms%s)", best.Label, 100*best.P, r.Member, r.MS.Total,
		r.DeadlineMS, late)
}
