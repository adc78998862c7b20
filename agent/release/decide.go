package release

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/limber-edge/limber/agent/control"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/firmware/slot"
)

// linkPace is how often it is looked whether there is a link.
const linkPace = 200 * time.Millisecond

// decide judges a release that had no link, as the program before it.
func (t *task) decide(ctx context.Context, p *slot.Phase) (control.Outcome, error) {
	t.course.Begin()
	if p.Provisional {
		stands, err := t.stands(ctx)
		if err != nil {
			return control.Outcome{}, control.ErrLeft
		}
		if stands {
			return t.lose()
		}
	}
	t.enter(wire.UpdateLocked, "release "+t.asked.Version+" had no link, and there is none: it is tried again with one")
	err := t.awaitLink(ctx)
	if err == nil {
		err = t.activate(ctx)
	}
	switch {
	case err == nil:
		return control.Outcome{}, control.ErrLeft
	case stopped(ctx):
		return control.Outcome{}, err
	}
	out, err := t.fail(t.because(ctx, err), true)
	t.close(ctx)
	return out, err
}

// stands waits for a link as long as the release had, and tells whether its verdict stands
// then: it is refused. The error is that the device stops, or the disk's.
func (t *task) stands(ctx context.Context) (bool, error) {
	ctx, cancel := t.unlimited(ctx)
	defer cancel()
	within, end := context.WithTimeout(ctx, time.Until(t.cfg.Started.Add(t.cfg.Trial)))
	defer end()
	t.enter(wire.UpdateTrial, "release "+t.asked.Version+" had no link: whether there is one is found out")
	linked := t.awaitLink(within) == nil
	if ctx.Err() != nil {
		return false, ctx.Err()
	}
	record := t.deps.Slots.Withdraw
	if linked {
		record = t.deps.Slots.Stand
	}
	for record() != nil { // a full disk
		if err := pause(ctx, retryPace); err != nil {
			return false, err
		}
	}
	p, err := t.deps.Slots.Phase()
	return p.IsRefused(t.asked.Digest), err
}

// awaitLink waits for what the release was to show of a link. The command's own
// acknowledgement is a record that waits for it.
func (t *task) awaitLink(ctx context.Context) error {
	for s := t.deps.Link.Status(); !s.Online || s.Taken == 0; s = t.deps.Link.Status() {
		if err := pause(ctx, linkPace); err != nil {
			return err
		}
	}
	return nil
}

// lose ends the command of a release that went back.
func (t *task) lose() (control.Outcome, error) {
	last, _, _ := t.deps.Slots.Untold()
	out, err := t.fail(wire.Refuse(wire.Internal, "%s", wordsOf(last)), true)
	t.close(context.Background())
	return out, err
}

// close is tellEnd of a command that this run ends. What is not recorded or kept now the next
// start tells, or the next command for a release.
func (t *task) close(ctx context.Context) {
	if err := t.tellEnd(ctx); err != nil {
		t.log.Warn("how the release ended may be told again", "err", err)
	}
}

// keepPatience is how long it may take until an event cannot be lost any more.
const keepPatience = 5 * time.Second

// tellEnd tells how the last update ended: the ledger first, then whoever listens. When
// neither can be lost any more, and not before, the slots forget the command.
func (u *Updater) tellEnd(ctx context.Context) error {
	last, c, ok := u.deps.Slots.Untold()
	if !ok {
		return nil
	}
	if err := u.settle(c, last); err != nil {
		return err
	}
	e := wire.Event{Kind: wire.EventUpdate, Reason: string(last.Reason), Detail: wordsOf(last), Tail: last.Tail}
	severity := wire.SeverityError
	if last.Outcome == slot.Confirmed {
		severity = wire.SeverityInfo
	}
	kept := u.tell(severity, e)
	for until := time.Now().Add(keepPatience); !kept(); {
		if time.Now().After(until) {
			return fmt.Errorf("its event is not on the disk after %v", keepPatience)
		}
		if err := pause(ctx, linkPace); err != nil {
			return err
		}
	}
	return u.deps.Slots.Told()
}

func (u *Updater) tell(s wire.Severity, e wire.Event) (kept func() bool) {
	e.TS = wire.At(u.deps.Clock())
	return u.deps.Link.Keep(s, e)
}

// wordsOf says how an update ended.
func wordsOf(l slot.Last) string {
	switch l.Outcome {
	case slot.Confirmed:
		return fmt.Sprintf("release %s is confirmed", l.Version)
	case slot.Undecided:
		return fmt.Sprintf("release %s had no link, and neither had this one: it is undecided", l.Version)
	}
	words := fmt.Sprintf("release %s %s: %s", l.Version, ErrUnproved, l.Reason)
	const again = "; this one runs again"
	if _, why, own := strings.Cut(l.Tail, "limber: "+words+": "); own { // in as many lines as it has causes
		return words + ": " + begin(strings.ReplaceAll(strings.TrimRight(why, "\n"), "\n", "; ")) + again
	} else if said := lastLine(l.Tail); said != "" {
		return words + again + ". It said last: " + said
	}
	return words + again
}

// lineMost bounds a line that is repeated in a sentence, in bytes.
const lineMost = 300

func begin(line string) string { return strings.ToValidUTF8(line[:min(lineMost, len(line))], "") }

func lastLine(tail string) string {
	tail = strings.TrimRight(tail, "\n\r ")
	line := tail[strings.LastIndexByte(tail, '\n')+1:]
	return strings.ToValidUTF8(line[max(0, len(line)-lineMost):], "")
}
