package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/limber-edge/limber/agent/governor"
	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/family/resident"
)

// The pauses between two attempts to build what a full disk kept from being built.
const (
	roomLeast = time.Second
	roomMost  = time.Minute
)

func isFull(err error) bool { return errors.Is(err, resident.ErrNoRoom) }

// fullFault tells whether a member was given up because the disk was full, when the
// profile was taken or at an earlier start.
func fullFault(m family.MemberProfile) bool {
	return strings.Contains(m.Fault, resident.ErrNoRoom.Error())
}

// awaitRoom waits until a member of the family can be built: less and less often it
// is tried. The error is why it cannot, for another reason, or ctx's.
func (a *Agent) awaitRoom(ctx context.Context, member int) error {
	for pause := roomLeast; ; pause = min(2*pause, roomMost) {
		if err := rest(ctx, pause); err != nil {
			return err
		}
		s, err := a.parts.Shelf.Session(member)
		if err == nil {
			return s.Close()
		}
		if !isFull(err) {
			return err
		}
	}
}

// rest waits; its error is ctx's.
func rest(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// musterLater is muster for a device whose disk was too full for any member. It
// returns when there is a crew, or cannot be one for another reason. Its error is
// ctx's.
func (a *Agent) musterLater(ctx context.Context, g *errgroup.Group, mode governor.Mode) error {
	for {
		if err := a.awaitRoom(ctx, 0); err != nil {
			return a.giveUp(ctx, err)
		}
		profile, sessions, err := a.profile(ctx)
		if isFull(err) {
			continue
		}
		if err == nil {
			err = a.form(profile, sessions, mode)
		}
		if err != nil {
			return a.giveUp(ctx, err)
		}
		a.tellFaults(profile)
		a.man(ctx, g, a.crew.Load())
		a.sayUsable(ctx)
		return nil
	}
}

// giveUp leaves members out until the next start. Its error is ctx's.
func (a *Agent) giveUp(ctx context.Context, why error) error {
	if ctx.Err() == nil {
		a.log.Error("members stay out of use until the next start", "err", why)
		a.fault(fmt.Sprintf("members stay out of use until the next start: %v", why))
	}
	return ctx.Err()
}

// sayUsable tells everybody that the device answers jobs, after it had said that it
// does not.
func (a *Agent) sayUsable(ctx context.Context) {
	a.sayOnline(ctx, a.connSeq.Load())
	a.sayCaps(ctx)
	a.sayReported(ctx, nil)
}

// restored notes that a member came into use, which may be the first one after there
// was none. The crew's mu is held.
func (a *Agent) restored(ctx context.Context, c *crew, at int) {
	if a.noCrew.Swap(nil) != nil {
		a.haveFirst(c, at)
		a.sayUsable(ctx)
	}
}

// haveFirst notes the first member in use, which the start did not find: it is the
// one to fall back on, and stays in memory. The crew's mu is held.
func (a *Agent) haveFirst(c *crew, at int) {
	close(a.ready)
	if err := c.pin(at); err != nil {
		a.log.Warn("smallest member may leave memory", "member", c.member(at).Name, "err", err)
	}
}

// complete brings members into use that were given up because the disk was full,
// once there is room, and returns the crew that then serves. Other ways to run wait
// for it: they would want more of that room. Its error is ctx's.
func (a *Agent) complete(ctx context.Context, g *errgroup.Group, serving *crew) (*crew, error) {
	for {
		missing := slices.IndexFunc(serving.profile.Members, fullFault)
		if missing < 0 {
			return serving, nil
		}
		if err := a.awaitRoom(ctx, missing); err != nil {
			return serving, a.giveUp(ctx, err)
		}
		if short(a.parts.Machine.Memory()) != "" || serving.spares() { // two crews at once want more of it, not less
			if err := rest(ctx, roomMost); err != nil {
				return serving, err
			}
			continue
		}
		a.saveExperience(ctx)
		next, err := a.enlarged(ctx, serving)
		if err != nil {
			return serving, a.giveUp(ctx, err)
		}
		if err := a.handOver(ctx, g, serving, next); err != nil {
			return serving, err
		}
		serving = next
	}
}

// enlarged makes a crew ready of all members that can be built now.
func (a *Agent) enlarged(ctx context.Context, serving *crew) (*crew, error) {
	profile, sessions, err := tryProfile(ctx, a.parts, serving.shelf, func(int) {})
	if err != nil {
		return nil, errors.Join(err, closeAll(sessions))
	}
	merge(profile, serving.profile)
	if err := saveProfile(a.parts, serving.shelf, profile); err != nil {
		a.log.Warn("profile not stored, the next start takes it again", "err", err)
	}
	next := newCrew(serving.shelf, serving.family, profile, sessions)
	next.again = !serving.again
	_, mode := serving.pipe.Governed()
	if err := a.lay(next, mode); err != nil {
		next.close()
		return nil, err
	}
	if err := next.pin(0); err != nil {
		a.log.Warn("smallest member may leave memory", "member", next.member(0).Name, "err", err)
	}
	return next, nil
}

// merge corrects a profile that was taken while the device served, by one that was
// not: members that both have keep their old figures, and the others' shrink by as
// much as those of the slowest of these did.
func merge(taken, before *family.Profile) {
	scale, slowest := 1.0, 0.0
	for i, m := range before.Members {
		if now := taken.Members[i]; m.Fault == "" && now.Fault == "" && m.P50ms > slowest && now.P50ms > 0 {
			scale, slowest = m.P50ms/now.P50ms, m.P50ms
		}
	}
	for i := range taken.Members {
		m := &taken.Members[i]
		switch old := before.Members[i]; {
		case m.Fault != "":
		case old.Fault == "":
			*m = old
		default:
			m.P50ms, m.P95ms, m.Batch = scale*m.P50ms, scale*m.P95ms, scale*m.Batch
		}
	}
	taken.OthersPercent = before.OthersPercent
}
