package repo

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"
	"github.com/theupdateframework/go-tuf/v2/metadata/trustedmetadata"
)

// rootsMost is how many roots may follow the newest one that is kept, in one walk.
const rootsMost = 256

// rootsDir is the folder of roots of a client.
const rootsDir = "root"

// walk is one way from the root that was given to the targets, over what is kept and
// what a source has.
type walk struct {
	client  *Client
	now     time.Time
	get     func(name string, most int64) ([]byte, error) // below the source; nil: what is kept must do
	trusted *trustedmetadata.TrustedMetadata
	fresh   set   // verified, and not kept yet
	before  int64 // version of the snapshot that the kept timestamp names
}

// all goes all the way, and keeps what it met once it has arrived.
func (w *walk) all() (err error) {
	w.fresh = set{}
	if w.trusted, err = w.client.begin(w.now); err != nil {
		return err
	}
	w.keptRoots()
	if w.get != nil {
		if err := w.roots(); err != nil {
			return err
		}
	}
	if w.trusted.Root.Signed.IsExpired(w.now) {
		return w.refused(Root, &metadata.ErrExpiredMetadata{Msg: "it expired at " + day(w.trusted.Root.Signed.Expires)})
	}
	if err := w.timestamp(); err != nil {
		return err
	}
	if err := w.snapshot(); err != nil {
		return err
	}
	for _, role := range []Role{Targets, Releases, Families} {
		if err := w.targets(role); err != nil {
			return err
		}
	}
	return w.keep()
}

func day(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 MST") }

func rootFile(version int64) string { return fmt.Sprintf("%s/%d.json", rootsDir, version) }

// keptRoots follows the roots that are kept, as far as each is signed by the one before.
func (w *walk) keptRoots() {
	for {
		v := w.trusted.Root.Signed.Version + 1
		b := w.client.local(rootFile(v), maxRoot)
		if b == nil {
			return
		}
		if err := w.root(b); err != nil {
			w.client.log.Warn("a root that was kept is left alone", "version", v, "err", err)
			return
		}
	}
}

// root takes the next root.
func (w *walk) root(b []byte) error {
	if _, err := parse[metadata.RootType](b); err != nil {
		return err
	}
	_, err := w.trusted.UpdateRoot(b)
	return err
}

// roots follows the roots of the source, and keeps each.
func (w *walk) roots() error {
	for range rootsMost {
		v := w.trusted.Root.Signed.Version + 1
		b, err := w.fetch(Root, v, maxRoot)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		} else if err != nil {
			return err
		}
		if err := w.root(b); err != nil {
			return refuse("root %d: %w", v, err)
		}
		if err := w.client.write(rootFile(v), b); err != nil {
			return err
		}
	}
	return refuse("more than %d roots follow the one that is trusted", rootsMost)
}

func (w *walk) fetch(role Role, version, most int64) ([]byte, error) {
	if w.get == nil {
		return nil, errors.New("it is not kept here")
	}
	return w.get(path.Join(metadataDir, fileOf(role, version)), most)
}

// timestamp takes the kept one first, so that none before it counts.
func (w *walk) timestamp() error {
	if b := w.client.local(timestampFile, maxTimestamp); b != nil {
		if m, err := parse[metadata.TimestampType](b); err == nil {
			_, _ = w.trusted.UpdateTimestamp(b) // one of other keys counts for nothing, one that expired for its version
			w.before = m.Signed.Meta[Snapshot+".json"].Version
		}
	}
	if w.get != nil || w.trusted.Timestamp == nil {
		if err := w.newTimestamp(); err != nil {
			return err
		}
	}
	if s := &w.trusted.Timestamp.Signed; s.IsExpired(w.now) {
		return w.refused(Timestamp, &metadata.ErrExpiredMetadata{Msg: "it expired at " + day(s.Expires)})
	}
	return nil
}

func (w *walk) newTimestamp() error {
	b, err := w.fetch(Timestamp, 0, maxTimestamp)
	if err != nil {
		return w.absent(Timestamp, err)
	}
	m, err := parse[metadata.TimestampType](b)
	if err != nil {
		return refuse("timestamp: %w", err)
	}
	kept := w.trusted.Timestamp
	switch _, err := w.trusted.UpdateTimestamp(b); {
	case errors.Is(err, &metadata.ErrEqualVersionNumber{}):
	case errors.Is(err, &metadata.ErrBadVersionNumber{}) && m.Signed.Version < kept.Signed.Version: // and it is signed
		return fmt.Errorf("%w: timestamp: %w", errBehind, err)
	case err != nil:
		return w.refused(Timestamp, err)
	default:
		w.fresh[Timestamp] = b
	}
	return nil
}

