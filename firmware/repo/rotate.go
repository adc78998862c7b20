package repo

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/theupdateframework/go-tuf/v2/metadata"
)

// Rotation changes who signs for a role.
type Rotation struct {
	Role      Role
	Add       []Key    // their public half is enough; with the other they sign at once
	Remove    []string // key ids, or how they begin
	Threshold int      // 0: as before
}

// Rotate changes who signs for a role; its document is signed anew where it would not
// count any more. The keys of root are changed by as many of those before and as many of
// the new ones as sign for it; other roles' by the role above. A role that would have
// fewer keys than signatures is refused, as nobody could sign for it again.
func (r *Repository) Rotate(t Rotation) error {
	if err := CheckRole(t.Role); err != nil {
		return err
	}
	for _, k := range t.Add {
		r.keys = addKey(r.keys, k)
	}
	if t.Role == Releases || t.Role == Families {
		return edit(r, Targets, func(s *metadata.TargetsType) error { return t.delegated(s) })
	}
	return edit(r, Root, func(s *metadata.RootType) error { return t.top(s) })
}

func (t Rotation) top(s *metadata.RootType) error {
	role := s.Roles[t.Role]
	ids, threshold, err := t.apply(role.KeyIDs, role.Threshold)
	if err != nil {
		return err
	}
	role.KeyIDs, role.Threshold = ids, threshold
	putKeys(s.Keys, t.Add)
	for id := range s.Keys {
		used := false
		for _, other := range s.Roles {
			used = used || slices.Contains(other.KeyIDs, id)
		}
		if !used {
			delete(s.Keys, id)
		}
	}
	return nil
}

func (t Rotation) delegated(s *metadata.TargetsType) error {
	if s.Delegations == nil {
		return errors.New("targets delegate nothing")
	}
	d := s.Delegations
	var all []string
	for i := range d.Roles {
		role := &d.Roles[i]
		if role.Name != t.Role {
			if k := slices.IndexFunc(t.Add, func(k Key) bool { return slices.Contains(role.KeyIDs, k.ID) }); k >= 0 {
				return fmt.Errorf("key %s signs for %s: who does may not sign for %s", t.Add[k].File, role.Name, t.Role)
			}
			all = append(all, role.KeyIDs...)
			continue
		}
		ids, threshold, err := t.apply(role.KeyIDs, role.Threshold)
		if err != nil {
			return err
		}
		role.KeyIDs, role.Threshold = ids, threshold
		all = append(all, ids...)
	}
	putKeys(d.Keys, t.Add)
	for id := range d.Keys {
		if !slices.Contains(all, id) {
			delete(d.Keys, id)
		}
	}
	return nil
}

// apply returns the keys of a role after the rotation.
func (t Rotation) apply(ids []string, threshold int) ([]string, int, error) {
	switch {
	case t.Threshold < 0:
		return nil, 0, fmt.Errorf("role %s wants %d signatures: without one nobody signs", t.Role, t.Threshold)
	case t.Threshold > 0:
		threshold = t.Threshold
	}
	ids = slices.Clone(ids)
	for _, id := range t.Remove {
		rest := slices.DeleteFunc(slices.Clone(ids), func(have string) bool { return strings.HasPrefix(have, id) })
		if len(ids)-len(rest) != 1 || len(id) < 8 {
			return nil, 0, fmt.Errorf("role %s has no one key %q, but %s; the first 8 characters will do", t.Role, id,
				strings.Join(ids, ", "))
		}
		ids = rest
	}
	for _, k := range t.Add {
		if slices.Contains(ids, k.ID) {
			return nil, 0, fmt.Errorf("key %s signs for %s already", k.File, t.Role)
		}
		ids = append(ids, k.ID)
	}
	slices.Sort(ids)
	if len(ids) < threshold {
		return nil, 0, fmt.Errorf("role %s would have %d keys for %d signatures: nobody could sign for it any more; add a "+
			"key, or lower the threshold", t.Role, len(ids), threshold)
	}
	return ids, threshold, nil
}
