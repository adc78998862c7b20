package controller_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/limber-edge/limber/agent/fleet/controller"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/store"
)

// mortal is a store whose process is killed behind the last of so many commits: it is on
// the disk, and nothing that follows from it was said.
type mortal struct {
	*store.Documents
	cable *cable

	mu    sync.Mutex
	left  int           // commits; below 0: no end
	dead  chan struct{} // closed by the last
	count int
}

func (m *mortal) Commit(changes map[string][]byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.left == 0 {
		return errors.New("the process is dead")
	}
	err := m.Documents.Commit(changes)
	m.left--
	m.count++
	if m.left == 0 {
		m.cable.kill()
		close(m.dead)
		return errors.New("the process is dead")
	}
	return err
}

// serveMortal runs a controller that is killed behind so many commits.
func serveMortal(tb testing.TB, addr, dir string, commits int) (*served, *mortal) {
	tb.Helper()
	documents, err := store.OpenDocuments(dir, store.Options{NoSync: true}, discard())
	if err != nil {
		tb.Fatal(err)
	}
	m := &mortal{Documents: documents, cable: &cable{}, left: commits, dead: make(chan struct{})}
	cfg := controller.Config{Broker: link(addr), Dir: dir}
	cfg.Broker.Dial = m.cable.dial
	return serveFrom(tb, cfg, m), m
}

// course is a rollout, and how it ends.
type course struct {
	spec   *wire.RolloutSpec
	bad    bool // it fails on all devices but the canary
	agreed int  // of 100 frames, where these are compared
	end    wire.RolloutState
}

// canary is the device of the first phase.
const canary = "d-0"

// outcome is how a command ends.
func (c course) outcome(device string, asked wire.Command) wire.Ack {
	switch {
	case asked.Shadow != nil: // it goes on once that is known
		return wire.Ack{State: wire.CommandExecuting, Progress: &wire.Progress{Step: wire.UpdateShadow},
			Shadow: c.compared(1)}
	case c.bad && device != canary:
		return wire.Ack{State: wire.CommandFailed, Reason: wire.Internal, RolledBack: true}
	}
	return wire.Ack{State: wire.CommandSucceeded}
}

// compared is so many hundreds of frames.
func (c course) compared(hundreds int) *wire.Agreement {
	return &wire.Agreement{Frames: hundreds * 100, Agreed: hundreds * c.agreed, P95MS: new(8.25)}
}

// goOn has devices end whose comparison is known up to the middle, and tells whether the
// rollout has.
func (c course) goOn(r *controller.Remote, g *garden) (ended bool) {
	doc, _ := r.Rollout("r")
	for _, d := range doc.Devices {
		switch {
		case d.State != wire.DeviceRunning || d.Shadow == nil:
		case c.agreed < 97:
			g.goOn(d.Device, wire.Ack{State: wire.CommandFailed, Reason: wire.Disagreement, Shadow: c.compared(2)})
		default:
			g.goOn(d.Device, wire.Ack{State: wire.CommandSucceeded, Shadow: c.compared(2)})
		}
	}
	return doc.State.Final()
}

// courses are rollouts of each kind that reach all devices, and one that the canary goes
// back from, by a command of its own.
func courses(tb testing.TB) map[string]course {
	tb.Helper()
	family := func(s *wire.RolloutSpec) {
		s.Mode, s.Family = "", &wire.Family{Name: "new", Digest: "sha256:" + string(folder(tb).Digest())}
		s.Gates = append([]wire.Gate{{Name: wire.GateAgreement, Limit: "0.97"}}, s.Gates...)
	}
	release := func(s *wire.RolloutSpec) {
		s.Mode, s.Release = "", &wire.RolloutRelease{Version: "1.5.0",
			Manifests: []wire.ReleaseFor{{Arch: arch, Digest: releaseOf("1.5.0").Digest}}}
	}
	back := func(s *wire.RolloutSpec) {
		release(s)
		s.Canary, s.Phases, s.Rollback = []string{canary}, []string{"1", "2", "100%"}, true
	}
	only := func(s *wire.RolloutSpec) {
		family(s)
		s.Shadow = &wire.Shadow{Only: true}
	}
	return map[string]course{
		"a mode":                   {spec: spec(nil), end: wire.RolloutDone},
		"a family that agrees":     {spec: spec(family), agreed: 99, end: wire.RolloutDone},
		"a family that does not":   {spec: spec(family), agreed: 90, end: wire.RolloutFailed},
		"nothing but a comparison": {spec: spec(only), agreed: 99, end: wire.RolloutDone},
		"a release":                {spec: spec(release), end: wire.RolloutDone},
		"a release that goes back": {spec: spec(back), bad: true, end: wire.RolloutFailed},
	}
}

// roll runs a rollout whose controller is killed behind the commit of a number, and goes
// on with another; below 0: it is not killed. It returns how many commits there were, and
// how it ended on each device, by which commands.
func (c course) roll(t *testing.T, kill int) (commits int, outcome string) {
	addr, dir := desk(t), t.TempDir()
	g := plants(t, addr, 3)
	g.outcome = c.outcome
	first, m := serveMortal(t, addr, dir, kill)
	r := remote(t, addr)
	if c.spec.Family != nil {
		go r.Serve(t.Context(), folder(t)) // also to the second
	}
	asked := make(chan error, 1)
	go func() { // the answer may be given by the second
		_, err := r.Do(t.Context(), start("r", c.spec), patience, nil)
		asked <- err
	}()
	until(t, "it is killed or has ended", func() bool {
		select {
		case <-m.dead:
			return true
		default:
			return c.goOn(r, g)
		}
	})
	if m.left == 0 {
		first.stop()
		serve(t, addr, dir)
	}
	if err := <-asked; err != nil {
		t.Fatal(err)
	}
	until(t, "it ends", func() bool { return c.goOn(r, g) })
	doc := become(t, r, "r", c.end)
	for _, d := range doc.Devices {
		outcome += fmt.Sprintf("%s %s %d by %v, ", d.Device, d.State, d.Attempt, g.effects(d.Device))
		if d.Shadow != nil {
			outcome += fmt.Sprintf("%d of %d frames, ", d.Shadow.Agreed, d.Shadow.Frames)
		}
	}
	g.unchanged()
	return m.count, outcome
}

// TestAControllerKilledBehindEachOfItsWritesEndsTheSame runs all at once, more than there are
// processors: a controller that starts waits for another to answer.
func TestAControllerKilledBehindEachOfItsWritesEndsTheSame(t *testing.T) {
	t.Parallel()
	var all sync.WaitGroup
	defer all.Wait()
	for name, c := range courses(t) {
		all.Go(func() { t.Run(name, c.killedBehindEach) })
	}
}

func (c course) killedBehindEach(t *testing.T) {
	commits, want := c.roll(t, -1)
	if least := map[bool]int{true: 6, false: 3}[c.spec.Family != nil]; commits < least {
		t.Fatalf("got %d commits, want at least %d: blobs, the start, the phases and the end", commits, least)
	}
	t.Logf("%d commits: %s", commits, want)
	var all sync.WaitGroup
	defer all.Wait()
	for kill := 1; kill <= commits; kill++ {
		all.Go(func() {
			t.Run(fmt.Sprintf("behind commit %d of %d", kill, commits), func(t *testing.T) {
				if _, got := c.roll(t, kill); got != want {
					t.Errorf("got %s, want %s", got, want)
				}
			})
		})
	}
}
