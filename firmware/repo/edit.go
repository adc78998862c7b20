package repo

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/limber-edge/limber/family"
	"github.com/theupdateframework/go-tuf/v2/metadata"
)

// Repository edits a folder. What is edited becomes visible with Publish.
type Repository struct {
	dir       string
	keys      []Key
	now       time.Time // whole seconds of UTC, as documents have them
	lifetime  map[Role]time.Duration
	published set
	staged    set
	renewed   map[Role]bool // Snapshot, Timestamp: to be made anew
	overtaken []Role        // of which something waited in a version that is visible with other content
}

// settings are repo.json.
type settings struct {
	Schema  int            `json:"schema"`
	Expires map[Role]int64 `json:"expires_s"` // seconds that a role's documents are good for
}

const settingsFile = "repo.json"

// Setup is how a repository begins.
type Setup struct {
	Thresholds map[Role]int           // signatures that a role wants; 1 where nothing is said
	Lifetimes  map[Role]time.Duration // how long its documents are good for
}

// Init begins a repository in a folder with none: each role gets the keys of its name.
func Init(dir string, keys []Key, s Setup, now time.Time) (*Repository, error) {
	if isThere(dir) {
		return nil, fmt.Errorf("repository %s is there already", dir)
	}
	r := &Repository{dir: dir, keys: keys, now: now.UTC().Truncate(time.Second), lifetime: lifetimes(), published: set{},
		staged: set{}, renewed: map[Role]bool{}}
	maps.Copy(r.lifetime, s.Lifetimes)
	if err := r.begin(s.Thresholds); err != nil {
		return nil, err
	}
	if err := makeFolder(filepath.Join(dir, metadataDir), 0o755); err != nil {
		return nil, err
	}
	if err := r.saveStaged(); err != nil {
		return nil, err
	}
	return r, r.saveSettings() // last: with it there is a repository
}

// begin stages the first version of the documents that people sign.
func (r *Repository) begin(thresholds map[Role]int) error {
	root, targets := metadata.Root(r.expiry(Root)), metadata.Targets(r.expiry(Targets))
	targets.Signed.Delegations = &metadata.Delegations{Keys: map[string]*metadata.Key{}}
	var errs []error
	for _, role := range Roles() {
		threshold, said := thresholds[role]
		if !said {
			threshold = 1
		}
		keys, err := r.keysOf(role, threshold)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if role == Releases || role == Families {
			d := targets.Signed.Delegations
			d.Roles = append(d.Roles, metadata.DelegatedRole{Name: role, Paths: pathsOf(role), Terminating: true,
				KeyIDs: idsOf(keys), Threshold: threshold})
			putKeys(d.Keys, keys)
			continue
		}
		root.Signed.Roles[role] = &metadata.Role{KeyIDs: idsOf(keys), Threshold: threshold}
		putKeys(root.Signed.Keys, keys)
	}
	errs = append(errs, r.stage(Root, root), r.stage(Targets, targets))
	for _, role := range []Role{Releases, Families} {
		errs = append(errs, r.stage(role, metadata.Targets(r.expiry(role))))
	}
	return errors.Join(errs...)
}

// keysOf are the keys with a role's name, of which so many must sign.
func (r *Repository) keysOf(role Role, threshold int) (keys []Key, err error) {
	for _, k := range r.keys {
		if k.Role == role {
			keys = append(keys, k)
		}
	}
	switch {
	case threshold < 1:
		return nil, fmt.Errorf("role %s wants %d signatures: without one nobody signs", role, threshold)
	case len(keys) < threshold:
		return nil, fmt.Errorf("role %s has %d of the %d keys that must sign: make one with `limber firmware keygen "+
			"--role %s --out KEYS/%s-NAME.pem`", role, len(keys), threshold, role, role)
	}
	return keys, nil
}

func idsOf(keys []Key) (ids []string) {
	for _, k := range keys {
		ids = append(ids, k.ID)
	}
	slices.Sort(ids)
	return ids
}

func putKeys(in map[string]*metadata.Key, keys []Key) {
	for _, k := range keys {
		in[k.ID] = k.public
	}
}

