package agent_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/limber-edge/limber/agent"
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

func (d disk) grow(mib int) {
	d.tb.Helper()
	if err := syscall.Mount("none", d.dir, "tmpfs", syscall.MS_REMOUNT, d.size(mib)); err != nil {
		d.tb.Fatal(err)
	}
}

// members waits until the device's capabilities have n members.
func (o *operator) members(cfg agent.Config, fits func(n int) bool, what string) {
	o.tb.Helper()
	o.until(func() bool {
		all := o.matching(self(cfg).Caps())
		return len(all) > 0 && fits(len(decoded[wire.Caps](o.tb, all[len(all)-1]).Members))
	}, "capabilities with %s", what)
}

// refusedForRoom sends jobs and wants all of them refused alike.
func refusedForRoom(t *testing.T, o *operator, cfg agent.Config) {
	t.Helper()
	for i := range 3 {
		id := fmt.Sprintf("full-%d", i)
		o.publish(self(cfg).Job(id), job(t, patient, pngFrame(t, i)))
		if r := o.result(cfg, id, 1); r.Reason != wire.Unsupported || !strings.Contains(r.Detail, "the disk is full") {
			t.Errorf("while the disk is full: got %s %s %q, want refused: unsupported, for want of room", r.Status, r.Reason, r.Detail)
		}
	}
}

func TestS3_MembersThatAFullDiskKeptFromBeingBuiltComeWithoutARestart(t *testing.T) {
	for _, tt := range []struct {
		name string
		mib  int  // of the disk at the start
		none bool // no member has room
	}{{"S3 no member has room", 10, true}, {"S3 some have", 22, false}} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d, addr := mustDisk(t, tt.mib), serve(t)
			cfg := newConfig(t, addr)
			cfg.State = filepath.Join(d.dir, "state")
			o := operate(t, addr)
			start(t, cfg)
			o.presence(cfg, wire.Online, 0)
			if tt.none {
				refusedForRoom(t, o, cfg)
			} else {
				o.members(cfg, func(n int) bool { return n > 0 }, "some members")
			}
			d.grow(200)
			o.members(cfg, func(n int) bool { return n >= 5 }, "all members")
			if s := o.presence(cfg, wire.Online, len(o.matching(self(cfg).State()))-1); s.Detail != "" {
				t.Errorf("got %+v, want a device without a complaint", s)
			}
			if r := decoded[wire.Result](t, answered(t, o, cfg.Device, "frame", job(t, patient, pngFrame(t, 0)))); r.Status != wire.OK {
				t.Errorf("got %+v, want an answer", r)
			}
		})
	}
}

func TestS3_MembersWhoseCacheIsLostOnAFullDiskComeBackWithoutARestart(t *testing.T) {
	t.Parallel()
	d, addr := mustDisk(t, 50), serve(t)
	cfg := newConfig(t, addr)
	state := filepath.Join(d.dir, "state")
	if err := os.CopyFS(state, os.DirFS(cfg.State)); err != nil {
		t.Fatal(err)
	}
	cfg.State = state
	if err := os.RemoveAll(filepath.Join(state, "cache")); err != nil {
		t.Fatal(err)
	}
	filler := filepath.Join(d.dir, "filler")
	if err := os.WriteFile(filler, make([]byte, 50<<20), 0o600); err == nil {
		t.Fatal("the disk has room for the filler")
	}
	if info, err := os.Stat(filler); err != nil {
		t.Fatal(err)
	} else if err := os.Truncate(filler, info.Size()-256<<10); err != nil { // the store goes on
		t.Fatal(err)
	}
	o := operate(t, addr)
	dev := start(t, cfg)
	o.presence(cfg, wire.Online, 0)
	dev.awaitLog("device refuses jobs", 1)
	refusedForRoom(t, o, cfg)
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	dev.awaitLog("member taken back", 6)
	if r := decoded[wire.Result](t, answered(t, o, cfg.Device, "frame", job(t, patient, pngFrame(t, 0)))); r.Status != wire.OK {
		t.Errorf("got %+v, want an answer", r)
	}
}

func TestADeviceThatWaitsForRoomStopsInOrder(t *testing.T) {
	t.Parallel()
	d, addr := mustDisk(t, 10), serve(t)
	cfg := newConfig(t, addr)
	cfg.State = filepath.Join(d.dir, "state")
	o := operate(t, addr)
	dev := start(t, cfg)
	if s := o.presence(cfg, wire.Online, 0); !strings.Contains(s.Detail, "the disk is full") {
		t.Errorf("got %+v, want the reason", s)
	}
	dev.stop()
	o.presence(cfg, wire.Offline, 0)
}
