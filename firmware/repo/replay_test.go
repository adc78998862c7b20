package repo

import (
	"maps"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/limber-edge/limber/family"
)

// backup is what the repository serves now.
func (d *desk) backup() map[string][]byte {
	d.Helper()
	all := map[string][]byte{}
	entries, err := os.ReadDir(filepath.Join(d.dir, metadataDir))
	if err != nil {
		d.Fatal(err)
	}
	for _, e := range entries {
		name := metadataDir + "/" + e.Name()
		all[name] = d.file(name)
	}
	return all
}

// only has the server give what it gave once, and nothing newer.
func (d *desk) only(files map[string][]byte) {
	now := d.backup()
	for name := range now {
		now[name] = files[name]
	}
	maps.Copy(now, files)
	d.instead(now)
}

func TestM4_WhatWasServedBeforeIsNotTakenAlsoAfterAStart(t *testing.T) {
	d := newDesk(t)
	d.release("1.0.0")
	old := d.backup()
	d.edit(func(r *Repository) error { return r.WithdrawRelease("1.0.0", "") })
	d.release("1.0.1")
	v := d.device()
	v.takes("1.0.1")
	d.only(old)
	v.waits("", "timestamp version 2 must be >= 4")
	v.waits("1.0.0", "")
	v.takes("1.0.1") // what is kept counts
	v.restart()
	v.waits("1.0.0", "timestamp version 2 must be >= 4")
	v.keeps("1.0.1")
	v.clock = today.Add(8 * dayLong)
	v.waits("1.0.1", "") // until it expires
	v.clock = d.now
	d.device().takesOld("1.0.0", old) // to one that never saw the newer it is what there is
}

// takesOld wants a device to take a release by its digest of then.
func (v *device) takesOld(version string, old map[string][]byte) {
	v.Helper()
	m, err := parse[metadata.TargetsType](old["metadata/2.releases.json"])
	if err != nil {
		v.Fatal(err)
	}
	d := m.Signed.Targets[releaseTarget(version, "amd64")].Hashes["sha256"].String()
	if err := v.Signed(v.Context(), version, family.Digest(d)); err != nil {
		v.Errorf("release %s: %v", version, err)
	}
}

// Who has the keys of timestamp and snapshot, and no other, goes back no role.
func TestM4_ARoleGoesBackByNoOtherKey(t *testing.T) {
	t.Parallel()
	for _, role := range []Role{Targets, Releases, Families} {
		d := newDesk(t)
		d.release("1.0.0")
		old := d.file(d.visible(role))
		d.edit(func(r *Repository) error { return r.Renew(role) })
		v := d.device()
		v.takes("1.0.0")
		files := map[string][]byte{}
		d.chain(files, set{role: old})
		d.instead(files)
		v.refuses("", role+".json version")
		v.restart()
		v.refuses("", role+".json version")
		d.chain(files, set{})
		snapshot := forge(d, files["metadata/"+fileOf(Snapshot, headOf(d.published()[Snapshot]).Signed.Version+1)],
			func(s *metadata.SnapshotType) { delete(s.Meta, role+".json") }, Snapshot)
		files["metadata/"+fileOf(Snapshot, headOf(snapshot).Signed.Version)] = snapshot
		files["metadata/timestamp.json"] = forge(d, files["metadata/timestamp.json"], func(s *metadata.TimestampType) {
			s.Meta[Snapshot+".json"] = metaOf(snapshot)
		}, Timestamp)
		d.instead(files)
		v.refuses("", role) // left out instead
	}
}

func TestM4_ARootThatIsWithheldStaysInForce(t *testing.T) {
	d := newDesk(t)
	d.release("1.0.0")
	old := d.backup()
	stolen := d.ring()
	d.edit(func(r *Repository) error {
		return r.Rotate(Rotation{Role: Timestamp, Add: []Key{d.key(Timestamp, "b")}, Remove: d.idsOf(stolen, Timestamp)})
	})
	v := d.device()
	v.takes("1.0.0")
	late := d.device() // one that was off meanwhile
	old["metadata/2.root.json"] = nil
	old["metadata/timestamp.json"] = forge(d, old["metadata/timestamp.json"], func(s *metadata.TimestampType) {
		s.Version += 9
	}, Timestamp) // by the new key as well: drop that
	old["metadata/timestamp.json"] = signedBy(t, old["metadata/timestamp.json"], d.idsOf(stolen, Timestamp)[0])
	d.instead(old)
	v.refuses("", "not enough signatures")
	v.restart()
	v.refuses("1.0.0", "not enough signatures")
	late.takes("1.0.0") // it cannot know
	d.serve(nil)
	v.takes("1.0.0")
	late.takes("1.0.0")
}

// idsOf are the ids of keys of a role.
func (d *desk) idsOf(keys []Key, role Role) (ids []string) {
	for _, k := range keys {
		if k.Role == role {
			ids = append(ids, k.ID)
		}
	}
	return ids
}

// signedBy keeps one signature of a timestamp.
func signedBy(t *testing.T, b []byte, id string) []byte {
	t.Helper()
	m, err := parse[metadata.TimestampType](b)
	if err != nil {
		t.Fatal(err)
	}
	var kept []metadata.Signature
	for _, s := range m.Signatures {
		if s.KeyID == id {
			kept = append(kept, s)
		}
	}
	m.Signatures = kept
	if b, err = m.ToBytes(false); err != nil {
		t.Fatal(err)
	}
	return b
}

