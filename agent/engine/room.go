package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/limber-edge/limber/family"
)

// The pauses between two attempts to build what a full disk kept from being built.
const (
	roomLeast = time.Second
	roomMost  = time.Minute
)

func isFull(err error) bool { return errors.Is(err, family.ErrNoRoom) }

// fullFault tells whether a member was given up because the disk was full or memory
// short, when the profile was taken or at an earlier start.
func fullFault(m family.MemberProfile) bool {
	return strings.Contains(m.Fault, family.ErrNoRoom.Error()) || strings.Contains(m.Fault, errShort.Error())
}

// awaitRoom waits until a member of the family can be built: less and less often it
// is tried, and never while memory is short. The error is why it cannot, for another reason, or ctx's.
func (l *loader) awaitRoom(ctx context.Context, member int) error {
	for p := (pause{least: roomLeast, most: roomMost}); ; p.grow() {
		if _, err := await(ctx, l, time.After(p.length())); err != nil {
			return err
		}
		if short(l.deps.Machine.Memory()) != "" {
			continue
		}
		s, err := l.base.Session(member)
		if err == nil {
			return s.Close()
		}
		if !isFull(err) {
			return err
		}
	}
}

// giveUp leaves members out until the next start. Its error is ctx's.
func (l *loader) giveUp(ctx context.Context, why error) error {
	if ctx.Err() == nil {
		l.log.Error("members stay out of use until the next start", "err", why)
		l.tellFault(fmt.Sprintf("members stay out of use until the next start: %v", why))
	}
	return ctx.Err()
}

// complete brings members into use that were given up because there was no room,
// once there is room, and returns the backend that then serves. Other ways to run
// wait for it: they would want more of that room. Its error is ctx's.
func (l *loader) complete(ctx context.Context, serving *backend) (*backend, error) {
	for {
		missing := slices.IndexFunc(serving.profile.Members, fullFault)
		if missing < 0 {
			return serving, nil
		}
		if err := l.awaitRoom(ctx, missing); err != nil {
			return serving, l.giveUp(ctx, err)
		}
		if l.tight(serving) {
			if _, err := await(ctx, l, time.After(roomMost)); err != nil {
				return serving, err
			}
			continue
		}
		next, err := l.enlarged(ctx, serving)
		if err != nil {
			return serving, l.giveUp(ctx, err)
		}
		if err := l.handOver(ctx, serving, next); err != nil {
			return serving, err
		}
		serving = next
	}
}

// tight tells whether memory is short, or members make room there: two backends at
// once want more of it, not less.
func (l *loader) tight(serving *backend) (tight bool) {
	l.do(func(s *supervisor) { tight = short(s.deps.Machine.Memory()) != "" || serving.makesRoom() })
	return tight
}

// enlarged makes a backend ready of all members that can be built now.
func (l *loader) enlarged(ctx context.Context, serving *backend) (*backend, error) {
	l.saveLearned(ctx, serving)
	p, err := takeProfile(ctx, &l.deps, serving.loader, func(int) { l.doTasks(ctx) })
	if err != nil {
		return nil, err
	}
	merge(p.profile, serving.profile)
	if err := saveProfile(&l.deps, serving.loader, p.profile); err != nil {
		l.log.Warn("profile not stored, the next start takes it again", "err", err)
	}
	next := newBackend(serving.loader, l.tally, p, nil)
	next.again = !serving.again
	return next, l.newPipeline(next)
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
