package release

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/firmware/slot"
	"github.com/limber-edge/limber/store"
)

// kept is the folder, in that of the slots, with the state that the release before a
// one-way one left. It is there whole, or under another name.
const kept = "state"

// Keep copies the state before a release on trial opens it that the one before will not be
// able to read then, and puts it back where that one runs again. What the release on trial
// had not sent waits on where it can be read, and is a gap where not; all else that happened
// to the state is lost then. It is for a start, before the state is opened. The error is that
// the state is not to be opened; of a release on trial it is recorded as its verdict.
func Keep(folder string, slots *slot.Agent, log *slog.Logger) error {
	p, err := slots.Phase()
	if err != nil {
		return nil // nothing is known of a trial
	}
	at := keptIn(folder)
	_, absent := os.Stat(at)
	onTrial := p.InTrial() && p.Slot == slots.Running()
	switch {
	case onTrial && isOneWay(p.Command) && absent != nil:
		return Unreadable(slots, wrap("keep the state for the release before", keepState(folder, at)))
	case onTrial || absent != nil:
		return nil
	case p.Phase == slot.Confirmed:
		return dropKept(folder)
	}
	err = store.PutBack(at, folder, log)
	if err == nil {
		err = dropState(at)
	}
	return wrap("put back the state that a release on trial changed", err)
}

func keptIn(folder string) string { return filepath.Join(folder, "slots", kept) }

// dropKept removes the copy of a state that is not to come back.
func dropKept(folder string) error {
	err := dropState(keptIn(folder))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return wrap("remove the state of the release before", err)
}

func isOneWay(c *slot.Command) bool {
	if c == nil {
		return false
	}
	var o wire.Command
	b, err := payloadOf(c)
	return err == nil && json.Unmarshal(b, &o) == nil && o.OneWay
}

func keepState(folder, at string) error {
	part := at + ".new"
	if err := errors.Join(os.RemoveAll(part), os.Mkdir(part, 0o700)); err != nil {
		return err
	}
	err := store.Copy(folder, part)
	if err == nil {
		err = os.Rename(part, at)
	}
	if err != nil {
		return errors.Join(err, os.RemoveAll(part))
	}
	return store.SyncFolder(filepath.Dir(at))
}

// dropState removes it, first of all under its name.
func dropState(at string) error {
	old := at + ".old"
	if err := os.RemoveAll(old); err != nil {
		return err
	}
	if err := os.Rename(at, old); err != nil {
		return err
	}
	return os.RemoveAll(old)
}

func wrap(what string, err error) error {
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}
