package repo

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/bits"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/theupdateframework/go-tuf/v2/metadata"
)

// Waiting is a document that lacks signatures.
type Waiting struct {
	Role    Role   `json:"role"`
	Version int64  `json:"version"`
	Why     string `json:"why"`
}

// Published is what Publish did.
type Published struct {
	Visible   []Role    // with a new version, in the order of Roles
	Waiting   []Waiting // for signatures
	Overtaken []Role    // of which an edit was given up: the same version is visible with another one
}

// Publish signs what waits with the keys at hand, makes visible what a device would take,
// and keeps the rest for others to sign.
func (r *Repository) Publish() (Published, error) {
	anew, err := r.stageAnew()
	if err == nil {
		err = r.signStaged(anew)
	}
	if err != nil {
		return Published{}, err
	}
	next := r.choose()
	err = r.derive(next)
	if err == nil {
		err = r.saveStaged() // from which a cut goes on
	}
	if err != nil {
		return Published{}, err
	}
	done := Published{Overtaken: r.overtaken}
	if r.complete(next) {
		if done.Visible, err = r.show(next); err != nil {
			return Published{}, fmt.Errorf("repository %s: %w", r.dir, err)
		}
		if _, err = r.stageAnew(); err != nil {
			return Published{}, err
		}
	}
	done.Waiting = r.Waiting()
	return done, r.saveStaged()
}

// stageAnew stages documents that would not count any more if all that waits were
// visible, so that those can sign them who may then, and returns their roles.
func (r *Repository) stageAnew() (roles []Role, err error) {
	for _, role := range []Role{Targets, Releases, Families} {
		visible := r.published[role]
		if r.staged[role] != nil || visible == nil || r.all().verify(role, visible) == nil {
			continue
		}
		if err := r.Renew(role); err != nil {
			return nil, err
		}
		roles = append(roles, role)
	}
	return roles, nil
}

// signStaged signs what people edit with the keys that what waits names for it, or what
// is visible: not those of the roles that were staged anew for having others.
func (r *Repository) signStaged(anew []Role) error {
	for role, b := range r.staged {
		if role == Snapshot || role == Timestamp {
			continue
		}
		by := []set{r.all()}
		if !slices.Contains(anew, role) {
			by = append(by, r.published)
		}
		signed, err := sign(role, b, r.keysFor(role, by...))
		if err != nil {
			return err
		}
		r.staged[role] = signed
	}
	return nil
}

// all is what would be visible if all that waits were.
func (r *Repository) all() set {
	return r.published.with(r.staged, slices.Collect(maps.Keys(r.staged))...)
}

// keysFor are the keys at hand that one of some sets names for a role.
func (r *Repository) keysFor(role Role, sets ...set) (keys []Key) {
	var ids []string
	for _, s := range sets {
		of, _ := s.signers(role)
		ids = append(ids, of...)
	}
	for _, k := range r.keys {
		if k.Private() && slices.Contains(ids, k.ID) {
			keys = append(keys, k)
		}
	}
	return keys
}

// choose is what is visible, with as much of what waits as a device would take.
func (r *Repository) choose() set {
	var roles []Role
	for _, role := range []Role{Root, Targets, Releases, Families} {
		if r.staged[role] != nil {
			roles = append(roles, role)
		}
	}
	best, most := r.published, -1
	for chosen := range 1 << len(roles) {
		s := r.published.with(r.staged, pick(roles, chosen)...)
		if n := bits.OnesCount(uint(chosen)); n > most && s.holds(r.published) == nil {
			best, most = s, n
		}
	}
	return maps.Clone(best)
}

// pick are the roles whose bits are set.
func pick(roles []Role, chosen int) (some []Role) {
	for i, role := range roles {
		if chosen&(1<<i) != 0 {
			some = append(some, role)
		}
	}
	return some
}

// derive puts a snapshot and a timestamp into a set that fit it: those that are visible,
// those that wait, or new ones, signed with the keys at hand.
func (r *Repository) derive(s set) error {
	if s.holds(r.published) != nil {
		return nil // nothing of it can be visible
	}
	snapshot := metadata.Snapshot(r.expiry(Snapshot))
	snapshot.Signed.Version = r.next(Snapshot)
	snapshot.Signed.Meta = map[string]*metadata.MetaFiles{}
	for _, role := range []Role{Targets, Releases, Families} {
		snapshot.Signed.Meta[role+".json"] = metaOf(s[role])
	}
	if err := fit(r, s, Snapshot, snapshot, func(m *metadata.SnapshotType) metas { return m.Meta }); err != nil {
		return err
	}
	if s.verify(Snapshot, s[Snapshot]) != nil {
		delete(r.staged, Timestamp) // the snapshot will have another digest
		return nil
	}
	timestamp := metadata.Timestamp(r.expiry(Timestamp))
	timestamp.Signed.Version = r.next(Timestamp)
	timestamp.Signed.Meta = map[string]*metadata.MetaFiles{Snapshot + ".json": metaOf(s[Snapshot])}
	return fit(r, s, Timestamp, timestamp, func(m *metadata.TimestampType) metas { return m.Meta })
}

