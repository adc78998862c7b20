package ofa

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
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

// Magic number and version at the start of the legacy container.
const (
	legacyMagic   = pyLong("\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19") // 0x1950a86a20f9469cfc6c
	legacyVersion = pyInt(1001)
)

// openLegacy opens the container of PyTorch before 1.6: five pickles (magic
// number, version, system, object, storage keys) and then, in the order of the
// keys, the number of elements (int64) and the numbers of each storage.
func openLegacy(file []byte) (pyValue, storageSource, error) {
	pickles := file[:min(len(file), maxPickle)]
	p := &legacyPickles{rest: pickles}
	if err := p.preamble(); err != nil {
		return nil, nil, err
	}
	storages := map[string]*pyStorage{}
	object, err := p.next("object", storages)
	if err != nil {
		return nil, nil, err
	}
	keys, err := p.keys(storages)
	if err != nil {
		return nil, nil, err
	}
	found, err := divide(file[len(pickles)-len(p.rest):], keys)
	return object, func(s *pyStorage) ([]byte, error) {
		numbers, ok := found[s.key]
		if !ok {
			return nil, errors.New("it is not in the list of storages")
		}
		return numbers, nil
	}, err
}

// legacyPickles reads the pickles at the start of the file, one after another.
type legacyPickles struct{ rest []byte }

func (p *legacyPickles) next(what string, storages map[string]*pyStorage) (pyValue, error) {
	v, n, err := unpickle(p.rest, storages)
	if errors.Is(err, errPickleEnd) {
		return nil, fmt.Errorf("%s pickle: %w: the file is cut short, or its pickles exceed %d MiB", what, err, maxPickle>>20)
	} else if err != nil {
		return nil, fmt.Errorf("%s pickle: %w", what, err)
	}
	p.rest = p.rest[n:]
	return v, nil
}

// preamble checks magic number, version and byte order.
func (p *legacyPickles) preamble() error {
	magic, err := p.next("first", nil)
	if err != nil {
		return fmt.Errorf("not a PyTorch checkpoint (neither zip nor legacy container): it looks like a pickle: %w", err)
	}
	if magic != legacyMagic {
		return fmt.Errorf("not a PyTorch checkpoint (neither zip nor legacy container): it is a plain pickle of %s",
			magic.kind())
	}
	version, err := p.next("version", nil)
	if err != nil {
		return err
	}
	if version != legacyVersion {
		return fmt.Errorf("the legacy container's version is not %d", legacyVersion)
	}
	system, err := p.next("system", nil)
	if err != nil {
		return err
	}
	info, ok := system.(*pyDict)
	if !ok {
		return fmt.Errorf("the system description is %s, not a dict", system.kind())
	}
	if little, ok := info.lookup("little_endian"); !ok || little != pyBool(true) {
		return errors.New("the checkpoint was not written on a little-endian machine; save it again on one")
	}
	return nil
}

// keys reads the order in which the storages follow.
func (p *legacyPickles) keys(storages map[string]*pyStorage) ([]*pyStorage, error) {
	v, err := p.next("storage keys", nil)
	if err != nil {
		return nil, err
	}
	list, ok := v.(*pyList)
	if !ok {
		return nil, fmt.Errorf("the storage keys are %s, not a list", v.kind())
	}
	order := make([]*pyStorage, len(list.items))
	for i, item := range list.items {
		key, ok := item.(pyText)
		if !ok {
			return nil, fmt.Errorf("a storage key is %s, not a str", item.kind())
		}
		if order[i], ok = storages[string(key)]; !ok {
			return nil, fmt.Errorf("storage %q follows but no tensor declares it", clip(string(key), 200))
		}
	}
	return order, nil
}

// divide cuts what follows the pickles into the numbers of each storage.
func divide(rest []byte, order []*pyStorage) (map[string][]byte, error) {
	found := make(map[string][]byte, len(order))
	for _, s := range order {
		if _, twice := found[s.key]; twice {
			return nil, fmt.Errorf("storage %q follows twice", clip(s.key, 200))
		}
		const length = 8 // bytes of the number of elements
		if len(rest) < length {
			return nil, fmt.Errorf("storage %q: the file is cut short before its length", clip(s.key, 200))
		}
		n := int64(binary.LittleEndian.Uint64(rest))
		if rest = rest[length:]; n != s.numel {
			return nil, fmt.Errorf("storage %q has %d elements where %d are declared", clip(s.key, 200), n, s.numel)
		}
		if s.numel > int64(len(rest))/s.elem.size {
			return nil, fmt.Errorf("storage %q: the file is cut short: %d elements of %d bytes do not fit into the %d bytes "+
				"left", clip(s.key, 200), s.numel, s.elem.size, len(rest))
		}
		found[s.key], rest = rest[:s.numel*s.elem.size], rest[s.numel*s.elem.size:]
	}
	return found, nil
}
