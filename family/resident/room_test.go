package resident_test

import (
	"errors"
	"syscall"
	"testing"

	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/family/ort"
	"github.com/limber-edge/limber/family/ort/orttest"
	"github.com/limber-edge/limber/family/resident"
)

func TestS3_AFullDiskIsToldAndLeavesNothingUntilThereIsRoom(t *testing.T) {
	rt, f, cache := orttest.Open(t), mustStock(t), t.TempDir()
	if err := syscall.Mount("none", cache, "tmpfs", 0, "size=1m"); err != nil {
		t.Skipf("a disk of a test's own takes root: %v", err)
	}
	t.Cleanup(func() { syscall.Unmount(cache, syscall.MNT_DETACH) })
	s := resident.New(rt, &f.Family, f, cache, ort.DefaultOptions(), nil)
	for range 2 {
		if _, err := s.Session(0); !errors.Is(err, family.ErrNoRoom) {
			t.Fatalf("got %v, want %v", err, family.ErrNoRoom)
		}
		if left := mustNames(t, cache); len(left) > 0 {
			t.Errorf("the cache holds %v, want nothing", left)
		}
	}
	if err := syscall.Mount("none", cache, "tmpfs", syscall.MS_REMOUNT, "size=50m"); err != nil {
		t.Fatal(err)
	}
	mustSession(t, s, 0)
}

// What cannot be built although there is room is another matter.
func TestABuildThatFailsWithRoomIsNotForWantOfIt(t *testing.T) {
	rt, f := orttest.Open(t), mustStock(t)
	broken := blobs{Blobs: f, err: errors.New("gone")}
	if _, err := resident.New(rt, &f.Family, broken, t.TempDir(), ort.DefaultOptions(), nil).Session(0); err == nil ||
		errors.Is(err, family.ErrNoRoom) {
		t.Errorf("got %v, want another error than %v", err, family.ErrNoRoom)
	}
}
