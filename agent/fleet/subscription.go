package fleet

import (
	"context"
	"slices"
)

// Subscription tells of the devices that changed, each once however often it did:
// the newest is what is read. It holds names alone, at most MaxDevices of them, and
// never keeps waiting who brings the changes. Only one goroutine may call Next at a
// time.
type Subscription struct {
	registry *Registry
	names    []string      // nil: all
	wake     chan struct{} // holds one token when something changed

	changed []string            // in the order of the first change; the registry's lock guards it,
	pending map[string]struct{} // and the same as a set
}

// Subscribe begins with all that is known of the devices of these names, or of the
// whole fleet if there is none, and goes on with what changes. The caller closes
// it.
func (r *Registry) Subscribe(names ...string) *Subscription {
	s := &Subscription{registry: r, names: names, wake: make(chan struct{}, 1), pending: map[string]struct{}{}}
	r.mu.Lock()
	for name := range r.devices {
		s.mark(name)
	}
	slices.Sort(s.changed)
	r.subscriptions[s] = struct{}{}
	r.mu.Unlock()
	s.signal()
	return s
}

// Close ends the subscription.
func (s *Subscription) Close() {
	s.registry.mu.Lock()
	delete(s.registry.subscriptions, s)
	s.registry.mu.Unlock()
}

// Next returns a device that changed since it was returned last, as it is now: with
// its name alone if all that it published was removed. A group comes with its
// desired state. The only error is ctx's.
func (s *Subscription) Next(ctx context.Context) (Device, error) {
	for {
		if d, ok := s.take(); ok {
			return d, nil
		}
		select {
		case <-s.wake:
		case <-ctx.Done():
			return Device{}, ctx.Err()
		}
	}
}

// Until returns the first device that fits. Its only error is ctx's, and with it
// comes the last device that did not fit.
func (s *Subscription) Until(ctx context.Context, fits func(Device) bool) (last Device, err error) {
	for {
		d, err := s.Next(ctx)
		if err != nil {
			return last, err
		}
		if last = d; fits(d) {
			return d, nil
		}
	}
}

func (s *Subscription) take() (Device, bool) {
	s.registry.mu.Lock()
	defer s.registry.mu.Unlock()
	if len(s.changed) == 0 {
		return Device{}, false
	}
	name := s.changed[0]
	s.changed = s.changed[1:]
	delete(s.pending, name)
	return s.registry.device(name), true
}

// mark notes the change of a device for all who asked for it, and returns them; the
// lock is held.
func (r *Registry) mark(name string) (woken []*Subscription) {
	for s := range r.subscriptions {
		if s.mark(name) {
			woken = append(woken, s)
		}
	}
	return woken
}

// mark notes a change, if it is of interest and not noted; the registry's lock is
// held. Devices that came and were removed meanwhile may be more than there is room
// for: the oldest of them go.
func (s *Subscription) mark(name string) bool {
	if _, noted := s.pending[name]; noted || s.names != nil && !slices.Contains(s.names, name) {
		return false
	}
	if len(s.changed) == MaxDevices {
		delete(s.pending, s.changed[0])
		s.changed = s.changed[1:]
	}
	s.changed, s.pending[name] = append(s.changed, name), struct{}{}
	return true
}

// signal leaves a token for Next.
func (s *Subscription) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}
