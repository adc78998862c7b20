package resident

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"github.com/limber-edge/limber/family"
)

// roomFactor is how many times a model's bytes its cache folder may take for a
// moment: the optimised model, and its weights beside it.
const roomFactor = 2

// noRoom is why a model of so many bytes could not be built if that was for want of
// room, else the cause: the runtime tells only that it could not write. It is asked
// once nothing is left of the attempt.
func (s *Shelf) noRoom(bytes int, cause error) error {
	probe := filepath.Join(s.cache, "room.part")
	err := os.WriteFile(probe, make([]byte, roomFactor*bytes), 0o600)
	os.Remove(probe) // what cannot be removed was not made
	for _, full := range []error{cause, err} {
		if errors.Is(full, syscall.ENOSPC) || errors.Is(full, syscall.EDQUOT) {
			return fmt.Errorf("%w: %s needs %d KiB more", family.ErrNoRoom, s.cache, roomFactor*bytes>>10)
		}
	}
	return cause
}
