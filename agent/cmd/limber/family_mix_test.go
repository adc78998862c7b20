package main

import (
	"bytes"
	"errors"
	"log/slog"
	"path/filepath"
	"testing"

	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/family/stock"
	"github.com/limber-edge/limber/store"
)

// A profile of another family, whose members have the same names, lies where the
// device looks for its own.
func TestM6_AProfileOfAnotherFamilyIsNotUsed(t *testing.T) {
	state := filepath.Join(t.TempDir(), "state")
	f, err := stock.Family()
	if err != nil {
		t.Fatal(err)
	}
	f.Name, f.Members = "mine", f.Members[:1]
	says(t, 0, "mine", "family", "install", "--family", mustPack(t, f), "--state", state)
	says(t, 0, f.Members[0].Name, "agent", "--profile", "--state", state)
	says(t, 0, "# profile of 2", "agent", "--check", "--state", state)

	other := f.Family
	other.Name = "theirs"
	mustMoveProfile(t, state, &f.Family, &other)
	f.Family = other
	says(t, 0, "theirs", "family", "install", "--family", mustPack(t, f), "--state", state)
	says(t, 0, "# no profile of this device yet", "agent", "--check", "--state", state)
}

// mustMoveProfile stores one family's profile as that of another.
func mustMoveProfile(t *testing.T, state string, from, to *family.Family) {
	t.Helper()
	st, err := store.Open(state, store.Options{}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	key := func(f *family.Family) store.ProfileKey {
		return store.ProfileKey{Family: string(f.Digest()), Provider: "cpu", Threads: 1}
	}
	profile, err := st.Profile(key(from))
	if err == nil {
		err = st.SetProfile(key(to), bytes.Clone(profile))
	}
	if err = errors.Join(err, st.Close()); err != nil {
		t.Fatal(err)
	}
}
