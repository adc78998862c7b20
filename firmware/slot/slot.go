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
	"path"
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
	dir  string // STATE/slots
	runs bool   // what lies there, as this user
}

// Open returns the slots below a state folder, which need not be there yet, for whoever
// asks what lies there.
func Open(state string) *Slots { return &Slots{dir: filepath.Join(state, "slots")} }

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
// is not to be run: one that is not whole, or that others than root and the user who runs
// it may write.
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
	return r, s.check(root, r)
}

// check compares a slot with what was staged, but for the bytes of its files.
func (s *Slots) check(root *os.Root, r Release) error {
	user, err := s.user()
	if err == nil {
		err = user.owns(os.Stat(s.dir)) // which may be a link to where there is room
	}
	if err == nil {
		err = user.owns(os.Lstat(root.Name()))
	}
	for _, f := range r.Files {
		if err == nil {
			err = user.check(root, f)
		}
	}
	return err
}

// user is who runs what lies in slots.
type user uint32

// user is this one, or else whose folder it is.
func (s *Slots) user() (user, error) {
	if s.runs {
		return user(os.Geteuid()), nil
	}
	info, err := os.Stat(s.dir)
	if err != nil {
		return 0, err
	}
	st, _ := info.Sys().(*syscall.Stat_t)
	return user(st.Uid), nil
}

func (u user) check(root *os.Root, f File) error {
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
	err = u.alone(info)
	for dir := path.Dir(f.Path); dir != "." && err == nil; dir = path.Dir(dir) {
		err = u.owns(root.Lstat(dir))
	}
	return err
}

// owns wants a folder in which only root and the user can have put something.
func (u user) owns(info fs.FileInfo, err error) error {
	switch {
	case err != nil:
		return err
	case !info.IsDir():
		return fmt.Errorf("%s is no folder of its own", info.Name())
	}
	return u.alone(info)
}

// alone wants something that only root and the user can have written.
func (u user) alone(info fs.FileInfo) error {
	if info.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("%s may be written by others; chmod go-w takes that from them", info.Name())
	}
	if st, _ := info.Sys().(*syscall.Stat_t); st.Uid != 0 && st.Uid != uint32(u) {
		return fmt.Errorf("%s belongs to user %d, neither to root nor to user %d, who runs it", info.Name(), st.Uid, u)
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
