package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/limber-edge/limber/agent/monitor"
	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/store"
)

// StoredProfile returns this device's profile, or nil if none was taken that
// fits the family, the runtime and the loader's variant.
func StoredProfile(d *Deps, l Loader) (*family.Profile, error) {
	b, err := d.State.Profile(profileKey(d.Family, l))
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	} else if err != nil {
		return nil, fmt.Errorf("profile: %w", err)
	}
	var p family.Profile
	if err := json.Unmarshal(b, &p); err != nil {
		return nil, nil // unreadable is as good as none: it is taken again
	}
	if !p.Fits(d.Family, d.Runtime, l.Variant().String()) {
		return nil, nil
	}
	return &p, nil
}

// TakeProfile makes every member ready, measures them and stores the profile. A
// member that cannot be made ready is noted there and left out; its session is
// nil. The sessions, in the family's order, are the caller's to close. Before
// each member tell is called with its index.
func TakeProfile(ctx context.Context, d *Deps, l Loader, tell func(member int)) (*family.Profile, []family.Session, error) {
	p, sessions, err := tryProfile(ctx, d, l, tell)
	if err == nil {
		if err = saveProfile(d, l, p); err == nil {
			return p, sessions, nil
		}
	}
	return nil, nil, errors.Join(err, closeAll(sessions))
}

// tryProfile makes every member ready and measures them. The sessions are the
// caller's to close, also where there is an error.
func tryProfile(ctx context.Context, d *Deps, l Loader, tell func(member int)) (*family.Profile, []family.Session, error) {
	sessions, faults, err := makeReady(ctx, d.Family, l, tell)
	if err != nil {
		return nil, sessions, err
	}
	p, err := measure(ctx, d.Machine, l, sessions)
	if err != nil {
		return nil, sessions, err
	}
	for i, fault := range faults {
		p.Members[i].Fault = fault
	}
	return p, sessions, nil
}

// makeReady returns a session for each member, or why there is none. It is an
// error when there is none at all; of the reasons, alike then, it gives the first,
// or that the disk is full.
func makeReady(ctx context.Context, f *family.Family, l Loader, tell func(member int)) ([]family.Session, []string, error) {
	n := len(f.Members)
	sessions, faults := make([]family.Session, n), make([]string, n)
	var errs []error
	for i := range n {
		tell(i)
		if err := ctx.Err(); err != nil {
			return sessions, faults, err
		}
		s, err := l.Session(i)
		if err != nil {
			errs = append(errs, err)
			faults[i] = err.Error()
			continue
		}
		sessions[i] = s
	}
	if len(errs) == n {
		why := errs[max(0, slices.IndexFunc(errs, isFull))]
		return sessions, faults, fmt.Errorf("no member of family %s can be used: %w", f.Name, why)
	}
	return sessions, faults, nil
}

// measure takes a profile and notes what other processes of the machine used
// meanwhile.
func measure(ctx context.Context, m Machine, l Loader, sessions []family.Session) (*family.Profile, error) {
	_, before := m.Others(monitor.Mark{})
	p, err := l.Profile(ctx, sessions)
	if err != nil {
		return nil, err
	}
	p.OthersPercent, _ = m.Others(before)
	return p, nil
}

func saveProfile(d *Deps, l Loader, p *family.Profile) error {
	b, err := json.Marshal(p)
	if err != nil {
		return fmt.Errorf("profile: %w", err)
	}
	return d.State.SetProfile(profileKey(d.Family, l), b)
}

func profileKey(f *family.Family, l Loader) store.ProfileKey {
	v := l.Variant()
	return store.ProfileKey{Family: string(f.Digest()), Provider: v.Provider, Threads: v.Threads}
}

func closeAll(sessions []family.Session) error {
	var errs []error
	for _, s := range sessions {
		if s != nil {
			errs = append(errs, s.Close())
		}
	}
	return errors.Join(errs...)
}

