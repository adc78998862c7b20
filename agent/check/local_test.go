package check_test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent/check"
	"github.com/limber-edge/limber/family/ort"
	"github.com/limber-edge/limber/family/ort/orttest"
	"github.com/limber-edge/limber/firmware/power"
	"github.com/limber-edge/limber/firmware/slot"
)

func mustWrite(tb testing.TB, path, text string) {
	tb.Helper()
	err := os.MkdirAll(filepath.Dir(path), 0o700)
	if err == nil {
		err = os.WriteFile(path, []byte(text), 0o700)
	}
	if err != nil {
		tb.Fatal(err)
	}
}

func TestTheLibraryIsLoadedAndAskedForProviders(t *testing.T) {
	path := orttest.Path(t)
	t.Setenv("ONNXRUNTIME_LIB", path)
	expect(t, check.Runtime{}.Run(t.Context()), true, check.Error, path)
	expect(t, check.Providers{Names: []string{ort.CPU}}.Run(t.Context()), true, check.Warning, "cpu")
	expect(t, check.Providers{Names: []string{ort.CUDA, ort.CPU}}.Run(t.Context()), false, check.Warning, ort.CUDA)

	t.Setenv("ONNXRUNTIME_LIB", filepath.Join(t.TempDir(), "none.so"))
	expect(t, check.Runtime{}.Run(t.Context()), false, check.Error, "-> set ONNXRUNTIME_LIB to libonnxruntime.so")
	expect(t, check.Providers{Names: []string{ort.CPU}}.Run(t.Context()), false, check.Warning, "as for runtime")
}

func TestAClockBehindTheProgramIsAnError(t *testing.T) {
	ahead := check.Clock{Built: time.Now().Add(time.Hour)}
	expect(t, ahead.Run(t.Context()), false, check.Error, "before this program was built")
	if f := (check.Clock{Built: time.Now().Add(-time.Hour)}).Run(t.Context()); !f.OK && f.Level != check.Warning {
		t.Errorf("got %+v, want at most a warning of a clock that may be right", f)
	}
}

func TestAFolderIsTriedAndLeftAsItWas(t *testing.T) {
	dir := t.TempDir()
	expect(t, check.Disk{Folder: dir}.Run(t.Context()), true, check.Error, dir+" can be written")
	expect(t, check.Disk{Folder: filepath.Join(dir, "a", "b")}.Run(t.Context()), true, check.Error, "can be written")
	expect(t, check.Disk{Folder: dir, Free: 1 << 60}.Run(t.Context()), false, check.Warning, "outbox.free_mib")
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("got %v, %v; want nothing left behind", left, err)
	}
	file := filepath.Join(dir, "file")
	mustWrite(t, file, "")
	expect(t, check.Disk{Folder: file}.Run(t.Context()), false, check.Error, "is no folder -> remove it")
	expect(t, check.Disk{Folder: filepath.Join(file, "below")}.Run(t.Context()), false, check.Error, "chown -R limber:")
}

func TestMemoryThatMayBeLockedIsEnoughOrAWarning(t *testing.T) {
	expect(t, check.Memlock{}.Run(t.Context()), true, check.Warning, "may be locked")
	if f := (check.Memlock{Want: 1 << 62}).Run(t.Context()); f.Level != check.Warning {
		t.Errorf("got %+v, want a warning at most", f)
	}
}

func TestAModeThatCannotBeChangedIsAWarningWhereItMay(t *testing.T) {
	board := power.New(t.TempDir())
	expect(t, check.Power{Board: board}.Run(t.Context()), true, check.Warning, "no power modes")
	allowed := check.Power{Board: board, SetMode: true}
	expect(t, allowed.Run(t.Context()), false, check.Warning, "set power.set_mode to false")

	root := t.TempDir()
	cpufreq := filepath.Join(root, "sys/devices/system/cpu/cpu0/cpufreq")
	mustWrite(t, filepath.Join(cpufreq, "cpuinfo_max_freq"), "2000000\n")
	mustWrite(t, filepath.Join(cpufreq, "scaling_max_freq"), "2000000\n")
	allowed.Board = power.New(root)
	if os.Geteuid() != 0 {
		expect(t, allowed.Run(t.Context()), false, check.Warning, "/etc/limber/power.env")
	}
	allowed.Socket = filepath.Join(root, "power.sock")
	mustWrite(t, allowed.Socket, "")
	expect(t, allowed.Run(t.Context()), true, check.Warning, "the helper at "+allowed.Socket)
}