// isThere tells whether a folder is a repository. A copy of what a web server has lacks the
// settings: it is one nevertheless, whose versions devices have seen.
func isThere(dir string) bool {
	_, settings := os.Stat(filepath.Join(dir, settingsFile))
	_, root := os.Stat(filepath.Join(dir, metadataDir, fileOf(Root, 1)))
	return settings == nil || root == nil
}

// Open reads a repository, for those who have some of its keys or none.
func Open(dir string, keys []Key, now time.Time) (*Repository, error) {
	r := &Repository{dir: dir, keys: keys, now: now.UTC().Truncate(time.Second), lifetime: lifetimes(),
		renewed: map[Role]bool{}}
	if !isThere(dir) {
		return nil, fmt.Errorf("there is no repository in %s: `limber firmware repo init` begins one", dir)
	}
	err := r.readSettings()
	if err == nil {
		r.published, err = readPublished(dir)
	}
	if err == nil {
		r.staged, err = readStaged(dir)
	}
	if err == nil {
		err = r.trusted()
	}
	r.giveUp()
	if err != nil {
		return nil, fmt.Errorf("repository %s: %w", dir, err)
	}
	return r, nil
}

// readSettings leaves the lifetimes as Init has them where nothing is said.
func (r *Repository) readSettings() error {
	b, err := readFile(filepath.Join(r.dir, settingsFile), maxTimestamp)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var s settings
	if err == nil {
		err = json.Unmarshal(b, &s)
	}
	if err != nil {
		return fmt.Errorf("%s: %w; remove it, and say with --expires what was other than by default", settingsFile, err)
	}
	for role, seconds := range s.Expires {
		r.lifetime[role] = time.Duration(seconds) * time.Second
	}
	return nil
}

// trusted says why what is visible is not as it was signed: whoever edits signs all that
// a document says, not only what is new in it. What was cut while it became visible goes
// on with the next Publish.
func (r *Repository) trusted() error {
	newest := headOf(r.published[Root]).Signed.Version
	before := set{}
	for v := int64(1); v <= newest; v++ {
		next := set{}
		if err := next.load(filepath.Join(r.dir, metadataDir), Root, v); err != nil {
			return err
		}
		if v == 1 {
			before = next
		}
		if err := errors.Join(before.verify(Root, next[Root]), next.verify(Root, next[Root])); err != nil {
			return fmt.Errorf("root %d is not signed by those before it: %w", v, err)
		}
		before = next
	}
	if newest == 0 || r.complete(r.published) {
		return nil
	}
	if next := r.all(); r.complete(next) { // it was cut while that became visible
		r.published = next
		return nil
	}
	return errors.New("what it serves is not signed as it must be: take it from where you trust it")
}

// giveUp drops what waits in a version that is visible: a version never has two contents.
func (r *Repository) giveUp() {
	for _, role := range Roles() {
		b := r.staged[role]
		if b == nil || headOf(b).Signed.Version >= r.next(role) {
			continue
		}
		delete(r.staged, role)
		if role != Snapshot && role != Timestamp && !bytes.Equal(b, r.published[role]) {
			r.overtaken = append(r.overtaken, role)
		}
	}
}

func (r *Repository) saveSettings() error {
	s := settings{Schema: 1, Expires: map[Role]int64{}}
	for role, d := range r.lifetime {
		s.Expires[role] = int64(d / time.Second)
	}
	b, err := json.Marshal(s)
	if err != nil {
		return err
	}
	return writeWhole(filepath.Join(r.dir, settingsFile), append(b, '\n'), 0o644)
}

// SetLifetimes has documents made from now on be good for as long.
func (r *Repository) SetLifetimes(by map[Role]time.Duration) error {
	if len(by) == 0 {
		return nil
	}
	maps.Copy(r.lifetime, by)
	return r.saveSettings()
}

func (r *Repository) expiry(role Role) time.Time { return r.now.Add(r.lifetime[role]) }

// stage keeps a document that nobody has signed. It is written by Publish.
func (r *Repository) stage(role Role, m interface {
	ToBytes(pretty bool) ([]byte, error)
}) (err error) {
	r.staged[role], err = m.ToBytes(false)
	return err
}

