package agent

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

// profile returns the stored profile if it fits the family, the runtime and what
// can be used, else a new one with the sessions it took.
func (a *Agent) profile(ctx context.Context) (*family.Profile, []family.Session, error) {
	p, err := StoredProfile(a.parts, a.parts.Shelf)
	if err != nil {
		return nil, nil, err
	}
	if !a.outdated(ctx, p, a.parts.Shelf) {
		return p, nil, nil
	}
	a.log.Info("preparing the family for this device, once", "family", a.parts.Family.Name, "members", len(a.parts.Family.Members))
	taken, sessions, err := a.takeProfile(ctx, a.parts.Shelf, func(int) {})
	if err != nil && p != nil && ctx.Err() == nil {
		a.log.Warn("profile not taken anew, the stored one is used", "err", err)
		return p, nil, nil
	}
	return taken, sessions, err
}

// measureWide takes the profile of more threads where it is needed: at the start,
// as nothing else runs yet.
func (a *Agent) measureWide(ctx context.Context) {
	n := a.wideThreads()
	if n < 2 || !a.outdated(ctx, a.wideProfile(), a.parts.Threads(n)) {
		return
	}
	a.log.Info("measuring the family on more threads, once", "threads", n)
	_, sessions, err := TakeProfile(ctx, a.parts, a.parts.Threads(n), func(int) {})
	if err = errors.Join(err, closeAll(sessions)); err != nil {
		a.log.Warn("more threads cannot be used", "threads", n, "err", err)
	}
}

// outdated tells whether a profile must be taken: there is none, or a member that
// it has at fault can be used now. Memory may have been short then, or a blob
// damaged that is mended: that must not exclude a member for good. Without a
// fault it tries nothing, nor does it with foreign models, whose trial may take a
// minute before the device is there at all; it keeps no session.
func (a *Agent) outdated(ctx context.Context, p *family.Profile, shelf Shelf) bool {
	if p == nil {
		return true
	}
	for i, m := range p.Members {
		if m.Fault == "" || a.parts.Family.Foreign() || ctx.Err() != nil {
			continue
		}
		if s, err := shelf.Session(i); err == nil {
			s.Close() // freeing memory: nothing a caller could do about it
			return true
		}
	}
	return false
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

// StoredProfile returns this device's profile, or nil if none was taken that
// fits the family, the runtime and the shelf's options.
func StoredProfile(parts *Parts, shelf Shelf) (*family.Profile, error) {
	b, err := parts.Store.Profile(profileKey(parts.Family, shelf))
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	} else if err != nil {
		return nil, fmt.Errorf("profile: %w", err)
	}
	var p family.Profile
	if err := json.Unmarshal(b, &p); err != nil {
		return nil, nil // unreadable is as good as none: it is taken again
	}
	if !p.Fits(parts.Family, parts.Runtime.Version(), shelf.Variant().String()) {
		return nil, nil
	}
	return &p, nil
}

// TakeProfile makes every member ready, measures them and stores the profile. A
// member that cannot be made ready is noted there and left out; its session is
// nil. The sessions, in the family's order, are the caller's to close. Before
// each member tell is called with its index.
func TakeProfile(ctx context.Context, parts *Parts, shelf Shelf, tell func(member int)) (*family.Profile, []family.Session, error) {
	p, sessions, err := tryProfile(ctx, parts, shelf, tell)
	if err == nil {
		if err = saveProfile(parts, shelf, p); err == nil {
			return p, sessions, nil
		}
	}
	return nil, nil, errors.Join(err, closeAll(sessions))
}

// takeProfile is TakeProfile for an agent, which serves with a profile that cannot
// be stored, too, and says so.
func (a *Agent) takeProfile(ctx context.Context, shelf Shelf, tell func(member int)) (*family.Profile, []family.Session, error) {
	p, sessions, err := tryProfile(ctx, a.parts, shelf, tell)
	if err != nil {
		return nil, nil, errors.Join(err, closeAll(sessions))
	}
	if err := saveProfile(a.parts, shelf, p); err != nil {
		a.log.Warn("profile not stored, the next start takes it again", "err", err)
		a.fault(fmt.Sprintf("this device's profile cannot be stored, and is taken again at the next start: %v", err))
	}
	return p, sessions, nil
}

// tryProfile makes every member ready and measures them. The sessions are the
// caller's to close, also where there is an error.
func tryProfile(ctx context.Context, parts *Parts, shelf Shelf, tell func(member int)) (*family.Profile, []family.Session, error) {
	sessions, faults, err := makeReady(ctx, parts.Family, shelf, tell)
	if err != nil {
		return nil, sessions, err
	}
	p, err := measured(ctx, parts.Machine, shelf, sessions)
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
func makeReady(ctx context.Context, f *family.Family, shelf Shelf, tell func(member int)) ([]family.Session, []string, error) {
	n := len(f.Members)
	sessions, faults := make([]family.Session, n), make([]string, n)
	var errs []error
	for i := range n {
		if err := ctx.Err(); err != nil {
			return sessions, faults, err
		}
		tell(i)
		s, err := shelf.Session(i)
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

func saveProfile(parts *Parts, shelf Shelf, p *family.Profile) error {
	b, err := json.Marshal(p)
	if err != nil {
		return fmt.Errorf("profile: %w", err)
	}
	return parts.Store.SetProfile(profileKey(parts.Family, shelf), b)
}

// measured takes a profile and notes what other processes of the machine used
// meanwhile.
func measured(ctx context.Context, m *monitor.Machine, shelf Shelf, sessions []family.Session) (*family.Profile, error) {
	_, began := m.Others(monitor.Mark{})
	p, err := shelf.Profile(ctx, sessions)
	if err != nil {
		return nil, err
	}
	p.OthersPercent, _ = m.Others(began)
	return p, nil
}

func profileKey(f *family.Family, shelf Shelf) store.ProfileKey {
	on := shelf.Variant()
	return store.ProfileKey{Family: string(f.Digest()), Provider: on.Provider, Threads: on.Threads}
}