// mustRelease has a device switch to a release.
func mustRelease(tb testing.TB, state string) {
	tb.Helper()
	const program, digest = "#!/bin/sh\n", "sha256:" + "00000000000000000000000000000000000000000000000000000000000000ab"
	sum := sha256.Sum256([]byte(program))
	r := slot.Release{Version: "1.0.0", Digest: digest, Files: []slot.File{{Path: slot.Program,
		Digest: "sha256:" + hex.EncodeToString(sum[:]), Bytes: int64(len(program)), Mode: 0o755}}}
	a := slot.Open(state).Agent(slot.Package)
	err := a.Fetch(r.Version, digest, &slot.Command{ID: "1", Payload: []byte("{}")})
	if err == nil {
		err = a.Stage(tb.Context(), r, func(slot.File) (io.ReadCloser, error) {
			return io.NopCloser(strings.NewReader(program)), nil
		})
	}
	if err == nil {
		err = a.Switch(time.Minute)
	}
	if err != nil {
		tb.Fatal(err)
	}
}

func TestTheSlotInUseIsOneThatCanRun(t *testing.T) {
	state := t.TempDir()
	run := check.Slots{Folder: state}.Run
	expect(t, run(t.Context()), true, check.Error, "the program of the package")
	mustRelease(t, state)
	expect(t, run(t.Context()), true, check.Error, "release 1.0.0 in slot a runs, on trial")
	if err := os.Remove(filepath.Join(state, "slots", "a", "limber")); err != nil {
		t.Fatal(err)
	}
	if f := run(t.Context()); f.OK || (f.Level == check.Error) != (os.Geteuid() != 0) {
		t.Errorf("got %+v of a slot without a program", f)
	}
	phase := filepath.Join(state, "slots", "phase.json")
	mustWrite(t, phase, "{}")
	expect(t, run(t.Context()), false, check.Error, phase)
	if err := os.Symlink("a", filepath.Join(state, "slots", "current")); err != nil {
		t.Fatal(err)
	}
	expect(t, run(t.Context()), false, check.Error, "-> remove it, what runs already, slot a, goes on")
}

func TestWhoHasALockIsTold(t *testing.T) {
	state := t.TempDir()
	run := check.Lock{State: state, Root: "/"}.Run
	expect(t, run(t.Context()), true, check.Warning, "nobody has")
	hold := func(name string) {
		f, err := os.Create(filepath.Join(state, name))
		if err == nil {
			t.Cleanup(func() { f.Close() })
			err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	self := "process " + strconv.Itoa(os.Getpid())
	hold("update.lock")
	expect(t, run(t.Context()), false, check.Warning, self+" holds the update lock")
	hold("limber.db") // it is the agent that updates
	expect(t, run(t.Context()), true, check.Warning, self+", the agent")
}

func TestALineOfWhoWaitsForALockIsNoLock(t *testing.T) {
	state, root := t.TempDir(), t.TempDir()
	path := filepath.Join(state, "limber.db")
	mustWrite(t, path, "")
	var st syscall.Stat_t
	if err := syscall.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	number := strconv.FormatUint(st.Ino, 10)
	mustWrite(t, filepath.Join(root, "proc", "locks"), "1: -> FLOCK  ADVISORY  WRITE 7 00:00:"+number+" 0 EOF\n"+
		"2: POSIX\n\n3: FLOCK  ADVISORY  WRITE 7 ff:ff:"+number+" 0 EOF\n")
	expect(t, check.Lock{State: state, Root: root}.Run(t.Context()), true, check.Warning, "nobody has")
	expect(t, check.Lock{State: state, Root: t.TempDir()}.Run(t.Context()), false, check.Warning, "not known")
}

// FuzzFiles: whatever lies where a certificate or the kernel's list of locks should lie,
// a finding comes of it.
func FuzzFiles(f *testing.F) {
	f.Add([]byte("1: FLOCK  ADVISORY  WRITE 15542 fe:00:806989 0 EOF\n"))
	f.Add(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte{0x30, 0x82}}))
	f.Add([]byte("x FLOCK x x 99999999999999999999 -:g:-1 0\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		root := t.TempDir()
		mustWrite(t, filepath.Join(root, "proc", "locks"), string(text))
		expect(t, check.Lock{State: t.TempDir(), Root: root}.Run(t.Context()), true, check.Warning, "nobody has")
		var c check.Certificate
		c.Broker.CAFile = filepath.Join(root, "proc", "locks")
		if got := c.Run(t.Context()); got.OK || got.Remedy == "" {
			t.Errorf("got %+v, want that it is no certificate", got)
		}
	})
}
