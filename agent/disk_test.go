package agent_test

import (
	"fmt"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/limber-edge/limber/agent/wire"
)

// disk is a file system of its own, which can be made larger.
type disk struct {
	tb  testing.TB
	dir string
}

func mustDisk(tb testing.TB, mib int) disk {
	tb.Helper()
	d := disk{tb, tb.TempDir()}
	if err := syscall.Mount("none", d.dir, "tmpfs", 0, d.size(mib)); err != nil {
		tb.Skipf("a disk of a test's own takes root: %v", err)
	}
	tb.Cleanup(func() { syscall.Unmount(d.dir, syscall.MNT_DETACH) })
	return d
}

func (d disk) size(mib int) string { return fmt.Sprintf("size=%dm", mib) }

func (d disk) grow(mib int) { d.remount(0, mib) }

func (d disk) remount(flags uintptr, mib int) {
	d.tb.Helper()
	if err := syscall.Mount("none", d.dir, "tmpfs", syscall.MS_REMOUNT|flags, d.size(mib)); err != nil {
		d.tb.Fatal(err)
	}
}

func TestS5_AReadOnlyStateFolderIsToldAndJobsAreAnswered(t *testing.T) {
	t.Parallel()
	d, addr := mustDisk(t, 20), serve(t)
	d.remount(syscall.MS_RDONLY, 20)
	cfg := newConfig(t, addr)
	cfg.State = filepath.Join(d.dir, "state")
	o := operate(t, addr)
	start(t, cfg, rig{})
	o.tells(cfg, wire.EventFault, "limber.db is in memory only")
	o.publish(self(cfg).Job("first"), job(t, patient, pngFrame(t, 0)))
	if r := o.result(cfg, "first", 1); r.Status != wire.OK {
		t.Errorf("got %+v, want an answer", r)
	}
	o.tells(cfg, wire.EventFault, "outbox.db is in memory only")
	d.remount(0, 20) // so that it ends without an error
}
