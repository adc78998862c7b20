package main

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// mustDisk mounts a file system of its own for a test, which takes root.
func mustDisk(t *testing.T, options string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	if err := syscall.Mount("none", dir, "tmpfs", 0, options); err != nil {
		t.Skipf("a disk of a test's own takes root: %v", err)
	}
	t.Cleanup(func() { syscall.Unmount(dir, syscall.MNT_DETACH) })
	return dir
}

func mustRemount(t *testing.T, dir string, flags uintptr, options string) {
	t.Helper()
	if err := syscall.Mount("none", dir, "tmpfs", syscall.MS_REMOUNT|flags, options); err != nil {
		t.Fatal(err)
	}
}

// does has the operator do something about the device.
func (d *desk) does(t *testing.T, args ...string) {
	t.Helper()
	if out, errs, code := d.limber(t, args...); code != exitDone {
		t.Errorf("%v: exit %d, %q, %q; want 0", args, code, out, errs)
	}
}

func TestS3_S5_ADeviceWhoseStateFolderCannotBeUsedServesAndKeepsWhatItLearnsLater(t *testing.T) {
	for _, tt := range []struct {
		name    string
		options string
		spoil   func(t *testing.T, dir string)
		mend    func(t *testing.T, dir string)
	}{
		{"S5 nothing there, read-only", "size=200m", func(t *testing.T, dir string) {
			mustRemount(t, dir, syscall.MS_RDONLY, "")
		}, func(t *testing.T, dir string) { mustRemount(t, dir, 0, "") }},
		{"S5 a state, read-only", "size=200m", func(t *testing.T, dir string) {
			if err := os.CopyFS(filepath.Join(dir, "state"), os.DirFS(prepared(t))); err != nil {
				t.Fatal(err)
			}
			mustRemount(t, dir, syscall.MS_RDONLY, "")
		}, func(t *testing.T, dir string) { mustRemount(t, dir, 0, "") }},
		{"S3 nothing there, full", "size=1m", func(t *testing.T, dir string) {
			if err := os.WriteFile(filepath.Join(dir, "filler"), make([]byte, 1<<20), 0o600); err == nil {
				os.WriteFile(filepath.Join(dir, "rest"), make([]byte, 1<<20), 0o600) // as much as goes
			}
		}, func(t *testing.T, dir string) { mustRemount(t, dir, 0, "size=200m") }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			disk := mustDisk(t, tt.options)
			tt.spoil(t, disk)
			d := mustDeskOn(t, filepath.Join(disk, "state"))
			d.awaitPrepared(t)
			png, _ := mustFrame(t, 1)
			d.does(t, "publish", "--deadline", "60s", png)
			d.does(t, "fleet", "mode", "desk", "low-latency")
			tt.mend(t, disk)
			d.awaitFile(t, "outbox.db")
			d.awaitFile(t, "limber.db")
			d.stop()
			<-d.ended
			d.ended <- 0
			for _, want := range []string{"is in memory only", "state is on the disk again"} {
				if !strings.Contains(d.log.String(), want) {
					t.Errorf("the log has no %q:\n%s", want, d.log)
				}
			}

			again := mustDeskOn(t, d.state)
			again.awaitPrepared(t)
			if out, _, _ := again.limber(t, "fleet", "ls"); !strings.Contains(out, "low-latency") {
				t.Errorf("after a restart: %q, want the mode low-latency", out)
			}
		})
	}
}

// awaitFile waits until the device has put a file into its state folder.
func (d *desk) awaitFile(t *testing.T, name string) {
	t.Helper()
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	for end := time.After(20 * time.Second); ; {
		if info, err := os.Stat(filepath.Join(d.state, name)); err == nil && info.Size() > 0 {
			return
		}
		select {
		case <-look.C:
		case <-end:
			t.Fatalf("no %s after 20 s", name)
		}
	}
}