type metas = map[string]*metadata.MetaFiles

// fit puts into a set what there is of a role that names what fresh does, or else fresh.
func fit[T metadata.Roles](r *Repository, s set, role Role, fresh *metadata.Metadata[T], metaOf func(*T) metas) error {
	says := func(b []byte) bool {
		m, err := parse[T](b)
		return err == nil && sameMeta(metaOf(&m.Signed), metaOf(&fresh.Signed))
	}
	if b := r.published[role]; b != nil && !r.renewed[role] && says(b) && s.verify(role, b) == nil {
		s[role] = b
		delete(r.staged, role)
		return nil
	}
	b := r.staged[role]
	if b == nil || r.renewed[role] || !says(b) {
		var err error
		if b, err = fresh.ToBytes(false); err != nil {
			return err
		}
	}
	b, err := sign(role, b, r.keysFor(role, s))
	r.staged[role], s[role] = b, b
	return err
}

func sameMeta(a, b metas) bool {
	return maps.EqualFunc(a, b, func(x, y *metadata.MetaFiles) bool {
		return x.Version == y.Version && x.Length == y.Length && x.Hashes.Equal(y.Hashes)
	})
}

// complete tells whether a device would take the set.
func (r *Repository) complete(s set) bool {
	return errors.Join(s.holds(r.published), s.verify(Snapshot, s[Snapshot]), s.verify(Timestamp, s[Timestamp])) == nil
}

// show writes what is new of a set, the timestamp last.
func (r *Repository) show(s set) (roles []Role, err error) {
	for _, role := range Roles() {
		if bytes.Equal(s[role], r.staged[role]) {
			delete(r.staged, role)
		}
		file := filepath.Join(r.dir, metadataDir, fileOf(role, headOf(s[role]).Signed.Version))
		if there, err := readFile(file, maxOf(role)); err == nil && bytes.Equal(there, s[role]) {
			continue
		}
		if err := writeWhole(file, s[role], 0o644); err != nil {
			return nil, err
		}
		roles = append(roles, role)
	}
	r.published, r.renewed = s, map[Role]bool{}
	return roles, nil
}

// saveStaged writes what waits, and removes what does not wait any more.
func (r *Repository) saveStaged() error {
	if len(r.staged) > 0 { // a copy of what is served has none
		if err := makeFolder(filepath.Join(r.dir, stagedDir), 0o755); err != nil {
			return fmt.Errorf("repository %s: %w", r.dir, err)
		}
	}
	for _, role := range Roles() {
		file := filepath.Join(r.dir, stagedDir, role+".json")
		var err error
		if b := r.staged[role]; b != nil {
			err = writeWhole(file, b, 0o644)
		} else if err = os.Remove(file); errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		if err != nil {
			return fmt.Errorf("repository %s: %w", r.dir, err)
		}
	}
	return nil
}

// Waiting says what lacks signatures, and what for.
func (r *Repository) Waiting() (all []Waiting) {
	next := r.all()
	for _, role := range Roles() {
		if b := r.staged[role]; b != nil {
			all = append(all, Waiting{role, headOf(b).Signed.Version, r.lacks(role, b, next)})
		}
	}
	return all
}

// lacks says what a document waits for.
func (r *Repository) lacks(role Role, b []byte, next set) string {
	by := []set{next}
	if role == Root { // whose forerunner signs as well
		by = []set{r.published, next}
	}
	var lack []string
	for _, s := range by {
		ids, threshold := s.signers(role)
		if have := signatures(b, ids); have < threshold {
			lack = append(lack, fmt.Sprintf("%d of %d signatures by %s", have, threshold, short(ids)))
		}
	}
	if lack = slices.Compact(lack); len(lack) > 0 {
		return "it has " + strings.Join(lack, ", and ")
	}
	return "it is signed, and waits for the others"
}

// signatures counts the keys that signed.
func signatures(b []byte, ids []string) (n int) {
	for _, s := range headOf(b).Signatures {
		if slices.Contains(ids, s.KeyID) {
			n++
		}
	}
	return n
}

// short are key ids as people tell them apart.
func short(ids []string) string {
	var all []string
	for _, id := range ids {
		all = append(all, id[:min(8, len(id))])
	}
	return strings.Join(all, ", ")
}
