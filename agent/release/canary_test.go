package release

import (
	"errors"
	"fmt"
	"testing"

	"github.com/limber-edge/limber/agent/engine"
	"github.com/limber-edge/limber/family"
)

// faulty are members of which the first fails its canary, and the second has no room.
type faulty struct {
	engine.Loader
	on family.Variant
}

func (f faulty) Variant() family.Variant { return f.on }
func (f faulty) Session(i int) (family.Session, error) {
	return nil, fmt.Errorf("member %d: %w", i, []error{family.ErrCanary, family.ErrNoRoom}[i])
}

func TestACanaryThatFailedHasTheSameNameWithAnotherNumberOfThreads(t *testing.T) {
	var c Canaries
	f := &family.Family{Name: "desk", Members: []family.Member{{Name: "5M"}, {Name: "9M"}}}
	open := c.Watch(f, func(v family.Variant) (engine.Loader, error) { return faulty{on: v}, nil })
	for _, threads := range []int{1, 2} {
		l, err := open(family.Variant{Provider: family.CPU, Threads: threads})
		if err != nil {
			t.Fatal(err)
		}
		for i := range f.Members {
			if _, err := l.Session(i); err == nil {
				t.Errorf("member %d is ready", i)
			}
		}
	}
	all := c.all()
	if err := all["desk/5M of "+f.Digest().Short()+" on cpu"]; len(all) != 1 || !errors.Is(err, family.ErrCanary) {
		t.Errorf("got %v, want that of the first member", all)
	}
}
