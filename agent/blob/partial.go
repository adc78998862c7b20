package blob

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"syscall"

	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/family"
)

// partSuffix follows the digest in the name of a partial blob.
const partSuffix = ".part"

// syncBytes is how much may come until the disk is asked to keep it.
const syncBytes = 1 << 20

// partial is a blob on its way: a file that holds its first bytes. Its errors are fatal.
type partial struct {
	want     Wanted
	file     *os.File
	sum      hash.Hash // of what is there
	done     int64     // bytes that are there
	synced   int64     // of them
	progress func(int64)
}

// openPartial opens what is there of a blob, which may be nothing.
func openPartial(dir string, w Wanted, progress func(int64)) (*partial, error) {
	if !w.Digest.Valid() {
		return nil, fmt.Errorf("%.80q is not a SHA-256 digest", w.Digest)
	}
	if progress == nil {
		progress = func(int64) {}
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, spaceless(err)
	}
	file, err := os.OpenFile(filepath.Join(dir, string(w.Digest)+partSuffix), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, spaceless(err)
	}
	p := &partial{want: w, file: file, sum: sha256.New(), progress: progress}
	p.done, err = io.Copy(p.sum, io.LimitReader(file, w.Max+1))
	if err == nil && p.done > w.Max {
		err = p.restart()
	}
	if err != nil {
		file.Close()
		return nil, err
	}
	p.synced = p.done
	progress(p.done)
	return p, nil
}

func (p *partial) close() { p.file.Close() }

// room is how many bytes may still come.
func (p *partial) room() int64 { return p.want.Max - p.done }

// add takes the next bytes.
func (p *partial) add(b []byte) error {
	n, err := p.file.WriteAt(b, p.done)
	p.sum.Write(b[:n])
	p.done += int64(n)
	if err == nil && p.done-p.synced >= syncBytes {
		err = p.file.Sync()
		p.synced = p.done
	}
	if err != nil {
		return fatal{spaceless(err)}
	}
	p.progress(p.done)
	return nil
}

// complete tells whether what is there is the blob.
func (p *partial) complete() bool { return hex.EncodeToString(p.sum.Sum(nil)) == string(p.want.Digest) }

// restart throws away what is there.
func (p *partial) restart() error {
	if err := p.file.Truncate(0); err != nil {
		return fatal{err}
	}
	p.sum.Reset()
	p.done, p.synced = 0, 0
	p.progress(0)
	return nil
}

// wrong throws away what is there, which is not the blob, and says how that is known.
func (p *partial) wrong(format string, args ...any) error {
	if err := p.restart(); err != nil {
		return err
	}
	return fmt.Errorf("%w: %w", errWrong, fmt.Errorf(format, args...))
}

// whole reads the blob, which is complete, as the disk has it.
func (p *partial) whole() ([]byte, error) {
	b := make([]byte, p.done)
	if _, err := p.file.ReadAt(b, 0); err != nil && p.done > 0 {
		return nil, fatal{err}
	}
	if family.DigestOf(b) != p.want.Digest {
		return nil, p.wrong("the disk gives other bytes than it was given")
	}
	return b, nil
}

// settle has the disk keep the blob, which is complete, and reads it back.
func (p *partial) settle() error {
	if err := p.file.Sync(); err != nil {
		return fatal{spaceless(err)}
	}
	p.sum.Reset()
	if _, err := io.Copy(p.sum, io.NewSectionReader(p.file, 0, p.done)); err != nil {
		return fatal{err}
	}
	if !p.complete() {
		return p.wrong("the disk gives other bytes than it was given")
	}
	return nil
}

// spaceless is an error of the disk, as a refusal if that is full.
func spaceless(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return wire.Refuse(wire.NoSpace, "%w: make room on the file system of the state", err)
	}
	return err
}