// edit changes the newest version of a role's document. One that waits already stays of
// its version, and loses its signatures.
func edit[T metadata.Roles](r *Repository, role Role, change func(*T) error) error {
	from := r.published
	if r.staged[role] != nil {
		from = r.staged
	}
	m, err := read[T](from, role)
	if err != nil {
		return err
	}
	if err := change(&m.Signed); err != nil {
		return err
	}
	switch s := any(&m.Signed).(type) {
	case *metadata.RootType:
		s.Expires, s.Version = r.expiry(role), r.next(role)
	case *metadata.TargetsType:
		s.Expires, s.Version = r.expiry(role), r.next(role)
	}
	m.ClearSignatures()
	return r.stage(role, m)
}

// next is the version that follows what is visible.
func (r *Repository) next(role Role) int64 { return headOf(r.published[role]).Signed.Version + 1 }

// AddRelease adds a release whose blobs are there; see Pack. A release that is there
// already must be withdrawn first.
func (r *Repository) AddRelease(m *Manifest) error {
	if err := m.Validate(); err != nil {
		return fmt.Errorf("release %s: %w", m.Version, err)
	}
	for _, f := range m.Files {
		info, err := os.Stat(r.blobFile(f.Digest))
		if err != nil || info.Size() != f.Bytes {
			return fmt.Errorf("release %s: the blob of %s is not in the repository", m.Version, f.Path)
		}
	}
	return r.addTarget(Releases, releaseTarget(m.Version, m.Arch), m.Compact())
}

// AddFamily adds a family, of which the manifest alone is kept here: its other blobs come
// to devices as those of any family.
func (r *Repository) AddFamily(f *family.Family) error {
	return r.addTarget(Families, familyTarget(f.Digest()), f.Compact())
}

func (r *Repository) addTarget(role Role, name string, b []byte) error {
	t, err := metadata.TargetFile().FromBytes(name, b)
	if err != nil {
		return err
	}
	err = edit(r, role, func(s *metadata.TargetsType) error {
		if old := s.Targets[name]; old != nil && !old.Equal(*t) {
			return fmt.Errorf("%s is there already with other bytes: withdraw it first, or give the release another version",
				name)
		}
		s.Targets[name] = t
		return nil
	})
	if err != nil {
		return err
	}
	d := family.DigestOf(b)
	for _, file := range []string{filepath.Join(r.dir, consistent(name, d)), r.blobFile(d)} {
		if err := makeFolder(filepath.Dir(file), 0o755); err != nil {
			return err
		}
		if err := writeWhole(file, b, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// WithdrawRelease has devices not take a version any more; an empty arch is every one.
// Its files stay.
func (r *Repository) WithdrawRelease(version, arch string) error {
	return r.withdraw(Releases, func(name string) bool {
		return name == releaseTarget(version, arch) || arch == "" && strings.HasPrefix(name, "release/"+version+"/")
	})
}

// WithdrawFamily has devices not take a family any more.
func (r *Repository) WithdrawFamily(d family.Digest) error {
	return r.withdraw(Families, func(name string) bool { return name == familyTarget(d) })
}

func (r *Repository) withdraw(role Role, is func(name string) bool) error {
	return edit(r, role, func(s *metadata.TargetsType) error {
		before := len(s.Targets)
		maps.DeleteFunc(s.Targets, func(name string, _ *metadata.TargetFiles) bool { return is(name) })
		if len(s.Targets) == before {
			return errors.New("there is nothing of that name; `limber firmware repo status` lists what there is")
		}
		return nil
	})
}

// Signs tells whether a key at hand signs for a role, now or once what waits is visible.
func (r *Repository) Signs(role Role) bool { return len(r.keysFor(role, r.published, r.all())) > 0 }

// Renew has documents be made and signed anew, with a new expiry.
func (r *Repository) Renew(roles ...Role) error {
	var errs []error
	for _, role := range roles {
		switch role {
		case Snapshot, Timestamp:
			r.renewed[role] = true
		case Root:
			errs = append(errs, edit(r, role, func(*metadata.RootType) error { return nil }))
		default:
			errs = append(errs, edit(r, role, func(*metadata.TargetsType) error { return nil }))
		}
	}
	return errors.Join(errs...)
}
