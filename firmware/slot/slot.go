// Package slot keeps the releases of a device in two folders, and what becomes of the one
// that is new, so that a power cut at any moment leaves a program to start.
//
//	STATE/slots/
//	  a/ b/       a release each: its files by the paths of its manifest, and release.json.
//	              It is written as a.new and renamed when all of it is on the disk
//	  current     symbolic link to a or b, for people and scripts; none: the package's program
//	  phase.json  what is going on: Phase
//
//	idle ─▶ fetch ─▶ stage ─▶ trial ─▶ confirmed
//	                   ▲        ├────▶ rolled-back   the digest is refused
//	                   │        └────▶ rolled-back   for want of a link: provisional,
//	                   │                    │        refused if the old one has a link,
//	                   └─ at most twice ─ undecided  else undecided
//
// The one rule that makes it correct: phase.json is written, whole and through to the disk,
// before what it says is done. So a power cut repeats a step and never skips one, and
// current, which follows phase.json, is of no matter to the launcher while phase.json can
// be read.
//
// There is one writer at a time, and so no lock: a Launcher (limber-boot, see firmware/boot)
// writes only while the program that it started does not run, an Agent (that program) only
// while it runs. The launcher is older than the releases it starts: fields may be added to
// phase.json, which a launcher forgets, but none may change its meaning.
package slot

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// Name names a slot, or the program of the package, which lies in none.
type Name string

// Package is the program that was installed with the launcher: what runs as long as there
// is no release, and the last resort.
const (
	Package Name = "package"
	A       Name = "a"
	B       Name = "b"
)

// other is the slot for the next release when this one runs.
func (n Name) other() Name {
	if n == A {
		return B
	}
	return A
}

// Slots are those of one device. Only whoever made a Launcher or an Agent of them writes.
type Slots struct {
	dir string // STATE/slots
}

// Open returns the slots below a state folder, which need not be there yet.
func Open(state string) *Slots { return &Slots{filepath.Join(state, "slots")} }

func (s *Slots) path(parts ...string) string {
	return filepath.Join(append([]string{s.dir}, parts...)...)
}

// Phase reads phase.json. Whatever the error, which says why it could not be read, the
// phase can be acted on: without phase.json it is idle, in the slot that current names.
func (s *Slots) Phase() (Phase, error) {
	b, err := readFile(s.path("phase.json"), maxPhase)
	if errors.Is(err, fs.ErrNotExist) {
		return s.unknown(), nil
	} else if err != nil {
		return s.unknown(), err
	}
	p, err := Parse(b)
	if err != nil {
		return s.unknown(), fmt.Errorf("%s: %w: %w", s.path("phase.json"), ErrDamaged, err)
	}
	return p, nil
}

// ErrDamaged is in what Phase returns for a file that is none of this package.
var ErrDamaged = errors.New("damaged")

// unknown is the phase where none was recorded.
func (s *Slots) unknown() Phase {
	p := Phase{Schema: schema, Phase: Idle, Slot: Package, Previous: Package}
	switch to, err := os.Readlink(s.path("current")); {
	case err != nil:
	case to == string(A), to == string(B):
		p.Slot = Name(to)
	}
	return p
}

// Release says what lies in a slot. The error names what is wrong with it, and such a slot
// is not to be run: one that is not whole, or that others than root and this user may write.
func (s *Slots) Release(n Name) (Release, error) {
	r, err := s.release(n)
	if err != nil {
		return Release{}, fmt.Errorf("slot %s: %w", n, err)
	}
	return r, nil
}

func (s *Slots) release(n Name) (Release, error) {
	root, err := os.OpenRoot(s.path(string(n)))
	if err != nil {
		return Release{}, err
	}
	defer root.Close()
	b, err := readFile(s.path(string(n), marker), maxRelease)
	if errors.Is(err, fs.ErrNotExist) {
		return Release{}, errors.New("no whole release is in it")
	} else if err != nil {
		return Release{}, err
	}
	r, err := parseRelease(b)
	if err != nil {
		return Release{}, fmt.Errorf("%s: %w", marker, err)
	}
	dir, err := os.Lstat(root.Name())
	if err == nil && !dir.IsDir() {
		err = fmt.Errorf("%s is no folder of its own", root.Name())
	}
	if err == nil {
		err = ours(dir)
	}
	for _, f := range r.Files {
		if err == nil {
			err = f.check(root)
		}
	}
	return r, err
}

// check compares a file in a slot with what was staged, but for its bytes.
func (f File) check(root *os.Root) error {
	info, err := root.Lstat(f.Path)
	switch {
	case err != nil:
		return err
	case !info.Mode().IsRegular():
		return fmt.Errorf("%s is no file", f.Path)
	case info.Size() != f.Bytes:
		return fmt.Errorf("%s has %d bytes, not %d", f.Path, info.Size(), f.Bytes)
	case info.Mode().Perm() != f.Mode:
		return fmt.Errorf("%s has the mode %04o, not %04o", f.Path, info.Mode().Perm(), f.Mode)
	}
	return ours(info)
}

// ours tells whether only root and this user can have written something.
func ours(info fs.FileInfo) error {
	if info.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("%s may be written by others", info.Name())
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if uid := os.Geteuid(); ok && st.Uid != 0 && st.Uid != uint32(uid) {
		return fmt.Errorf("%s belongs to user %d, neither to root nor to this one, %d", info.Name(), st.Uid, uid)
	}
	return nil
}

// Program is the path of the program in a slot, which is whole.
func (s *Slots) Program(n Name) (string, error) {
	if _, err := s.Release(n); err != nil {
		return "", err
	}
	return filepath.Abs(s.path(string(n), Program))
}
