package workshop

import (
	"fmt"
	"io"

	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/store"
)

// Pack makes one file of a family, without the blobs that omit holds.
func Pack(out string, f *family.Family, blobs family.Blobs, omit func(family.Digest) bool) error {
	err := store.FillFile(out, func(w io.Writer) error { return family.Pack(w, f, blobs, omit) })
	if err != nil {
		return fmt.Errorf("pack family %s: %w", f.Name, err)
	}
	return nil
}
