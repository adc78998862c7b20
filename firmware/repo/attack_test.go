package repo

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/limber-edge/limber/family"
)

// forge changes a document as somebody would who has some keys.
func forge[T metadata.Roles](d *desk, b []byte, change func(*T), roles ...Role) []byte {
	d.Helper()
	m, err := new(metadata.Metadata[T]).FromBytes(b)
	if err != nil {
		d.Fatal(err)
	}
	change(&m.Signed)
	m.ClearSignatures()
	for _, k := range d.ring() {
		for _, role := range roles {
			if k.Role == role && k.Private() {
				if _, err := m.Sign(k.signer); err != nil {
					d.Fatal(err)
				}
			}
		}
	}
	b, err = m.ToBytes(false)
	if err != nil {
		d.Fatal(err)
	}
	return b
}

// file names the visible version of a role's document, in the repository.
func (d *desk) visible(role Role) string {
	d.Helper()
	return metadataDir + "/" + fileOf(role, headOf(d.published()[role]).Signed.Version)
}

// chain makes a snapshot and a timestamp for documents that are not the repository's, as
// somebody would who has those two keys.
func (d *desk) chain(files map[string][]byte, docs set) {
	d.Helper()
	s := d.published().with(docs)
	maps.Copy(s, docs)
	next := headOf(s[Snapshot]).Signed.Version + 1
	s[Snapshot] = forge(d, s[Snapshot], func(m *metadata.SnapshotType) {
		m.Version = next
		for _, role := range []Role{Targets, Releases, Families} {
			m.Meta[role+".json"] = metaOf(s[role])
		}
	}, Snapshot)
	s[Timestamp] = forge(d, s[Timestamp], func(m *metadata.TimestampType) {
		m.Version++
		m.Meta[Snapshot+".json"] = metaOf(s[Snapshot])
	}, Timestamp)
	for role, b := range s {
		files[metadataDir+"/"+fileOf(role, headOf(b).Signed.Version)] = b
	}
}

// steal is a target of a manifest that nobody of releases signed.
func steal(version string) func(*metadata.TargetsType) {
	return func(s *metadata.TargetsType) {
		s.Version++
		b := []byte("stolen")
		t, _ := metadata.TargetFile().FromBytes("x", b)
		s.Targets[releaseTarget(version, "amd64")] = t
	}
}

func TestC1_WhatIsNotSignedByItsRoleIsRefusedAndTheOneBeforeStays(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, why string
		files     func(d *desk) map[string][]byte
	}{
		{"a timestamp that was altered", "timestamp", func(d *desk) map[string][]byte {
			b := bytes.Replace(d.file("metadata/timestamp.json"), []byte(`"version":`), []byte(`"version":9`), 1)
			return map[string][]byte{"metadata/timestamp.json": b}
		}},
		{"a timestamp of another key", "not enough signatures", func(d *desk) map[string][]byte {
			b := forge(d, d.file("metadata/timestamp.json"), func(s *metadata.TimestampType) { s.Version++ }, Releases, Families)
			return map[string][]byte{"metadata/timestamp.json": b}
		}},
		{"a snapshot of the timestamp's key", "hash", func(d *desk) map[string][]byte {
			name := d.visible(Snapshot)
			b := forge(d, d.file(name), func(s *metadata.SnapshotType) { s.Expires = s.Expires.Add(time.Hour) }, Timestamp)
			ts := forge(d, d.file("metadata/timestamp.json"), func(s *metadata.TimestampType) { s.Version++ }, Timestamp)
			return map[string][]byte{name: b, "metadata/timestamp.json": ts}
		}},
		{"releases signed by the family key, with all other keys", "releases", func(d *desk) map[string][]byte {
			files := map[string][]byte{}
			d.chain(files, set{Releases: forge(d, d.file(d.visible(Releases)), steal("9.9.9"), Families)})
			return files
		}},
		{"targets signed by the keys below", "targets", func(d *desk) map[string][]byte {
			files := map[string][]byte{}
			d.chain(files, set{Targets: forge(d, d.file(d.visible(Targets)), steal("9.9.9"), Families, Releases, Snapshot)})
			return files
		}},
		{"a root signed by every key but root's", "root 2", func(d *desk) map[string][]byte {
			b := forge(d, d.file("metadata/1.root.json"), func(s *metadata.RootType) { s.Version++ },
				Targets, Releases, Families, Snapshot, Timestamp)
			return map[string][]byte{"metadata/2.root.json": b}
		}},
		{"a root of another fleet", "root 2", func(d *desk) map[string][]byte {
			other := newDesk(d.TB)
			other.edit(func(r *Repository) error { return r.Renew(Root) })
			return map[string][]byte{"metadata/2.root.json": other.file("metadata/2.root.json")}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := newDesk(t)
			d.release("1.0.0")
			v := d.device()
			d.instead(tt.files(d))
			v.refuses("", tt.why) // a new device as well
			d.serve(nil)
			v.takes("1.0.0")
			d.edit(func(r *Repository) error { return r.Renew(Releases) })
			d.instead(tt.files(d))
			v.refuses("9.9.9", tt.why)
			v.restart()
			v.refuses("1.0.0", tt.why)
			v.keeps("1.0.0")
			d.serve(nil)
			v.takes("1.0.0")
		})
	}
}

