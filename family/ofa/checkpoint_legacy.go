package ofa

import (
	"encoding/binary"
	"errors"
	"fmt"
)

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
