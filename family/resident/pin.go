package resident

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"github.com/limber-edge/limber/family/ort"
)

// Pin keeps the weights of member i in memory until release is called, however
// little of it is left: a session maps the same file, whose pages would else be
// the first to go. A member without a file of weights, and one on a GPU, needs
// none of it. The error says why the kernel refuses, which the limit of locked
// memory (RLIMIT_MEMLOCK) makes it do.
func (s *Shelf) Pin(i int) (release func() error, err error) {
	none := func() error { return nil }
	m := &s.fam.Members[i]
	if s.options.Provider != ort.CPU {
		return none, nil
	}
	path, err := s.file(m)
	if err != nil {
		return nil, fmt.Errorf("member %s: %w", m.Name, err)
	}
	release, err = pinFile(path + ort.WeightsSuffix)
	if errors.Is(err, fs.ErrNotExist) {
		return none, nil
	} else if err != nil {
		return nil, fmt.Errorf("member %s: keep its weights in memory: %w", m.Name, err)
	}
	return release, nil
}

// pinFile locks a file's pages through a mapping of its own.
func pinFile(path string) (release func() error, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	pages, err := syscall.Mmap(int(f.Fd()), 0, int(info.Size()), syscall.PROT_READ, syscall.MAP_SHARED)
	if err != nil {
		return nil, os.NewSyscallError("mmap", err)
	}
	if err := syscall.Mlock(pages); err != nil {
		return nil, errors.Join(os.NewSyscallError("mlock", err), syscall.Munmap(pages))
	}
	return func() error { return os.NewSyscallError("munmap", syscall.Munmap(pages)) }, nil // which unlocks
}