func TestM2_TheFamilyKeySignsNothingBelowRelease(t *testing.T) {
	d := newDesk(t)
	d.release("1.0.0")
	v := d.device()
	files := map[string][]byte{}
	d.chain(files, set{Families: forge(d, d.file(d.visible(Families)), steal("9.9.9"), Families)})
	d.instead(files)
	stolen := family.DigestOf([]byte("stolen"))
	if err := v.Signed(t.Context(), "9.9.9", stolen); err == nil || !strings.Contains(err.Error(), "is not signed") {
		t.Errorf("a program by the family key: got %v", err)
	}
	v.takes("1.0.0") // all else of that metadata is as it must be
	var name string
	d.chain(files, set{Releases: forge(d, d.file(d.visible(Releases)), func(s *metadata.TargetsType) {
		s.Version++
		t, _ := metadata.TargetFile().FromBytes("x", []byte("stolen"))
		name = familyTarget(stolen)
		s.Targets[name] = t
	}, Releases)})
	d.instead(files)
	if err := v.May(t.Context(), stolen); err == nil || !strings.Contains(err.Error(), "is not signed") {
		t.Errorf("a family by the release key, as %s: got %v", name, err)
	}
}

func TestM2_ARoleThatWantsNoSignatureIsRefused(t *testing.T) {
	for _, role := range []Role{Root, Targets, Snapshot, Timestamp} {
		d := newDesk(t)
		v := d.device()
		b := forge(d, d.file("metadata/1.root.json"), func(s *metadata.RootType) {
			s.Version++
			s.Roles[role].Threshold = 0
		}, Root)
		d.instead(map[string][]byte{"metadata/2.root.json": b})
		v.refuses("", "wants 0 signatures")
	}
	for i := range 2 {
		d := newDesk(t)
		v := d.device()
		files := map[string][]byte{}
		d.chain(files, set{Targets: forge(d, d.file(d.visible(Targets)), func(s *metadata.TargetsType) {
			s.Version++
			s.Delegations.Roles[i].Threshold = 0
		}, Targets)})
		d.instead(files)
		v.refuses("", "wants 0 signatures")
	}
}

func TestM2_OneKeyUnderTwoNamesIsOneSignature(t *testing.T) {
	d := newDesk(t)
	v := d.device()
	b := forge(d, d.file("metadata/1.root.json"), func(s *metadata.RootType) {
		s.Version++
		role := s.Roles[Timestamp]
		copied := *s.Keys[role.KeyIDs[0]]
		copied.UnrecognizedFields = map[string]any{"comment": "again"}
		id, err := (&metadata.Key{Type: copied.Type, Scheme: copied.Scheme, Value: copied.Value,
			UnrecognizedFields: copied.UnrecognizedFields}).ID()
		if err != nil {
			t.Fatal(err)
		}
		s.Keys[id] = &copied
		role.KeyIDs, role.Threshold = append(role.KeyIDs, id), 2
	}, Root)
	root, err := parse[metadata.RootType](b)
	if err != nil {
		t.Fatal(err)
	}
	ts, err := parse[metadata.TimestampType](d.file("metadata/timestamp.json"))
	if err != nil {
		t.Fatal(err)
	}
	ts.Signatures = append(ts.Signatures, metadata.Signature{KeyID: root.Signed.Roles[Timestamp].KeyIDs[1],
		Signature: ts.Signatures[0].Signature})
	twice, err := ts.ToBytes(false)
	if err != nil {
		t.Fatal(err)
	}
	d.instead(map[string][]byte{"metadata/2.root.json": b, "metadata/timestamp.json": twice})
	v.refuses("", "got 1, want 2")
}

