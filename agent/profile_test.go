package agent_test

import (
	"encoding/json"

	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/store"
)

// editProfile changes a family's profile on one thread, and keeps it as that of
// the family which it then names.
func editProfile(st *store.Store, provider string, of family.Digest, edit func(*family.Profile)) error {
	key := func(d family.Digest) store.ProfileKey {
		return store.ProfileKey{Family: string(d), Provider: provider, Threads: 1}
	}
	b, err := st.Profile(key(of))
	if err != nil {
		return err
	}
	var p family.Profile
	if err := json.Unmarshal(b, &p); err != nil {
		return err
	}
	edit(&p)
	if b, err = json.Marshal(p); err != nil {
		return err
	}
	return st.SetProfile(key(p.Family), b)
}
