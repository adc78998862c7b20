package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/limber-edge/limber/agent/fleet"
	"github.com/limber-edge/limber/agent/fleet/controller"
	"github.com/limber-edge/limber/agent/wire"
)

// rolloutWatch are the flags of `fleet rollout watch`.
type rolloutWatch struct {
	operatorArgs
	wait, asJSON bool
}

func newRolloutWatch() *cobra.Command {
	var a rolloutWatch
	c := &cobra.Command{
		Use:   "watch ID",
		Short: "Show a rollout as it goes on, until it is stopped",
		Long: `Show a rollout as it goes on, until it is stopped (Ctrl-C), with those devices first
that somebody should look at. In a pipe, and with --json, it is a line for each change.
While no controller is there it says so and waits for one. With --wait it ends with the
rollout: the exit code is 0 if that is done, 1 if it has failed or was aborted.`,
		Example: `  limber fleet rollout watch night
  limber fleet rollout watch night --wait --json`,
		Args: exactly(1, "the id of a rollout"),
		RunE: func(c *cobra.Command, args []string) error {
			err := a.rollouts(c, func(ctx context.Context, r *controller.Remote) error {
				if _, ok := r.Rollout(args[0]); !ok {
					return noRollout(args[0])
				}
				return a.follow(ctx, c, r, args[0])
			})
			if !a.wait {
				return untilStopped(c.Context(), err)
			}
			return err
		},
	}
	a.flags(c)
	c.Flags().BoolVar(&a.wait, "wait", false, "end with the rollout, and with its exit code")
	c.Flags().BoolVar(&a.asJSON, "json", false, "print one JSON object a line")
	return c
}

// follow shows a rollout until ctx ends, it is not kept any more or, if that is waited
// for, it ends.
func (a *rolloutWatch) follow(ctx context.Context, c *cobra.Command, r *controller.Remote, id string) error {
	f := &followed{Remote: r, id: id, wait: a.wait}
	terminal := terminalOf(c.OutOrStdout())
	if a.asJSON || terminal == nil {
		err := f.print(ctx, c.OutOrStdout(), c.ErrOrStderr(), a.asJSON)
		if s := f.last.Spec; !a.asJSON && f.last.State.Final() && s != nil && s.Shadow != nil && s.Shadow.Only {
			for _, line := range shadowLines(f.last, r.Labels) { // which is what came of it
				fmt.Fprintln(c.OutOrStdout(), line)
			}
		}
		return err
	}
	within, stop := context.WithCancel(ctx)
	defer stop()
	err := (&screen{w: c.OutOrStdout(), size: terminal}).run(within, func(columns, rows int) []string {
		if f.look() {
			stop()
		}
		return rolloutScreen(f.last, f.trouble(), columns, rows)
	})
	if ctx.Err() != nil || within.Err() == nil {
		return err
	}
	return errors.Join(printRollout(c.OutOrStdout(), f.last, r.Labels), f.end())
}

// followed is a rollout that is looked at again and again.
type followed struct {
	*controller.Remote
	id   string
	wait bool // for its end

	last wire.Rollout // as it was seen last
	gone bool         // it was there, and is not retained any more
}

// look takes in how it stands, and tells whether nothing follows.
func (f *followed) look() (over bool) {
	d, known := f.Rollout(f.id)
	f.gone = !known && f.last.State != ""
	if known {
		f.last = d
	}
	return f.gone || f.wait && f.last.State.Final()
}

// end is how it ended.
func (f *followed) end() error {
	if f.gone {
		return fmt.Errorf("rollout %s is not kept any more, and was %s when it was seen last; see `limber fleet rollout ls`",
			f.id, f.last.State)
	}
	return outcome(f.last)
}

// trouble is what keeps it from changing; "" for nothing.
func (f *followed) trouble() string {
	if err := f.Trouble(); err != nil {
		return "no connection: " + err.Error()
	}
	return f.Detail()
}

// lookEvery is how often is looked whether there is trouble.
const lookEvery = time.Second

// print prints a line for each change; to told goes what keeps it from changing.
func (f *followed) print(ctx context.Context, w, told io.Writer, asJSON bool) error {
	last, trouble := "", ""
	for ctx.Err() == nil {
		over := f.look()
		line := changeLine(f.last)
		if asJSON {
			b, err := json.Marshal(f.last)
			if err != nil {
				return err
			}
			line = string(b)
		}
		if line != last && f.last.State != "" {
			last = line
			if _, err := fmt.Fprintln(w, line); err != nil {
				return err
			}
		}
		if over {
			return f.end()
		}
		if now := f.trouble(); now != trouble {
			trouble = now
			fmt.Fprintln(told, "limber:", cmp.Or(fleet.Printable(now), "the controller is at it again"))
		}
		within, stop := context.WithTimeout(ctx, lookEvery)
		_ = f.Changed(within) // whose error says that it is time to look again
		stop()
	}
	return ctx.Err()
}

// changeLine is a rollout on one line.
func changeLine(d wire.Rollout) string {
	line := fmt.Sprintf("%s: %s, phase %d of %d", d.ID, d.State, d.Phase, len(d.Phases))
	if d.Phase > 0 && d.Phase <= len(d.Phases) {
		if counts := countText(d.Phases[d.Phase-1].Counts); counts != "" {
			line += ": " + counts
		}
	}
	if d.Why != "" {
		line += "; " + d.Why
	}
	return fleet.Printable(line)
}

// rolloutScreen is how a rollout stands, on no more than rows lines of no more than
// columns characters.
func rolloutScreen(d wire.Rollout, trouble string, columns, rows int) []string {
	lines := append(phaseLines(d), "")
	if trouble != "" {
		lines[0] += "; " + fleet.Printable(trouble)
	}
	room := max(rows-len(lines)-len([]string{"the head", "how many more"}), 0)
	devices := slices.Clone(d.Devices)
	slices.SortStableFunc(devices, controller.ByUrgency)
	shown := min(room, len(devices))
	lines = append(lines, deviceLines(devices[:shown])...)
	if more := len(devices) - shown; more > 0 {
		lines = append(lines, fmt.Sprintf("... and %d more: `limber fleet rollout show %s` has them all", more, d.ID))
	}
	for i, l := range lines {
		lines[i] = fleet.Clipped(l, columns)
	}
	return lines[:min(len(lines), max(rows, 0))]
}

// outcome is the exit of a rollout that was waited for.
func outcome(d wire.Rollout) error {
	if d.State == wire.RolloutDone {
		return nil
	}
	for _, of := range d.Devices {
		if of.State == wire.DeviceFailed {
			return errors.New(fleet.Printable(fmt.Sprintf("rollout %s: %s: %s (%s: %s)", d.ID, d.State, d.Why, of.Device,
				of.Detail)))
		}
	}
	return fmt.Errorf("rollout %s: %s: %s", d.ID, d.State, fleet.Printable(d.Why))
}
