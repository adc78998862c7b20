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
// member that cannot be made ready is noted there and left out. Before each member
// tell is called with its index.
func TakeProfile(ctx context.Context, d *Deps, l Loader, tell func(member int)) (*family.Profile, error) {
	p, err := takeProfile(ctx, d, l, tell)
	if err != nil {
		return nil, err
	}
	return p.profile, errors.Join(saveProfile(d, l, p.profile), p.close())
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

// prepared is a family of which members were made ready.
type prepared struct {
	profile  *family.Profile
	sessions []family.Session // in the family's order, nil for those that cannot be used; or none at all
	faults   []string         // why they cannot
}

// takeProfile makes every member ready and measures them.
func takeProfile(ctx context.Context, d *Deps, l Loader, tell func(member int)) (prepared, error) {
	p, err := makeReady(ctx, d.Family, l, tell)
	if err != nil {
		return prepared{}, err
	}
	if err := p.measure(ctx, d.Machine, l); err != nil {
		return prepared{}, errors.Join(err, p.close())
	}
	return p, nil
}

// makeReady makes every member ready. It is an error when there is none at all; of
// the reasons, alike then, it gives the first, or that the disk is full.
func makeReady(ctx context.Context, f *family.Family, l Loader, tell func(member int)) (prepared, error) {
	n := len(f.Members)
	p := prepared{sessions: make([]family.Session, n), faults: make([]string, n)}
	var errs []error
	for i := range n {
		tell(i)
		if err := ctx.Err(); err != nil {
			return prepared{}, errors.Join(err, p.close())
		}
		var err error
		if p.sessions[i], err = l.Session(i); err != nil {
			errs = append(errs, err)
			p.faults[i] = err.Error()
		}
	}
	if len(errs) == n {
		why := errs[max(0, slices.IndexFunc(errs, isFull))]
		return prepared{}, fmt.Errorf("no member of family %s can be used: %w", f.Name, why)
	}
	return p, nil
}

// measure takes a profile and notes what other processes of the machine used
// meanwhile.
func (p *prepared) measure(ctx context.Context, m Machine, l Loader) error {
	_, before := m.Others(monitor.Mark{})
	taken, err := l.Profile(ctx, p.sessions, func() {})
	if err != nil {
		return err
	}
	taken.OthersPercent, _ = m.Others(before)
	for i, fault := range p.faults {
		taken.Members[i].Fault = fault
	}
	p.profile = taken
	return nil
}

func (p *prepared) close() error {
	var errs []error
	for _, s := range p.sessions {
		if s != nil {
			errs = append(errs, s.Close())
		}
	}
	return errors.Join(errs...)
}

// profile returns the stored profile if it fits the family, the runtime and what
// can be used, else a new one with the sessions it took.
func (l *loader) profile(ctx context.Context) (prepared, error) {
	stored, err := StoredProfile(&l.deps, l.base)
	if err != nil {
		return prepared{}, err
	}
	if !l.outdated(ctx, stored, l.base) {
		return prepared{profile: stored}, nil
	}
	l.log.Info("preparing the family for this device, once",
		"family", l.deps.Family.Name, "members", len(l.deps.Family.Members))
	p, err := l.takeProfile(ctx, l.base, l.tellPreparing)
	if err != nil && stored != nil && ctx.Err() == nil {
		l.log.Warn("profile not taken anew, the stored one is used", "err", err)
		return prepared{profile: stored}, nil
	}
	return p, err
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
func (l *loader) takeProfile(ctx context.Context, on Loader, tell func(member int)) (prepared, error) {
	p, err := takeProfile(ctx, &l.deps, on, tell)
	if err != nil {
		return p, err
	}
	if err := saveProfile(&l.deps, on, p.profile); err != nil {
		l.log.Warn("profile not stored, the next start takes it again", "err", err)
		l.tellFault(fmt.Sprintf(
			"this device's profile cannot be stored, and is taken again at the next start: %v", err))
	}
	return p, nil
}

// members makes every member ready, with the stored profile if there is one that
// fits. Where that has a member at fault which can be used now it is measured anew,
// unless it cannot be now; then the next start does it.
func (l *loader) members(ctx context.Context, on Loader, measure bool, tell func(member int)) (prepared, error) {
	stored, err := StoredProfile(&l.deps, on)
	if err != nil {
		return prepared{}, err
	}
	if stored == nil {
		return l.takeProfile(ctx, on, tell)
	}
	p, err := makeReady(ctx, l.deps.Family, on, tell)
	if err != nil {
		return p, err
	}
	p.profile = stored
	passed := false
	for i, fault := range p.faults {
		passed = passed || fault == "" && stored.Members[i].Fault != ""
		if stored.Members[i].Fault == "" {
			stored.Members[i].Fault = fault // what worked when the profile was taken may not now
		}
	}
	if !passed || !measure {
		return p, nil
	}
	if err = p.measure(ctx, l.deps.Machine, on); err == nil {
		err = saveProfile(&l.deps, on, p.profile)
	}
	if err != nil {
		l.log.Warn("profile not taken anew, the stored one is used", "provider", on.Variant().Provider, "err", err)
		p.profile = stored
	}
	return p, nil
}
