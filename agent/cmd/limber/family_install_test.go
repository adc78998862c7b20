package main

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/limber-edge/limber/agent/config"
	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/family/stock"
	"github.com/limber-edge/limber/store"
)

func TestADeviceWithTheSupernetTakesASmallFamily(t *testing.T) {
	f, err := stock.Family()
	if err != nil {
		t.Fatal(err)
	}
	f.Name, f.Members = "mine", f.Members[:3]
	var packed bytes.Buffer
	if err := family.Pack(&packed, &f.Family, f, func(d family.Digest) bool { return d == f.Supernet }); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	small, state := filepath.Join(dir, "small.family"), filepath.Join(dir, "state")
	mustWrite(t, small, packed.Bytes())

	says(t, 1, "supernet.pth", "family", "install", "--family", small, "--state", state)
	if got := installed(t, state); got != "cifar10" {
		t.Errorf("after a failed installation the device has family %s, want the stock family", got)
	}
	says(t, 0, "3 members", "family", "install", "--family", small, "--state", state)
	if got := installed(t, state); got != "mine" {
		t.Errorf("the device has family %s, want mine", got)
	}
	says(t, 0, "cifar10", "family", "install", "--state", state)
	if got := installed(t, state); got != "cifar10" {
		t.Errorf("the device has family %s, want the stock family back", got)
	}

	f.Name = "cifar10"
	packed.Reset()
	if err := family.Pack(&packed, &f.Family, f, func(family.Digest) bool { return false }); err != nil {
		t.Fatal(err)
	}
	mustWrite(t, small, packed.Bytes())
	says(t, 1, "choose another", "family", "install", "--family", small, "--state", state)
}

func TestM1_AFamilyWithOtherBytesIsNotInstalledAndTheOneBeforeStays(t *testing.T) {
	f, err := stock.Family()
	if err != nil {
		t.Fatal(err)
	}
	state, all := filepath.Join(t.TempDir(), "state"), f.Members
	f.Name, f.Members = "sound", all[:3]
	sound := mustPack(t, f)
	says(t, 0, "3 members", "family", "install", "--family", sound, "--state", state)

	f.Name, f.Members = "damaged", all[3:]
	damaged := mustPack(t, f)
	b, err := os.ReadFile(damaged)
	if err != nil {
		t.Fatal(err)
	}
	stats, err := f.Blob(all[3].Stats)
	if err != nil {
		t.Fatal(err)
	}
	b[bytes.Index(b, stats)+len(stats)/2] ^= 1
	mustWrite(t, damaged, b)
	says(t, 1, all[3].Stats.Short(), "family", "install", "--family", damaged, "--state", state)
	if got := installed(t, state); got != "sound" {
		t.Errorf("the device has family %s, want the one it had", got)
	}
}

// mustPack writes a whole family to a file.
func mustPack(t *testing.T, f *family.Folder) (path string) {
	t.Helper()
	var packed bytes.Buffer
	if err := family.Pack(&packed, &f.Family, f, func(family.Digest) bool { return false }); err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(t.TempDir(), f.Name+".family")
	mustWrite(t, path, packed.Bytes())
	return path
}

// installed is the family that the next start of a device uses.
func installed(t *testing.T, state string) string {
	t.Helper()
	cfg := config.Default()
	cfg.State = state
	deps, err := openDevice(cfg, store.Options{}, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if err := deps.Close(); err != nil {
		t.Fatal(err)
	}
	return deps.Family.Name
}

func TestS7_NoFamilyForADeviceThatRuns(t *testing.T) {
	d := mustDesk(t)
	says(t, exitLocked, "in use by another process", "family", "install", "--state", d.state)
}
