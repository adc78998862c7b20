package main

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/limber-edge/limber/agent/fleet"
	"github.com/limber-edge/limber/agent/fleet/controller"
	"github.com/limber-edge/limber/agent/fleet/rollout"
	"github.com/limber-edge/limber/agent/governor"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/firmware/repo"
)

// rolloutStart are the flags of `fleet rollout start`.
type rolloutStart struct {
	rolloutWatch
	goal         goalArgs
	release      rolloutRelease
	shadow       rolloutShadow
	where        whereArgs
	id, family   string
	gates        []string
	phases       string
	canary       string
	unavailable  string
	probation    string
	soak, within time.Duration
	spec         wire.RolloutSpec
}

const rolloutStartHelp = `Bring a family, a release of the program, a mode or a goal to the devices that fit
--where, in phases. A phase ends when its devices have succeeded, its gates pass, on
--observe frames at least, and it was observed for --soak; only then does the next one
begin. Where a gate fails nothing starts any more, and with --rollback the devices that
succeeded go back.

  agreement  of the frames that were compared, those whose first class is that of the
             family in use; a fraction, of a family
  success    of the devices that ended, those that succeeded; a fraction
  misses     of the frames that were answered, those that were late; a fraction
  p95        of inference, ms

With "x" behind it, a limit of misses or p95 is times what the device had in its hour
before, less what devices without the rollout changed meanwhile. Too little evidence is
no evidence: then the phase waits.

A family comes from a file that "limber family pack" wrote, or from a folder; this
command gives the controller what it does not have, and may end once it says that the
rollout was started. Where the gate agreement is asked for, each device compares it with
the family in use before it answers: on --observe of its own frames, for nobody to see,
no more than --shadow-percent of them and only while no job waits. A device on which too
few agree has failed, and once --observe frames of a phase are known and too few agree,
all stop. Then each judges it by the frames of --probation, and goes back if more of them
are late. A device that gets no frames stays where it is until --for is over: have it
take the family with --probation 0/0, and without agreement. Devices that are off take
part when they are back, within --for.

With --shadow-only a family is compared, and that is all: devices keep what they have,
all begin at once unless --phases says otherwise, and "limber fleet rollout show" has a
table of what they found.

A release comes from a repository, see "limber firmware repo": this command reads there
which manifest is signed for which architecture, and each device gets that of its own,
if it runs under limber-boot; where there is none for a device that fits, nothing
starts: --where arch=arm64 leaves others out. It has the release on trial and goes back
by itself, which is a failure here. With --rollback the others go back to the release
that they had, as far as its manifest lets it take the place of this one; the program of
a package is no release, and nothing goes back to it.

`

func newRolloutStart() *cobra.Command {
	var a rolloutStart
	c := &cobra.Command{
		Use:   "start",
		Short: "Bring a family, a release, a mode or a goal to the devices that fit, in phases",
		Long:  rolloutStartHelp + whereHelp,
		Example: `  limber fleet rollout start --mode power-save --where label.site=berlin --id night
  limber fleet rollout start --family mine.family --where group=@gate --canary cam-1 --rollback --wait
  limber fleet rollout start --family mine.family --where label.site=berlin --probation 1000/10
  limber fleet rollout start --family mine.family --shadow-only --wait
  limber fleet rollout start --release 1.5.0 --repo ./repo --where group=@gate,arch=arm64 --canary cam-1
  limber fleet rollout start --release 1.5.0 --repository https://files.example/repo \
    --root-file ./repo/metadata/1.root.json --where label.site=berlin --rollback
  limber fleet rollout start --deadline 50ms --min-top1 0.87 --where 'device=cam-*' \
    --phases 1,10%,100% --gate success=0.9 --gate misses=1.1x --soak 5m --max-unavailable 1/site`,
		RunE: func(c *cobra.Command, _ []string) error { return a.run(c) },
	}
	a.flags(c)
	a.goal.flags(c)
	f := c.Flags()
	f.StringVar(&a.family, "family", "", "a family's folder, or file of \"family pack\"")
	f.StringVar(&a.spec.Mode, "mode", "", "name of a mode, see limber fleet mode --help; or a goal, in figures")
	a.release.flags(c)
	a.shadow.flags(c)
	a.where.flags(c)
	f.StringVar(&a.id, "id", "", "name of the rollout (default: one that nobody else uses)")
	f.StringVar(&a.canary, "canary", "", "devices of the first phase, with commas between them")
	f.StringVar(&a.phases, "phases", "",
		"devices, or a share of them, up to which each phase goes (default 1,5%,25%,100%)")
	f.StringArrayVar(&a.gates, "gate", nil,
		"NAME=LIMIT, once for each; with any, no other is asked for (default of a family agreement=0.97, of all "+
			"success=0.95, misses=1.2x, p95=1.2x)")
	f.IntVar(&a.spec.Observe, "observe", 200, "frames that a gate needs as evidence")
	f.StringVar(&a.probation, "probation", "", fmt.Sprintf("FRAMES/MAX_MISSED: how many frames each device answers with "+
		"the family, and how many may be late, before it gives up the one before (default %d/%d)",
		wire.DefaultProbation().Frames, wire.DefaultProbation().MaxMissed))
	f.DurationVar(&a.soak, "soak", 10*time.Minute, "how long a phase is observed at least")
	f.DurationVar(&a.within, "for", 24*time.Hour, "how long it may take on a device from its turn on")
	f.StringVar(&a.unavailable, "max-unavailable", "", "N/LABEL: of a value of the label no more than N devices at once")
	f.BoolVar(&a.spec.Approve, "approve", false,
		"have each phase after the first wait for \"limber fleet rollout approve\"")
	f.BoolVar(&a.spec.Follow, "follow", false, "take devices that fit later into the last phase")
	f.BoolVar(&a.spec.Supersede, "supersede", false, "take devices from a rollout of the kind that has not started them")
	f.BoolVar(&a.spec.Rollback, "rollback", false, "where a gate fails, have the devices that succeeded go back")
	f.BoolVar(&a.wait, "wait", false, "wait for its end: exit code 0 if it is done, 1 if it has failed or was aborted")
	f.BoolVar(&a.asJSON, "json", false, "with --wait: print one JSON object a line")
	return c
}

