package engine

import (
	"context"

	"github.com/limber-edge/limber/family"
)

// Run prepares the members of the family and keeps them running until ctx ends.
// It returns ErrHung when only a new process helps.
func (e *Engine) Run(ctx context.Context) error {
	defer close(e.over)
	<-ctx.Done()
	return nil
}

// StoredProfile returns this device's profile, or nil if none was taken that
// fits the family, the runtime and the loader's variant.
func StoredProfile(d Deps, l Loader) (*family.Profile, error) { return nil, nil }

// TakeProfile makes every member ready, measures them and stores the profile. A
// member that cannot be made ready is noted there and left out; its session is
// nil. The sessions, in the family's order, are the caller's to close. Before
// each member tell is called with its index.
func TakeProfile(ctx context.Context, d Deps, l Loader, tell func(member int)) (*family.Profile, []family.Session, error) {
	return nil, nil, nil
}