// profile returns the stored profile if it fits the family, the runtime and what
// can be used, else a new one with the sessions it took.
func (l *loader) profile(ctx context.Context) (*family.Profile, []family.Session, error) {
	p, err := StoredProfile(&l.deps, l.base)
	if err != nil {
		return nil, nil, err
	}
	if !l.outdated(ctx, p, l.base) {
		return p, nil, nil
	}
	l.log.Info("preparing the family for this device, once", "family", l.deps.Family.Name, "members", len(l.deps.Family.Members))
	taken, sessions, err := l.takeProfile(ctx, l.base, l.tellPreparing(ctx))
	if err != nil && p != nil && ctx.Err() == nil {
		l.log.Warn("profile not taken anew, the stored one is used", "err", err)
		return p, nil, nil
	}
	return taken, sessions, err
}

// outdated tells whether a profile must be taken: there is none, or a member that
// it has at fault can be used now. Memory may have been short then, or a blob
// damaged that is mended: that must not exclude a member for good. Without a
// fault it tries nothing, nor does it with foreign models, whose trial may take a
// minute; it keeps no session.
func (l *loader) outdated(ctx context.Context, p *family.Profile, on Loader) bool {
	if p == nil {
		return true
	}
	for i, m := range p.Members {
		if m.Fault == "" || l.deps.Family.Foreign() || ctx.Err() != nil {
			continue
		}
		if s, err := on.Session(i); err == nil {
			s.Close() // freeing memory: nothing a caller could do about it
			return true
		}
	}
	return false
}

// takeProfile is TakeProfile for a device, which serves with a profile that cannot
// be stored, too, and says so.
func (l *loader) takeProfile(ctx context.Context, on Loader, tell func(member int)) (*family.Profile, []family.Session, error) {
	p, sessions, err := tryProfile(ctx, &l.deps, on, tell)
	if err != nil {
		return nil, nil, errors.Join(err, closeAll(sessions))
	}
	if err := saveProfile(&l.deps, on, p); err != nil {
		l.log.Warn("profile not stored, the next start takes it again", "err", err)
		l.tellFault(fmt.Sprintf("this device's profile cannot be stored, and is taken again at the next start: %v", err))
	}
	return p, sessions, nil
}

// makeMembers returns a session for each member, with the stored profile if there is one
// that fits. Where that has a member at fault which can be used now it is measured
// anew, but not on the CPU: what serves is in the way there, and the next start does
// it.
func (l *loader) makeMembers(ctx context.Context, on Loader, tell func(member int)) (*family.Profile, []family.Session, error) {
	profile, err := StoredProfile(&l.deps, on)
	if err != nil {
		return nil, nil, err
	}
	if profile == nil {
		return l.takeProfile(ctx, on, tell)
	}
	sessions, faults, err := makeReady(ctx, l.deps.Family, on, tell)
	if err != nil {
		return nil, nil, errors.Join(err, closeAll(sessions))
	}
	passed := false
	for i, fault := range faults {
		passed = passed || fault == "" && profile.Members[i].Fault != ""
		if profile.Members[i].Fault == "" {
			profile.Members[i].Fault = fault // what worked when the profile was taken may not now
		}
	}
	if !passed || on.Variant().Provider == family.CPU {
		return profile, sessions, nil
	}
	return l.measuredAnew(ctx, on, profile, sessions, faults), sessions, nil
}

// measuredAnew is a profile taken of sessions; the one before where that fails.
func (l *loader) measuredAnew(ctx context.Context, on Loader, before *family.Profile, sessions []family.Session, faults []string) *family.Profile {
	anew, err := measure(ctx, l.deps.Machine, on, sessions)
	if err == nil {
		for i, fault := range faults {
			anew.Members[i].Fault = fault
		}
		err = saveProfile(&l.deps, on, anew)
	}
	if err != nil {
		l.log.Warn("profile not taken anew, the stored one is used", "provider", on.Variant().Provider, "err", err)
		return before
	}
	return anew
}