func (a *rolloutStart) run(c *cobra.Command) error {
	folder, err := a.complete(c)
	if err != nil {
		return err
	}
	if folder != nil {
		defer folder.Close()
	}
	if _, err := rollout.Complete(a.spec); err != nil {
		return usageError{err}
	}
	if a.id == "" {
		a.id = strings.ToLower(fleet.NewID()[:8])
	}
	var more []string
	if a.shadow.only {
		more = append(more, a.labels())
	}
	work := func(ctx context.Context, r *controller.Remote) error { return a.start(ctx, c, r, folder) }
	return a.remote(c, work, more...)
}

// start has the controller start it, and gives it the family's blobs meanwhile.
func (a *rolloutStart) start(ctx context.Context, c *cobra.Command, r *controller.Remote,
	folder *family.Folder) error {
	within, stop := context.WithCancel(ctx)
	served := make(chan struct{})
	go func() {
		defer close(served)
		if folder != nil {
			r.Serve(within, folder)
		}
	}()
	p := newProgress(c)
	asked := wire.RolloutCommand{Action: wire.RolloutStart, Rollout: a.id, Spec: &a.spec}
	detail, err := command(ctx, r, asked, func(ack wire.Ack) {
		if ack.Progress != nil {
			p.Say(fmt.Sprintf("the controller takes the family: %.1f MB", float64(ack.Progress.Done)/1e6))
		}
	})
	p.End()
	stop()
	<-served
	if err != nil {
		return err
	}
	if !a.asJSON {
		fmt.Fprintln(c.OutOrStdout(), detail)
	}
	if !a.wait {
		return nil
	}
	return a.follow(ctx, c, r, a.id)
}

// complete makes the spec of the flags, and opens the family that they name.
func (a *rolloutStart) complete(c *cobra.Command) (*family.Folder, error) {
	s := &a.spec
	if _, err := a.where.parse(); err != nil {
		return nil, err
	}
	switch {
	case a.soak < 0:
		return nil, usagef("--soak %v: must not be under 0", a.soak)
	case a.within < time.Millisecond:
		return nil, usagef("--for %v: must be over 0", a.within)
	case s.Observe < 1:
		return nil, usagef("--observe: want 1 frame or more; with --gate success=0.95 alone a rollout needs none")
	}
	s.Where = a.where.expression
	s.SoakMS, s.ForMS = new(wire.Millis(a.soak)), new(wire.Millis(a.within))
	s.Canary, s.Phases = list(a.canary), list(a.phases)
	for _, text := range a.gates {
		g, err := rollout.ParseGate(text)
		if err != nil {
			return nil, usagef("--gate: %w", err)
		}
		s.Gates = append(s.Gates, g)
	}
	if a.unavailable != "" {
		u, err := rollout.ParseUnavailable(a.unavailable)
		if err != nil {
			return nil, usagef("--max-unavailable: %w", err)
		}
		s.MaxUnavailable = &u
	}
	if a.probation != "" {
		p, err := rollout.ParseProbation(a.probation)
		switch {
		case err != nil:
			return nil, usagef("--probation: %w", err)
		case a.family == "":
			return nil, usagef("--probation is of a family; a mode and a goal have none, a release has a trial")
		}
		s.Probation = &p
	}
	if err := cmp.Or(a.compare(c), a.release.check()); err != nil {
		return nil, err
	}
	return a.what(c)
}

// what reads what is rolled out: one of a family, a release, a mode and a goal.
func (a *rolloutStart) what(c *cobra.Command) (folder *family.Folder, err error) {
	asked := 0
	for _, given := range []bool{a.family != "", a.release.version != "", a.spec.Mode != "", a.goal.asked(c)} {
		if given {
			asked++
		}
	}
	switch {
	case asked != 1:
		return nil, usagef("want one of --family, --release, --mode and a goal; see `%s --help`", c.CommandPath())
	case a.spec.Mode != "":
		if _, err = governor.ParseMode(a.spec.Mode); err != nil {
			err = usagef("--mode: %w", err)
		}
		return nil, err
	case a.release.version != "":
		a.spec.Sources = repo.BlobsBelow(a.release.urls...) // for devices, beside their own repository
		a.spec.Release, err = a.release.spec(c.Context())
		return nil, err
	case a.family == "":
		a.spec.Goal, err = a.goal.goal(c)
		return nil, err
	}
	if folder, err = family.Open(a.family); err != nil {
		return nil, err
	}
	a.spec.Family = &wire.Family{Name: folder.Name, Digest: "sha256:" + string(folder.Digest())}
	return folder, nil
}

// list is what commas separate.
func list(text string) []string {
	if text == "" {
		return nil
	}
	return strings.Split(text, ",")
}
