package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/limber-edge/limber/agent/fleet"
	"github.com/limber-edge/limber/agent/fleet/controller"
	"github.com/limber-edge/limber/agent/wire"
)

func newFleetRollout() *cobra.Command {
	c := group("rollout",
		"Bring a family, a release, a mode or a goal to many devices, in phases that must prove themselves",
		`  limber fleet rollout start --mode power-save --where label.site=berlin --id night
  limber fleet rollout ls
  limber fleet rollout show night
  limber fleet rollout abort night --rollback`)
	c.AddCommand(newRolloutStart(), newRolloutLs(), newRolloutShow(), newRolloutWatch(),
		newRolloutAct(wire.RolloutPause, "Start a rollout on no further device; those under way go on"),
		newRolloutAct(wire.RolloutResume, "Go on with a rollout that was paused"),
		newRolloutAct(wire.RolloutApprove, "Let the next phase of a rollout begin"),
		newRolloutAct(wire.RolloutAbort, "End a rollout for good; without --rollback devices keep what they have"),
		newRolloutAct(wire.RolloutRetry, "Have a rollout tried once more on the devices on which it failed"))
	return c
}

// remote connects to the controller's topics, and more of them, and runs work.
func (a *operatorArgs) remote(c *cobra.Command, work func(context.Context, *controller.Remote) error,
	more ...string) error {
	cfg, err := a.link()
	if err != nil {
		return err
	}
	r, err := controller.OpenRemote(cfg, a.fleet, newLogger(c.ErrOrStderr(), "error"), more...)
	if err != nil {
		return err
	}
	return withRemedy(r.While(c.Context(), func(ctx context.Context) error { return work(ctx, r) }))
}

// rollouts is remote, once all is known that a controller has retained, which need not be
// there any more, and how devices are labelled.
func (a *operatorArgs) rollouts(c *cobra.Command, work func(context.Context, *controller.Remote) error) error {
	return a.remote(c, func(ctx context.Context, r *controller.Remote) error {
		absent := r.Find(ctx)
		if absent != nil && !errors.Is(absent, controller.ErrAbsent) {
			return absent
		}
		if _, err := r.List(ctx); err != nil {
			return err
		}
		if absent != nil && len(r.Rollouts()) == 0 {
			return absent
		}
		return work(ctx, r)
	}, a.labels())
}

// labels are those of all devices.
func (a *operatorArgs) labels() (filter string) { return wire.FleetFilter(a.fleet, wire.KindLabels) }

// tellTrouble tells what keeps the controller from working, if anything does.
func tellTrouble(c *cobra.Command, r *controller.Remote) {
	if detail := r.Detail(); detail != "" {
		fmt.Fprintln(c.ErrOrStderr(), "limber:", fleet.Printable(detail))
	}
}

// rolloutTTL is how long the controller may take to answer a command, but for the time in
// which a family comes to it.
const rolloutTTL = 30 * time.Second

// command gives the controller a command, and says what it answered. What it refuses as
// invalid is wrong usage.
func command(ctx context.Context, r *controller.Remote, asked wire.RolloutCommand, told func(wire.Ack)) (
	detail string, err error) {
	if err := r.Find(ctx); err != nil {
		return "", err
	}
	ack, err := r.Do(ctx, asked, rolloutTTL, told)
	if refusal, ok := errors.AsType[*wire.Refusal](err); ok && refusal.Reason == wire.Invalid {
		return "", usageError{err}
	}
	return ack.Detail, err
}

