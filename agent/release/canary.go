package release

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/limber-edge/limber/agent/engine"
	"github.com/limber-edge/limber/family"
)

// Canaries hold why members were not taken into use that gave other logits than they must,
// each by its family, member and provider. The zero value has none.
type Canaries struct {
	mu     sync.Mutex
	failed map[string]error
}

func (c *Canaries) note(name string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.failed == nil {
		c.failed = map[string]error{}
	}
	c.failed[name] = err
}

func (c *Canaries) all() map[string]error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.failed)
}

// unfit are the names of all members that cannot be used, for whatever reason. One that
// could not be used when the profile was taken is not always tried again.
func (c *Canaries) unfit(s engine.Status) []string {
	names := slices.Collect(maps.Keys(c.all()))
	if s.Profile != nil {
		for i, m := range s.Profile.Members {
			if m.Fault != "" {
				names = append(names, canaryOf(s.Family, i, s.Variant))
			}
		}
	}
	return names
}

// canaryOf names one. How many threads there are is not in it: that is another thing from
// one release to the next.
func canaryOf(f *family.Family, member int, on family.Variant) string {
	return fmt.Sprintf("%s/%s of %s on %s", f.Name, f.Members[member].Name, f.Digest().Short(), on.Provider)
}

// watched are members whose canaries are watched.
type watched struct {
	engine.Loader
	family   *family.Family
	canaries *Canaries
}

// Session implements engine.Loader.
func (w watched) Session(i int) (family.Session, error) {
	s, err := w.Loader.Session(i)
	if errors.Is(err, family.ErrCanary) {
		w.canaries.note(canaryOf(w.family, i, w.Variant()), err)
	}
	return s, err
}

// Watch is open, for an engine.Source, with the canaries of what it opens of a family watched.
func (c *Canaries) Watch(f *family.Family, open func(family.Variant) (engine.Loader, error)) func(family.Variant) (
	engine.Loader, error) {
	return func(v family.Variant) (engine.Loader, error) {
		l, err := open(v)
		if err != nil {
			return nil, err
		}
		return watched{l, f, c}, nil
	}
}
