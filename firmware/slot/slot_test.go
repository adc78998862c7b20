package slot

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

func TestAPhaseThatCannotBeReadGivesWayToCurrent(t *testing.T) {
	for name, tt := range map[string]struct {
		phase   string // none if empty
		current string
		want    Name
		damaged bool
	}{
		"nothing":                  {"", "", Package, false},
		"no phase":                 {"", "b", B, false},
		"empty":                    {" ", "a", A, true},
		"cut off":                  {`{"schema":1,"phase":"tr`, "a", A, true},
		"endless":                  {strings.Repeat(" ", maxPhase+1), "b", B, true},
		"of another schema":        {`{"schema":2}`, "", Package, true},
		"current leads elsewhere":  {"", "/tmp", Package, false},
		"current leads up":         {"", "../a", Package, false},
		"current leads to itself":  {"", "current", Package, false},
		"current leads to nothing": {"", "c", Package, false},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDevice(t)
			d.must(os.MkdirAll(d.slots.dir, 0o700))
			if tt.phase != "" {
				d.mustWrite("phase.json", tt.phase)
			}
			if tt.current != "" {
				d.must(os.Symlink(tt.current, d.slots.path("current")))
			}
			p, err := d.slots.Phase()
			if p.Phase != Idle || p.Slot != tt.want || p.Previous != Package || errors.Is(err, ErrDamaged) != tt.damaged {
				t.Errorf("got %+v, %v; want idle in %s", p, err, tt.want)
			}
			d.runs(tt.want)
			d.must(d.agent.Fetch("2", digestOf("2"), nil)) // and what is recorded next mends it
			d.wants(Fetch, tt.want, Package)
		})
	}
}

func TestAPhaseThatIsAFolderOrALinkIsNotTaken(t *testing.T) {
	d := newDevice(t)
	d.must(os.MkdirAll(d.slots.path("phase.json"), 0o700))
	if p, err := d.slots.Phase(); err == nil || p.Slot != Package {
		t.Errorf("got %+v, %v", p, err)
	}
	d.must(os.Remove(d.slots.path("phase.json")))
	d.must(os.Symlink("/etc/passwd", d.slots.path("phase.json")))
	if p, err := d.slots.Phase(); err == nil || p.Slot != Package {
		t.Errorf("got %+v, %v", p, err)
	}
}

func TestASlotThatIsNotAsItWasStagedIsNotRun(t *testing.T) {
	for name, tt := range map[string]struct {
		spoil func(slot string) error
		says  string
	}{
		"missing": {os.RemoveAll, "no such file"},
		"a file": {func(s string) error {
			return errors.Join(os.RemoveAll(s), os.WriteFile(s, nil, 0o700))
		}, "slot a"},
		"a link":          {linkAway(""), "no folder of its own"},
		"program a link":  {linkAway(Program), "no file"},
		"without program": {func(s string) error { return os.Remove(s + "/limber") }, "limber"},
		"without library": {func(s string) error { return os.RemoveAll(s + "/libonnxruntime.so.1.30.0") }, "libonnx"},
		"without marker":  {func(s string) error { return os.Remove(s + "/release.json") }, "no whole release"},
		"marker damaged":  {func(s string) error { return os.Truncate(s+"/release.json", 40) }, "release.json"},
		"cut off":         {func(s string) error { return os.Truncate(s+"/limber", 3) }, "3 bytes"},
		"no execution":    {func(s string) error { return os.Chmod(s+"/limber", 0o644) }, "mode 0644"},
		"others write":    {func(s string) error { return os.Chmod(s, 0o777) }, "written by others"},
		"another user's":  {func(s string) error { return os.Chown(s+"/limber", 65534, 0) }, "belongs to user 65534"},
		"another's slot":  {func(s string) error { return os.Chown(s, 65534, 0) }, "belongs to user 65534"},
		"another's slots": {func(s string) error { return os.Chown(filepath.Dir(s), 65534, 0) }, "belongs to user 65534"},
		"others' slots":   {func(s string) error { return os.Chmod(filepath.Dir(s), 0o770) }, "written by others"},
		"others' folder":  {func(s string) error { return os.Chmod(s+"/share/doc", 0o703) }, "written by others"},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDevice(t)
			d.staged(sample("2"))
			l := d.slots.Launcher()
			if _, err := l.Program(A); err != nil {
				t.Fatal(err)
			}
			if err := tt.spoil(d.slots.path("a")); errors.Is(err, os.ErrPermission) {
				t.Skip("only root gives a file away")
			} else if err != nil {
				t.Fatal(err)
			}
			if _, err := l.Program(A); err == nil || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("got %v, want it to say %q", err, tt.says)
			}
		})
	}
}

func TestRootReadsWhatAnotherUserRuns(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root gives a file away")
	}
	d := newDevice(t)
	d.staged(sample("2"))
	d.must(filepath.WalkDir(d.slots.dir, func(path string, _ fs.DirEntry, err error) error {
		return errors.Join(err, os.Lchown(path, 65534, 0))
	}))
	if r, err := d.slots.Release(A); r.Version != "2" {
		t.Errorf("whoever asks is told of %+v, %v", r, err)
	}
	if _, err := d.slots.Launcher().Program(A); err == nil {
		t.Error("root runs what another user may write")
	}
}

// linkAway puts a symbolic link in the place of something in a slot.
func linkAway(name string) func(slot string) error {
	return func(slot string) error {
		path := filepath.Join(slot, name)
		return errors.Join(os.Rename(path, slot+".away"), os.Symlink(slot+".away", path))
	}
}

func TestAChildSaysThatItIsAliveAndItsOwnChildrenCannot(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	t.Setenv(EnvSlot, "b")
	t.Setenv(EnvFD, itoa(w.Fd()))
	t.Setenv(EnvState, "/state")
	c := Launched()
	if c == nil || c.Slot != B || c.State != "/state" {
		t.Fatalf("got %+v, want a child in b, and its state", c)
	}
	c.Beat()
	if n, err := r.Read(make([]byte, 9)); n != 1 || err != nil {
		t.Errorf("got %d bytes, %v", n, err)
	}
	for range 100_000 { // nobody reads
		c.Beat()
	}
	if Launched() != nil {
		t.Error("what limber-boot said is still in the environment")
	}
	f, err := os.Create(filepath.Join(t.TempDir(), "f"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, env := range [][2]string{{"b", itoa(f.Fd())}, {"b", "1000000"}, {"c", itoa(w.Fd())}, {"b", "x"}, {"", ""}} {
		t.Setenv(EnvSlot, env[0])
		t.Setenv(EnvFD, env[1])
		if c := Launched(); c != nil {
			t.Errorf("%v: got %+v, want no child", env, c)
		}
	}
	(*Child)(nil).Beat()
}

func itoa(fd uintptr) string { return strconv.Itoa(int(fd)) }