// newRolloutAct is a command that asks something of a rollout that was started.
func newRolloutAct(action, short string) *cobra.Command {
	var a operatorArgs
	var back bool
	example := "  limber fleet rollout " + action + " night"
	if action == wire.RolloutAbort {
		example += "\n" + example + " --rollback"
	}
	c := &cobra.Command{
		Use:     action + " ID",
		Short:   short,
		Example: example,
		Args:    exactly(1, "the id of a rollout"),
		RunE: func(c *cobra.Command, args []string) error {
			return a.remote(c, func(ctx context.Context, r *controller.Remote) error {
				detail, err := command(ctx, r, wire.RolloutCommand{Action: action, Rollout: args[0], Rollback: back}, nil)
				if err == nil {
					_, err = fmt.Fprintln(c.OutOrStdout(), detail)
				}
				return err
			})
		},
	}
	a.flags(c)
	if action == wire.RolloutAbort {
		c.Flags().BoolVar(&back, "rollback", false, "have the devices on which it succeeded go back")
	}
	return c
}

func newRolloutLs() *cobra.Command {
	var a operatorArgs
	var asJSON bool
	c := &cobra.Command{
		Use:   "ls",
		Short: "List the rollouts: those that live, and the newest",
		Example: `  limber fleet rollout ls
  limber fleet rollout ls --json`,
		RunE: func(c *cobra.Command, _ []string) error {
			return a.rollouts(c, func(_ context.Context, r *controller.Remote) error {
				tellTrouble(c, r)
				if len(r.Rollouts()) == 0 && !asJSON {
					_, err := fmt.Fprintf(c.OutOrStdout(), "fleet %s had no rollout; `limber fleet rollout start` begins one\n",
						a.fleet)
					return err
				}
				const head = "ROLLOUT\tWHAT\tSTARTED\tPHASE\tSTATE\tWHY"
				return printList(c.OutOrStdout(), asJSON, r.Rollouts(), 0, head, func(d wire.Rollout) string {
					return strings.Join([]string{d.ID, rolledOut(d), started(d), fmt.Sprintf("%d/%d", d.Phase, len(d.Phases)),
						string(d.State), fleet.Printable(d.Why)}, "\t")
				})
			})
		},
	}
	a.flags(c)
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object a line")
	return c
}

func started(d wire.Rollout) string {
	if d.TS == nil {
		return "-"
	}
	return d.TS.UTC().Format("2006-01-02 15:04 UTC")
}

// rolledOut is what a rollout brings, such as "mode power-save".
func rolledOut(d wire.Rollout) string {
	what := d.Kind
	switch s := d.Spec; {
	case s == nil:
	case s.Family != nil:
		what += " " + s.Family.Name
	case s.Release != nil:
		what += " " + s.Release.Version
	default:
		what += " " + wire.Aim{Mode: s.Mode, Goal: s.Goal}.String()
	}
	return fleet.Printable(what)
}

func newRolloutShow() *cobra.Command {
	var a operatorArgs
	var asJSON bool
	c := &cobra.Command{
		Use:   "show ID",
		Short: "Show a rollout: its phases with their gates, and its devices",
		Long: `Show a rollout. A phase has the devices of each state, and its gates: what was
measured, of how many frames, the limit, and whether it passes, fails, or waits for
evidence. SINCE is how long a device has been in its STATE. A device that does not fit
the expression any more keeps its place, and says so. Where a family was compared with
the one in use, the last tables have what came of it by device, those that agree least
first, and by the value of each label: the share of the frames with the same first
class, the p95 of its inference (of a label the mean of its devices, by frames), and
how many frames it would have been late for. --json has them as "shadow" of each device
and as "by_label".`,
		Example: `  limber fleet rollout show night
  limber fleet rollout show night --json`,
		Args: exactly(1, "the id of a rollout"),
		RunE: func(c *cobra.Command, args []string) error {
			return a.rollouts(c, func(_ context.Context, r *controller.Remote) error {
				d, ok := r.Rollout(args[0])
				if !ok {
					return noRollout(args[0])
				}
				tellTrouble(c, r)
				if asJSON {
					return json.NewEncoder(c.OutOrStdout()).Encode(shown{d, controller.ByLabel(d.Devices, r.Labels)})
				}
				return printRollout(c.OutOrStdout(), d, r.Labels)
			})
		},
	}
	a.flags(c)
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return c
}

