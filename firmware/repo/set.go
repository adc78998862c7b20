package repo

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"
)

// set holds documents by role, as they are in files.
type set map[Role][]byte

// with is the set with the documents of another one for some roles.
func (s set) with(other set, roles ...Role) set {
	all := maps.Clone(s)
	for _, r := range roles {
		all[r] = other[r]
	}
	return all
}

// head is what every document has.
type head struct {
	Signed struct {
		Version int64     `json:"version"`
		Expires time.Time `json:"expires"`
	} `json:"signed"`
	Signatures []struct {
		KeyID string `json:"keyid"`
	} `json:"signatures"`
}

// headOf reads a document that was judged before; of none it is empty.
func headOf(b []byte) (h head) {
	if b != nil {
		_ = json.Unmarshal(b, &h) // it was judged
	}
	return h
}

// root and targets read documents of the set.
func (s set) root() (*metadata.Metadata[metadata.RootType], error) {
	return read[metadata.RootType](s, Root)
}

func (s set) targets(role Role) (*metadata.Metadata[metadata.TargetsType], error) {
	return read[metadata.TargetsType](s, role)
}

func read[T metadata.Roles](s set, role Role) (*metadata.Metadata[T], error) {
	if s[role] == nil {
		return nil, fmt.Errorf("there is no %s", role)
	}
	m, err := parse[T](s[role])
	if err != nil {
		return nil, fmt.Errorf("%s: %w", role, err)
	}
	return m, nil
}

// signers are the keys that a set names for a role, and how many of them must sign.
func (s set) signers(role Role) (keyIDs []string, threshold int) {
	switch role {
	case Releases, Families:
		t, err := s.targets(Targets)
		if err != nil || t.Signed.Delegations == nil {
			return nil, 0
		}
		for _, r := range t.Signed.Delegations.Roles {
			if r.Name == role {
				return r.KeyIDs, r.Threshold
			}
		}
		return nil, 0
	}
	root, err := s.root()
	if err != nil {
		return nil, 0
	}
	r := root.Signed.Roles[role]
	return r.KeyIDs, r.Threshold
}

// verify says why a document is not signed as the set wants it of its role.
func (s set) verify(role Role, b []byte) error {
	of, err := parseAs(role, b)
	if err != nil {
		return err
	}
	if role == Releases || role == Families {
		targets, err := s.targets(Targets)
		if err != nil {
			return err
		}
		return targets.VerifyDelegate(role, of)
	}
	root, err := s.root()
	if err != nil {
		return err
	}
	return root.VerifyDelegate(role, of)
}

// parseAs reads a document of a role, as the library of metadata takes it.
func parseAs(role Role, b []byte) (m any, err error) {
	if b == nil {
		return nil, fmt.Errorf("there is no %s", role)
	}
	switch role {
	case Root:
		m, err = parse[metadata.RootType](b)
	case Snapshot:
		m, err = parse[metadata.SnapshotType](b)
	case Timestamp:
		m, err = parse[metadata.TimestampType](b)
	default:
		m, err = parse[metadata.TargetsType](b)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", role, err)
	}
	return m, nil
}

// holds says why a device that has the root of another set would not take what the four
// upper documents of this one say.
func (s set) holds(before set) error {
	if before[Root] != nil && headOf(before[Root]).Signed.Version != headOf(s[Root]).Signed.Version {
		if err := before.verify(Root, s[Root]); err != nil {
			return err
		}
	}
	for _, role := range []Role{Root, Targets, Releases, Families} {
		if err := s.verify(role, s[role]); err != nil {
			return err
		}
	}
	return nil
}

// metaOf is what a document says of another one that it names.
func metaOf(b []byte) *metadata.MetaFiles {
	sum := sha256.Sum256(b)
	m := metadata.MetaFile(headOf(b).Signed.Version)
	m.Length, m.Hashes = int64(len(b)), metadata.Hashes{"sha256": sum[:]}
	return m
}

// readPublished reads what a repository serves, from the timestamp up. Before the first
// time it is empty.
func readPublished(dir string) (set, error) {
	s := set{}
	at := filepath.Join(dir, metadataDir)
	version, err := newestRoot(at)
	if version == 0 || err != nil {
		return s, err
	}
	switch err := s.load(at, Timestamp, 0); {
	case errors.Is(err, fs.ErrNotExist):
		return set{}, nil // it was cut while the first became visible
	case err != nil:
		return nil, err
	}
	if err := s.load(at, Root, version); err != nil {
		return nil, err
	}
	ts, err := read[metadata.TimestampType](s, Timestamp)
	if err != nil {
		return nil, err
	}
	if err := s.load(at, Snapshot, ts.Signed.Meta[Snapshot+".json"].Version); err != nil {
		return nil, err
	}
	snap, err := read[metadata.SnapshotType](s, Snapshot)
	if err != nil {
		return nil, err
	}
	for _, role := range []Role{Targets, Releases, Families} {
		if err := s.load(at, role, snap.Signed.Meta[role+".json"].Version); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func (s set) load(dir string, role Role, version int64) (err error) {
	s[role], err = readFile(filepath.Join(dir, fileOf(role, version)), maxOf(role))
	return err
}

// newestRoot is the version of the newest root in a folder; 0 where there is none.
func newestRoot(dir string) (newest int64, err error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	for _, e := range entries {
		if v, ok := strings.CutSuffix(e.Name(), "."+Root+".json"); ok {
			n, _ := strconv.ParseInt(v, 10, 64)
			newest = max(newest, n)
		}
	}
	return newest, err
}

// readStaged reads what waits for signatures.
func readStaged(dir string) (set, error) {
	s := set{}
	for _, role := range Roles() {
		b, err := readFile(filepath.Join(dir, stagedDir, role+".json"), maxOf(role))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err != nil {
			return nil, err
		}
		s[role] = b
	}
	return s, nil
}

// sign adds the signatures of keys to a document, each once.
func sign(role Role, b []byte, keys []Key) ([]byte, error) {
	switch role {
	case Root:
		return signAs[metadata.RootType](b, keys)
	case Snapshot:
		return signAs[metadata.SnapshotType](b, keys)
	case Timestamp:
		return signAs[metadata.TimestampType](b, keys)
	}
	return signAs[metadata.TargetsType](b, keys)
}

func signAs[T metadata.Roles](b []byte, keys []Key) ([]byte, error) {
	m, err := parse[T](b)
	if err != nil {
		return nil, err
	}
	for _, k := range keys {
		if slices.ContainsFunc(m.Signatures, func(s metadata.Signature) bool { return s.KeyID == k.ID }) {
			continue
		}
		if _, err := m.Sign(k.signer); err != nil {
			return nil, fmt.Errorf("sign with %s: %w", k.File, err)
		}
	}
	slices.SortFunc(m.Signatures, func(a, b metadata.Signature) int { return strings.Compare(a.KeyID, b.KeyID) })
	return m.ToBytes(false)
}