// snapshot takes the kept one first, so that no role goes back to a version before its
// own; keys that were taken from it make it count for nothing.
func (w *walk) snapshot() error {
	named := w.trusted.Timestamp.Signed.Meta[Snapshot+".json"]
	if b := w.client.local(fileOf(Snapshot, w.before), maxMetadata); b != nil {
		if _, err := parse[metadata.SnapshotType](b); err == nil {
			if _, err := w.trusted.UpdateSnapshot(b, true); err == nil {
				return nil
			}
		}
	}
	b, err := w.fetch(Snapshot, named.Version, most(Snapshot, named))
	if err != nil {
		return w.absent(Snapshot, err)
	}
	if _, err := parse[metadata.SnapshotType](b); err != nil {
		return refuse("snapshot: %w", err)
	}
	if _, err := w.trusted.UpdateSnapshot(b, false); err != nil {
		return w.refused(Snapshot, err)
	}
	w.fresh[Snapshot] = b
	return nil
}

// most is how many bytes a document has that is named by another.
func most(role Role, m *metadata.MetaFiles) int64 {
	if m.Length > 0 {
		return m.Length
	}
	return maxOf(role)
}

func (w *walk) targets(role Role) error {
	by := Targets
	if role == Targets {
		by = Root
	}
	named := w.trusted.Snapshot.Signed.Meta[role+".json"]
	if b := w.client.local(fileOf(role, named.Version), maxMetadata); b != nil && w.take(role, by, b) == nil {
		return nil
	}
	b, err := w.fetch(role, named.Version, most(role, named))
	if err != nil {
		return w.absent(role, err)
	}
	if err := w.take(role, by, b); err != nil {
		return w.refused(role, err)
	}
	w.fresh[role] = b
	return nil
}

func (w *walk) take(role, by Role, b []byte) error {
	if _, err := parse[metadata.TargetsType](b); err != nil {
		return err
	}
	_, err := w.trusted.UpdateDelegatedTargets(b, role, by)
	return err
}

// absent is an error of the source. Without a document nothing is known of it.
func (w *walk) absent(role Role, err error) error { return fmt.Errorf("%s: %w", role, err) }

// refused says why a document does not count.
func (w *walk) refused(role Role, err error) error {
	var expired *metadata.ErrExpiredMetadata
	if errors.As(err, &expired) {
		return refuse("%s: %w, and it is %s, unless the clock is wrong: `limber firmware repo sign --renew %s` signs it anew",
			role, err, day(w.now), role)
	}
	return refuse("%s: %w", role, err)
}

// keep writes what is new, the timestamp last, and removes what it does not name.
func (w *walk) keep() error {
	for _, role := range []Role{Families, Releases, Targets, Snapshot, Timestamp} {
		if b := w.fresh[role]; b != nil {
			if err := w.client.write(fileOf(role, headOf(b).Signed.Version), b); err != nil {
				return err
			}
		}
	}
	if w.fresh[Timestamp] == nil {
		return nil
	}
	named := map[string]bool{}
	snapshot := &w.trusted.Snapshot.Signed
	named[fileOf(Snapshot, snapshot.Version)] = true
	for _, role := range []Role{Targets, Releases, Families} {
		named[fileOf(role, snapshot.Meta[role+".json"].Version)] = true
	}
	return w.client.prune(named)
}

// write keeps a file.
func (c *Client) write(name string, b []byte) error {
	file := filepath.Join(c.cfg.Dir, name)
	err := makeFolder(filepath.Dir(file), 0o700)
	if err == nil {
		err = writeWhole(file, b, 0o600)
	}
	if err != nil {
		return fatal{fmt.Errorf("keep metadata of updates: %w", err)}
	}
	return nil
}

// fatal is an error that no other source would mend.
type fatal struct{ error }

func (f fatal) Unwrap() error { return f.error }

// prune removes versions that are not named any more.
func (c *Client) prune(named map[string]bool) error {
	entries, err := os.ReadDir(c.cfg.Dir)
	errs := []error{err}
	for _, e := range entries {
		if strings.Count(e.Name(), ".") > 1 && !named[e.Name()] {
			errs = append(errs, os.Remove(filepath.Join(c.cfg.Dir, e.Name())))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fatal{fmt.Errorf("remove old metadata of updates: %w", err)}
	}
	return nil
}
