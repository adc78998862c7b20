package slot

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
)

// stage fills a slot with a release, whose files open returns. What was there goes first:
// a device may have room for two releases and not for three.
func (s *Slots) stage(ctx context.Context, n Name, r Release, open func(File) (io.ReadCloser, error)) error {
	dir := s.path(string(n))
	part := dir + ".new"
	if err := errors.Join(os.RemoveAll(dir), os.RemoveAll(part)); err != nil {
		return err
	}
	err := r.fill(ctx, part, open)
	if err == nil {
		err = os.Rename(part, dir)
	}
	if err != nil {
		os.RemoveAll(part) // for its room; the next time sees to what is left
		return err
	}
	return syncFolder(s.dir)
}

// fill makes a folder that holds a release, all of it on the disk.
func (r *Release) fill(ctx context.Context, dir string, open func(File) (io.ReadCloser, error)) error {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	for _, f := range r.Files {
		if err := f.stage(ctx, root, open); err != nil {
			return fmt.Errorf("%s: %w", f.Path, err)
		}
	}
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return replace(filepath.Join(dir, marker), b) // and so all names in it are on the disk
}

// stage writes a file, and has it and the folders that it is in on the disk.
func (f File) stage(ctx context.Context, root *os.Root, open func(File) (io.ReadCloser, error)) error {
	dir := path.Dir(f.Path)
	if err := root.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := f.write(ctx, root, open); err != nil {
		return err
	}
	for ; dir != "."; dir = path.Dir(dir) {
		if err := syncFolder(filepath.Join(root.Name(), filepath.FromSlash(dir))); err != nil {
			return err
		}
	}
	return nil
}

func (f File) write(ctx context.Context, root *os.Root, open func(File) (io.ReadCloser, error)) (err error) {
	from, err := open(f)
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := root.OpenFile(f.Path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, to.Close()) }()
	sum := sha256.New()
	n, err := io.Copy(io.MultiWriter(to, sum), io.LimitReader(&cancelled{ctx, from}, f.Bytes+1))
	switch got := digestPrefix + hex.EncodeToString(sum.Sum(nil)); {
	case err != nil:
		return err
	case n != f.Bytes:
		return fmt.Errorf("%w: it has not %d bytes", ErrSource, f.Bytes)
	case got != f.Digest:
		return fmt.Errorf("%w: it has the digest %s, not %s", ErrSource, got, f.Digest)
	}
	if err := to.Chmod(f.Mode); err != nil {
		return err
	}
	return to.Sync()
}

// ErrSource is in what Stage returns for bytes that are not those of the manifest.
var ErrSource = errors.New("not what the manifest says")

// cancelled is a reader that ends with its context.
type cancelled struct {
	ctx  context.Context
	from io.Reader
}

func (c *cancelled) Read(b []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.from.Read(b)
}
