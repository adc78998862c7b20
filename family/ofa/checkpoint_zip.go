package ofa

import (
	"archive/zip"
	"errors"
	"fmt"
	"io"
	"strings"
)

// zipContainer is the container of PyTorch 1.6 and later:
//
//	NAME/data.pkl    the object pickle
//	NAME/byteorder   "little" or "big"; absent before PyTorch 2.0
//	NAME/data/KEY    a storage
//
// Entries are stored, not compressed, and carry a checksum.
type zipContainer struct {
	size    int64  // bytes of the file
	root    string // NAME/
	entries map[string]*zip.File
}

func openZip(r io.ReaderAt, size int64) (pyValue, storageSource, error) {
	archive, err := zip.NewReader(r, size)
	if errors.Is(err, zip.ErrFormat) { // the directory is the last thing in the file
		return nil, nil, errors.New("the zip container of the checkpoint has no end: the file is truncated or damaged, " +
			"fetch it again")
	} else if err != nil {
		return nil, nil, fmt.Errorf("read the zip container of the checkpoint: %w", err)
	}
	c := &zipContainer{size: size, entries: make(map[string]*zip.File, len(archive.File))}
	for _, f := range archive.File {
		if err := c.add(f); err != nil {
			return nil, nil, err
		}
	}
	if c.root == "" {
		return nil, nil, errors.New("not a PyTorch checkpoint: a zip archive without data.pkl")
	}
	object, err := c.object()
	return object, c, err
}

// add enters a file and notes the folder of data.pkl. Names are only compared,
// never used on a file system.
func (c *zipContainer) add(f *zip.File) error {
	if _, twice := c.entries[f.Name]; twice {
		return fmt.Errorf("zip entry %q is there twice", clip(f.Name, 200))
	}
	c.entries[f.Name] = f
	root, isObject := strings.CutSuffix(f.Name, "/data.pkl")
	if !isObject || strings.Contains(root, "/") {
		return nil
	}
	if c.root != "" {
		return fmt.Errorf("the zip archive holds two objects, in %q and %q", clip(c.root, 200), clip(root, 200))
	}
	c.root = root + "/"
	return nil
}

func (c *zipContainer) object() (pyValue, error) {
	if _, ok := c.entries[c.root+"byteorder"]; ok {
		order, err := c.small("byteorder", 16)
		if err != nil {
			return nil, err
		}
		if string(order) != "little" {
			return nil, fmt.Errorf("the checkpoint's byte order is %q; save it again on a little-endian machine", order)
		}
	}
	pickle, err := c.small("data.pkl", maxPickle)
	if err != nil {
		return nil, err
	}
	object, _, err := unpickle(pickle, map[string]*pyStorage{})
	if err != nil {
		return nil, fmt.Errorf("data.pkl: %w", err)
	}
	return object, nil
}

// small reads an entry of at most limit bytes.
func (c *zipContainer) small(name string, limit int64) ([]byte, error) {
	r, size, err := c.entry(name)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	if size > limit {
		return nil, fmt.Errorf("zip entry %s: %d bytes are more than %d", name, size, limit)
	}
	b, err := io.ReadAll(r) // the entry is not compressed: it ends after size bytes
	if err != nil {
		return nil, fmt.Errorf("zip entry %s: %w", name, err)
	}
	return b, nil
}

func (c *zipContainer) open(s *pyStorage) (io.ReadCloser, int64, error) {
	return c.entry("data/" + s.key)
}

func (c *zipContainer) entry(name string) (io.ReadCloser, int64, error) {
	f, ok := c.entries[c.root+name]
	if !ok {
		return nil, 0, fmt.Errorf("zip entry %q is missing", clip(name, 200))
	}
	const encrypted = 1
	if f.Method != zip.Store || f.Flags&encrypted != 0 || f.CompressedSize64 != f.UncompressedSize64 {
		return nil, 0, fmt.Errorf("zip entry %q is compressed or encrypted; torch.save stores it plainly, so save the "+
			"checkpoint again", clip(name, 200))
	}
	if f.UncompressedSize64 > uint64(c.size) {
		return nil, 0, fmt.Errorf("zip entry %q claims %d bytes of a file of %d", clip(name, 200), f.UncompressedSize64,
			c.size)
	}
	r, err := f.Open()
	if err != nil {
		return nil, 0, fmt.Errorf("zip entry %q: %w", clip(name, 200), err)
	}
	return r, int64(f.UncompressedSize64), nil
}