func noRollout(id string) error {
	return fmt.Errorf("there is no rollout %s; see `limber fleet rollout ls`", id)
}

// shown is a rollout with what its own document cannot have, as devices do not know of it.
type shown struct {
	wire.Rollout
	ByLabel []controller.Labelled `json:"by_label,omitempty"`
}

func printRollout(w io.Writer, d wire.Rollout, of controller.Labels) error {
	lines := slices.Concat(phaseLines(d), []string{""}, deviceLines(d.Devices), shadowLines(d, of))
	_, err := fmt.Fprintln(w, strings.Join(lines, "\n"))
	return err
}

// phaseLines are how a rollout stands, what it brings, and its phases as a table.
func phaseLines(d wire.Rollout) []string {
	head := fmt.Sprintf("rollout %s: %s", d.ID, d.State)
	if d.Why != "" {
		head += ", " + d.Why
	}
	lines := []string{fleet.Printable(head)}
	if d.Spec != nil {
		lines = append(lines, fleet.Printable(fmt.Sprintf("%s for %s, started %s", rolledOut(d),
			cmp.Or(d.Spec.Where, "all devices"), started(d))))
	}
	rows := [][]string{{"PHASE", "SIZE", "STATE", "DEVICES", "GATES"}}
	for n, p := range d.Phases {
		if d.State.Final() && p.State == wire.PhaseRunning {
			p.State = "unfinished"
		}
		var gates []string
		for _, g := range p.Gates {
			gates = append(gates, gateText(g))
		}
		rows = append(rows, []string{fmt.Sprint(n + 1), fmt.Sprint(p.Size), p.State, countText(p.Counts),
			strings.Join(gates, "; ")})
	}
	return append(append(lines, ""), table(rows)...)
}

// gateText is a gate in words, such as "misses 0.01 of 0.012, 120 frames: wait".
func gateText(g wire.RolloutGate) string {
	value := "-"
	if g.Value != nil {
		value = fmt.Sprintf("%.6g", *g.Value)
	}
	limit := g.LimitBy
	if g.Limit != 0 {
		limit = fmt.Sprintf("%.6g", g.Limit)
	}
	if g.Name == wire.GateSuccess {
		return fmt.Sprintf("%s %s, limit %s: %s", g.Name, value, limit, g.Verdict)
	}
	return fmt.Sprintf("%s %s, limit %s, %d frames: %s", g.Name, value, limit, g.Frames, g.Verdict)
}

// countText are the states that devices are in, in words.
func countText(c wire.RolloutCounts) string {
	var parts []string
	for _, of := range []struct {
		n    int
		name string
	}{{c.Pending, "pending"}, {c.Offline, "offline"}, {c.Running, "running"}, {c.Succeeded, "succeeded"},
		{c.Failed, "failed"}, {c.TimedOut, "timed out"}, {c.Already, "already there"}, {c.Superseded, "superseded"},
		{c.Cancelled, "cancelled"}, {c.RolledBack, "rolled back"}} {
		if of.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", of.n, of.name))
		}
	}
	return strings.Join(parts, ", ")
}

// deviceLines are the devices as a table.
func deviceLines(devices []wire.RolloutDevice) []string {
	rows := [][]string{{"DEVICE", "STATE", "SINCE", "ATTEMPT", "REASON"}}
	for _, of := range devices {
		since := "-"
		if of.TS != nil {
			since = fleet.Age(time.Since(of.TS.Time))
		}
		why := strings.TrimPrefix(string(of.Reason)+": "+of.Detail, ": ")
		rows = append(rows, []string{of.Device, of.State, since, fmt.Sprint(of.Attempt), strings.TrimSuffix(why, ": ")})
	}
	return table(rows)
}

// table has columns of the same width, and no character that a terminal would obey.
func table(rows [][]string) []string {
	var b strings.Builder
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		for i, cell := range row {
			row[i] = fleet.Printable(cell)
		}
		fmt.Fprintln(t, strings.Join(row, "\t"))
	}
	t.Flush()
	return strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
}