func TestM5_WhatIsFrozenExpiresAlsoOverAStart(t *testing.T) {
	d := newDesk(t)
	d.release("1.0.0")
	frozen := d.backup()
	v := d.device()
	v.takes("1.0.0")
	d.now = d.now.Add(5 * dayLong)
	d.edit(func(r *Repository) error { return r.Renew(Timestamp) })
	d.only(frozen)
	v.clock = today.Add(6 * dayLong)
	v.takes("1.0.0") // nobody can tell yet
	v.clock = today.Add(8 * dayLong)
	v.refuses("1.0.0", "timestamp: expired metadata error")
	v.clock = today.Add(-300 * dayLong)
	v.refuses("1.0.0", "expired")
	v.restart()
	v.refuses("1.0.0", "expired") // the clock that went back unlocks nothing
	if _, err := v.kept(v.Context()); err == nil {
		t.Error("without a source what is kept counts, though it has expired")
	}
	d.serve(nil)
	v.takes("1.0.0")
}

func TestM5_EachRoleExpires(t *testing.T) {
	t.Parallel()
	for _, role := range []Role{Root, Targets, Releases, Families, Snapshot} {
		d := newDesk(t)
		d.edit(func(r *Repository) error {
			if err := r.SetLifetimes(map[Role]time.Duration{role: 2 * dayLong}); err != nil {
				return err
			}
			return r.Renew(role)
		})
		v := d.device()
		if err := v.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		v.clock = today.Add(3 * dayLong)
		v.refuses("", "--renew "+role)
		d.now = v.clock
		d.edit(func(r *Repository) error { return r.Renew(role) })
		if err := v.Refresh(t.Context()); err != nil {
			t.Errorf("%s signed anew: %v", role, err)
		}
	}
}

// Everything that is mixed is signed as it must be.
func TestM6_PartsOfTwoVersionsDoNotGoTogether(t *testing.T) {
	d := newDesk(t)
	d.release("1.0.0")
	old := d.backup()
	v := d.device()
	v.takes("1.0.0")
	d.release("1.0.1")
	for _, mix := range []struct{ name, now, then string }{
		{"the snapshot", d.visible(Snapshot), "metadata/2.snapshot.json"},
		{"the releases", d.visible(Releases), "metadata/2.releases.json"},
	} {
		d.instead(map[string][]byte{mix.now: old[mix.then]})
		v.refuses("1.0.1", "")
		v.restart()
		v.refuses("1.0.1", "")
		v.keeps("1.0.0")
	}
	d.instead(map[string][]byte{"metadata/timestamp.json": nil})
	if err := v.Refresh(t.Context()); err == nil {
		t.Error("without a timestamp: it was taken")
	}
	d.serve(nil)
	v.takes("1.0.1")
}

func TestM7_AFastForwardIsUndoneByNewKeysAndByNothingElse(t *testing.T) {
	d := newDesk(t)
	d.release("1.0.0")
	v := d.device()
	v.takes("1.0.0")
	// Who has the keys of timestamp and snapshot makes their versions, and that of the
	// releases, too great to be followed.
	files := map[string][]byte{}
	s := d.published()
	snapshot := forge(d, s[Snapshot], func(m *metadata.SnapshotType) { m.Version = math.MaxInt32 }, Snapshot)
	files["metadata/"+fileOf(Snapshot, math.MaxInt32)] = snapshot
	files["metadata/timestamp.json"] = forge(d, s[Timestamp], func(m *metadata.TimestampType) {
		m.Version, m.Meta[Snapshot+".json"] = math.MaxInt32, metaOf(snapshot)
	}, Timestamp)
	d.instead(files)
	if err := v.Refresh(t.Context()); err != nil {
		t.Fatalf("it is signed as it must be: %v", err)
	}
	d.serve(nil)
	d.release("1.0.1")
	v.waits("1.0.1", "must be >= 2147483647")
	lost := d.ring()
	rotate := func(role Role) {
		d.edit(func(r *Repository) error {
			return r.Rotate(Rotation{Role: role, Add: []Key{d.key(role, "b")}, Remove: d.idsOf(lost, role)})
		})
	}
	rotate(Timestamp)
	rotate(Snapshot)
	v.takes("1.0.1")
	v.restart()
	v.takes("1.0.1")
	d.instead(files) // by the keys that count for nothing now
	v.refuses("", "not enough signatures")
	v.keeps("1.0.1")
}

func TestM7_AVersionOfAReleaseIsNoNumberToBeFollowed(t *testing.T) {
	d := newDesk(t)
	d.release("999.0.0")
	v := d.device()
	v.takes("999.0.0")
	d.edit(func(r *Repository) error { return r.WithdrawRelease("999.0.0", "") })
	d.release("1.0.0")
	v.takes("1.0.0") // what may take the place of what is for the manifest to say, and for the command
	v.refuses("999.0.0", "withdrawn")
}

func TestC2_OldMetadataOfAMirrorDoesNotHideTheNewOfAnother(t *testing.T) {
	d := newDesk(t)
	d.release("1.0.0")
	old := d.backup()
	d.release("1.0.1")
	v := d.device()
	v.takes("1.0.1")
	d.serve(func(w http.ResponseWriter, r *http.Request) bool {
		name, bad := strings.CutPrefix(r.URL.Path, "/old/")
		if b := old[name]; bad && b != nil {
			w.Write(b)
		} else if bad {
			http.NotFound(w, r)
		}
		return bad
	})
	v.restart(d.url+"/old", d.url)
	v.takes("1.0.1")
	late := d.device()
	late.restart(d.url+"/old", d.url)
	late.takes("1.0.1") // of which the first mirror does not know yet
	v.restart(d.url + "/old")
	v.takes("1.0.1") // which is kept
	d.release("1.0.2")
	v.waits("1.0.2", "must be >=") // and comes when the mirror has it
	v.restart(d.url+"/old", d.url)
	v.takes("1.0.2")
	v.refuses("9.9.9", "is not signed") // whatever one that is behind may bring yet
}