// broken are documents that are not what they should be; some end a program that reads
// them with the library of metadata alone.
func broken(d *desk, role Role) map[string][]byte {
	good := d.file(d.visible(role))
	edit := func(old, new string) []byte {
		b := bytes.Replace(good, []byte(old), []byte(new), 1)
		if bytes.Equal(b, good) {
			return nil
		}
		return b
	}
	return map[string][]byte{
		"nothing": {}, "null": []byte("null"), "a list": []byte("[]"), "empty": []byte("{}"), "cut": good[:len(good)/2],
		"nothing signed":      []byte(`{"signed":null,"signatures":[]}`),
		"no type":             []byte(`{"signed":{},"signatures":[]}`),
		"a type of its own":   []byte(`{"signed":{"_type":7},"signatures":[]}`),
		"no signatures":       []byte(`{"signed":` + string(mustSigned(good)) + `}`),
		"null signatures":     []byte(`{"signed":` + string(mustSigned(good)) + `,"signatures":null}`),
		"a null signature":    []byte(`{"signed":` + string(mustSigned(good)) + `,"signatures":[null]}`),
		"another role":        d.file(d.visible(map[bool]Role{true: Snapshot, false: Timestamp}[role == Timestamp])),
		"a null target":       edit(`"targets":{`, `"targets":{"a":null,`),
		"null targets":        edit(`"targets":{}`, `"targets":null`),
		"a target, no hashes": edit(`"targets":{`, `"targets":{"a":{"length":1,"hashes":{}},`),
		"a null role":         edit(`"roles":{`, `"roles":{"x":null,`),
		"a null key":          edit(`"keys":{`, `"keys":{"x":null,`),
		"a short key":         edit(`"public":"`, `"public":"00`),
		"no meta":             edit(`"meta":{`, `"meta":{},"x":{`),
		"null meta":           edit(`"meta":{`, `"meta":{"x.json":null,`),
		"a version below 1":   edit(`"version":`, `"version":-`),
		"a great version":     edit(`"version":`, `"version":99999999999999999999`),
		"a fraction":          edit(`"version":`, `"version":0.5,"v":`),
		"a wrong time":        edit(`"expires":"2`, `"expires":"x`),
		"a key twice":         edit(`"version":`, `"version":1,"Version":`),
		"deep":                []byte(strings.Repeat(`{"a":`, 20000) + "1" + strings.Repeat("}", 20000)),
		"two documents":       append(bytes.Clone(good), good...),
		"not UTF-8":           append([]byte("\xff"), good...),
	}
}

func mustSigned(b []byte) json.RawMessage {
	var m struct{ Signed json.RawMessage }
	if err := json.Unmarshal(b, &m); err != nil {
		panic(err)
	}
	return m.Signed
}

func TestM2_MalformedMetadataIsRefusedAndEndsNothing(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	d.release("1.0.0")
	v := d.device()
	v.takes("1.0.0")
	d.edit(func(r *Repository) error { return r.Renew(Roles()...) })
	n := 0
	for _, role := range Roles() {
		name := d.visible(role)
		for what, b := range broken(d, role) {
			if b == nil {
				continue
			}
			n++
			d.instead(map[string][]byte{name: b})
			if err := v.Refresh(t.Context()); err == nil {
				t.Errorf("%s: %s was taken", role, what)
			}
		}
	}
	if n < 100 {
		t.Errorf("only %d documents were tried", n)
	}
	v.keeps("1.0.0")
	d.serve(nil)
	v.takes("1.0.0")
}

// FuzzDocument has every role's documents read, and verified by themselves.
func FuzzDocument(f *testing.F) {
	d := newDesk(f)
	d.release("1.0.0")
	visible := d.published()
	for i, role := range Roles() {
		f.Add(byte(i), visible[role])
		for _, b := range broken(d, role) {
			f.Add(byte(i), b)
		}
	}
	f.Fuzz(func(t *testing.T, i byte, b []byte) {
		role := Roles()[int(i)%len(Roles())]
		s := maps.Clone(visible)
		s[role] = b
		if s.verify(role, b) == nil { // by itself, or by the one above
			for _, other := range Roles() {
				_ = s.verify(other, s[other])
			}
		}
		if role == Root || role == Targets {
			_ = s.holds(visible)
		}
	})
}

func TestM3_EndlessAndCutMetadataIsGivenUpAndAnotherMirrorAsked(t *testing.T) {
	t.Parallel()
	endless := func(w http.ResponseWriter, r *http.Request) {
		for junk := bytes.Repeat([]byte(`{"a":`), 1000); ; {
			if _, err := w.Write(junk); err != nil || r.Context().Err() != nil {
				return
			}
		}
	}
	for _, role := range Roles() {
		for _, what := range []string{"endless", "cut"} {
			t.Run(what+" "+role, func(t *testing.T) {
				d := newDesk(t)
				d.release("1.0.0")
				d.edit(func(r *Repository) error { return r.Renew(Root) })
				name := d.visible(role)
				d.serve(func(w http.ResponseWriter, r *http.Request) bool {
					path, bad := strings.CutPrefix(r.URL.Path, "/bad/")
					switch {
					case bad && path == name && what == "endless":
						endless(w, r)
					case bad && path == name:
						b := d.file(name)
						w.Header().Set("Content-Length", fmt.Sprint(len(b)))
						w.Write(b[:len(b)/2])
					case bad:
						http.ServeFile(w, r, filepath.Join(d.dir, path))
					}
					return bad
				})
				v := d.device()
				v.restart(d.url + "/bad")
				if err := v.Refresh(t.Context()); err == nil {
					t.Error("it was taken")
				}
				for _, file := range v.files() {
					if info, err := os.Stat(file); err == nil && info.Size() > 16<<10 {
						t.Errorf("%s has %d bytes", file, info.Size())
					}
				}
				v.restart(d.url+"/bad", d.url)
				v.takes("1.0.0")
			})
		}
	}
}

// files are those that a device keeps.
func (v *device) files() (all []string) {
	filepath.WalkDir(v.dir, func(file string, e os.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			all = append(all, file)
		}
		return nil
	})
	return all
}
