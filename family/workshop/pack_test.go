package workshop

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/family/familytest"
	"github.com/limber-edge/limber/family/resident"
)

func TestAPackedFamilyIsVerifiedBlobByBlobAndMemberByMember(t *testing.T) {
	shop, h := mustShop(t)
	f, dir := familytest.Stock(t), t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	members := 0
	h.told = func(what string, done, of int) { members = of }
	if err := Pack(in("whole.family"), &f.Family, f, whole); err != nil {
		t.Fatal(err)
	}
	if err := shop.Verify(t.Context(), mustOpen(t, in("whole.family"))); err != nil || members != len(f.Members) {
		t.Errorf("got %v of %d members", err, members)
	}
	if err := Pack(in("small.family"), &f.Family, f, func(d family.Digest) bool { return d == f.Supernet }); err != nil {
		t.Fatal(err)
	}
	wantError(t, shop.Verify(t.Context(), mustOpen(t, in("small.family"))), "supernet.pth")
	familytest.Foreign(t, in("wrong.family"), resident.Canary(Noise(3*24*24), make([]float32, 10)),
		familytest.Model(t, "Identity"))
	wantError(t, shop.Verify(t.Context(), mustOpen(t, in("wrong.family"))), "member a: canary")
	stopped, cancel := context.WithCancel(t.Context())
	cancel()
	if err := shop.Verify(stopped, f); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v of a verification that was stopped", err)
	}
}

func TestAPackThatFailsLeavesTheFileThatWasThere(t *testing.T) {
	f, path := familytest.Stock(t), filepath.Join(t.TempDir(), "f.family")
	familytest.Write(t, path, []byte("before"))
	wantError(t, Pack(path, &f.Family, family.MemoryBlobs{}, whole), "pack family "+f.Name, f.Supernet.Short())
	if got := familytest.Read(t, path); string(got) != "before" {
		t.Errorf("got %d other bytes", len(got))
	}
	if left, err := os.ReadDir(filepath.Dir(path)); err != nil || len(left) != 1 {
		t.Errorf("got files %v, %v; want one", left, err)
	}
}
