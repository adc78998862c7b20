package ofa

import (
	"archive/zip"
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
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
	file    []byte
	root    string // NAME/
	entries map[string]*zip.File
}

func openZip(file []byte) (pyValue, storageSource, error) {
	archive, err := zip.NewReader(bytes.NewReader(file), int64(len(file)))
	if errors.Is(err, zip.ErrFormat) { // the directory is the last thing in the file
		return nil, nil, errors.New("the zip container of the checkpoint has no end: the file is truncated or damaged, " +
			"fetch it again")
	} else if err != nil {
		return nil, nil, fmt.Errorf("read the zip container of the checkpoint: %w", err)
	}
	c := &zipContainer{file: file, entries: make(map[string]*zip.File, len(archive.File))}
	for _, f := range archive.File {
		if err := c.add(f); err != nil {
			return nil, nil, err
		}
	}
	if c.root == "" {
		return nil, nil, errors.New("not a PyTorch checkpoint: a zip archive without data.pkl")
	}
	object, err := c.object()
	return object, func(s *pyStorage) ([]byte, error) { return c.entry("data/"+s.key, len(file)) }, err
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
		order, err := c.entry("byteorder", 16)
		if err != nil {
			return nil, err
		}
		if string(order) != "little" {
			return nil, fmt.Errorf("the checkpoint's byte order is %q; save it again on a little-endian machine", order)
		}
	}
	pickle, err := c.entry("data.pkl", maxPickle)
	if err != nil {
		return nil, err
	}
	object, _, err := unpickle(pickle, map[string]*pyStorage{})
	if err != nil {
		return nil, fmt.Errorf("data.pkl: %w", err)
	}
	return object, nil
}

// entry is the content of an entry of at most limit bytes, which is not copied.
func (c *zipContainer) entry(name string, limit int) ([]byte, error) {
	f, ok := c.entries[c.root+name]
	if !ok {
		return nil, fmt.Errorf("zip entry %q is missing", clip(name, 200))
	}
	const encrypted = 1
	if f.Method != zip.Store || f.Flags&encrypted != 0 || f.CompressedSize64 != f.UncompressedSize64 {
		return nil, fmt.Errorf("zip entry %q is compressed or encrypted; torch.save stores it plainly, so save the "+
			"checkpoint again", clip(name, 200))
	}
	at, err := f.DataOffset()
	if err != nil {
		return nil, fmt.Errorf("zip entry %q: %w", clip(name, 200), err)
	}
	rest := c.file[min(at, int64(len(c.file))):]
	if f.UncompressedSize64 > uint64(len(rest)) {
		return nil, fmt.Errorf("zip entry %q claims %d bytes of a file of %d", clip(name, 200), f.UncompressedSize64,
			len(c.file))
	}
	content := rest[:f.UncompressedSize64]
	if len(content) > limit {
		return nil, fmt.Errorf("zip entry %s: %d bytes are more than %d", name, len(content), limit)
	}
	if f.CRC32 != 0 && crc32.ChecksumIEEE(content) != f.CRC32 { // 0 is of a writer that leaves it out
		return nil, fmt.Errorf("zip entry %q: %w", clip(name, 200), zip.ErrChecksum)
	}
	return content, nil
}
