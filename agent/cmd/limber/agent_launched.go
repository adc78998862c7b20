package main

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/limber-edge/limber/agent"
	"github.com/limber-edge/limber/agent/config"
	"github.com/limber-edge/limber/agent/release"
	"github.com/limber-edge/limber/firmware/slot"
	"github.com/limber-edge/limber/store"
)

// beatPace is how often limber-boot hears that this program is alive. It wants to every 5 s.
const beatPace = 2 * time.Second

// stalled is how long the work may stand still before limber-boot is to end this program. It is
// far more than the engine gives an inference that hangs, and than systemd's watchdog has where
// there is one: it is for what neither of them ends.
const stalled = 10 * time.Minute

// beat tells limber-boot that this program is alive, until stop is called: by the clock while
// its parts are opened, which may take minutes, and once watch was called only as long as the
// work goes on. It calls moved at each beat, which tells whether it did since the last one.
func beat(say func()) (watch func(moved func() bool), stop func()) {
	watched, ended := make(chan func() bool), make(chan struct{})
	go func() {
		tick := time.NewTicker(beatPace)
		defer tick.Stop()
		moved, last := func() bool { return true }, time.Now()
		for {
			if moved() {
				last = time.Now()
			}
			if time.Since(last) < stalled {
				say()
			}
			select {
			case <-tick.C:
			case moved = <-watched:
			case <-ended:
				return
			}
		}
	}()
	return func(moved func() bool) { watched <- moved }, func() { close(ended) }
}

// slotsOf are those of releases; nil where limber-boot did not start this program, or acts on
// those of another state: a release would be on trial there for ever, and never run.
func slotsOf(launched *slot.Child, state string, log *slog.Logger) *slot.Agent {
	if launched == nil {
		return nil
	}
	if launched.State != "" && !sameFolder(launched.State, state) {
		log.Warn("no release will be taken: limber-boot has another state folder; start it with --state "+state,
			"boot", launched.State)
		return nil
	}
	return slot.Open(state).Agent(launched.Slot)
}

// sameFolder tells whether two paths are those of one folder, which need not be there yet.
func sameFolder(a, b string) bool {
	x, err1 := os.Stat(a)
	y, err2 := os.Stat(b)
	if err1 == nil && err2 == nil {
		return os.SameFile(x, y)
	}
	a, err1 = filepath.Abs(a)
	b, err2 = filepath.Abs(b)
	return err1 == nil && err2 == nil && a == b
}

// openLaunched opens a device. That it cannot be opened is the fault of a release on
// trial, unless another process has the state.
func openLaunched(cfg config.Config, state store.Options, slots *slot.Agent, log *slog.Logger) (*agent.Deps, error) {
	if slots == nil {
		return openDevice(cfg, state, nil, log)
	}
	if err := release.Keep(cfg.State, slots, log); err != nil {
		return nil, err
	}
	deps, err := openDevice(cfg, state, slots, log)
	if err != nil && !errors.Is(err, store.ErrLocked) {
		err = release.Unreadable(slots, err)
	}
	return deps, err
}
