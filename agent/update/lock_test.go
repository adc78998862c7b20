package update_test

import (
	"errors"
	"testing"

	"github.com/limber-edge/limber/agent/update"
	"github.com/limber-edge/limber/agent/wire"
)

func TestWhatMustNotMeetAnUpdateDoesNotWaitForTheLock(t *testing.T) {
	folder := t.TempDir()
	release, err := update.TryLock(folder)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := update.TryLock(folder); !refused(err) {
		t.Errorf("locked twice: got %v", err)
	}
	release()
	held, err := update.Hold(t.Context(), folder, func() { t.Error("it waits") })
	if err != nil {
		t.Fatal(err)
	}
	if _, err := update.TryLock(folder); !refused(err) {
		t.Errorf("held by a user: got %v", err)
	}
	held()
	if release, err = update.TryLock(folder); err != nil {
		t.Fatal(err)
	}
	release()
}

func refused(err error) bool {
	r, ok := errors.AsType[*wire.Refusal](err)
	return ok && r.Reason == wire.Locked
}
