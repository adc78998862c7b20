package repo

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/theupdateframework/go-tuf/v2/metadata"
)

// maxDepth is how deep a document may nest; a key of a delegation is 6.
const maxDepth = 12

// strict says why JSON is not to be read: it could be read in two ways, or make the
// library of metadata dereference nothing.
func strict(b []byte) error {
	if !utf8.Valid(b) {
		return errors.New("JSON is not valid UTF-8")
	}
	s := scanner{json.NewDecoder(bytes.NewReader(b))}
	s.UseNumber()
	if err := s.value(0); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return fmt.Errorf("JSON near offset %d: %w", s.InputOffset(), err)
	}
	if rest := bytes.TrimSpace(b[s.InputOffset():]); len(rest) > 0 {
		return fmt.Errorf("%d bytes follow the JSON object", len(rest))
	}
	return nil
}

type scanner struct{ *json.Decoder }

// value goes over one value, of which so many surround.
func (s scanner) value(depth int) error {
	token, err := s.Token()
	if err != nil {
		return err
	}
	switch {
	case token == nil:
		return errors.New("null stands for nothing here")
	case depth == 0 && token != json.Delim('{'):
		return errors.New("it is not an object")
	case depth >= maxDepth:
		return fmt.Errorf("it nests deeper than %d", maxDepth)
	case token == json.Delim('{'):
		return s.object(depth)
	case token == json.Delim('['):
		return s.rest(depth, func() error { return nil })
	}
	return nil
}

func (s scanner) object(depth int) error {
	seen := map[string]bool{}
	return s.rest(depth, func() error {
		key, err := s.Token()
		if err != nil {
			return err
		}
		text, _ := key.(string)
		folded := strings.ToLower(strings.ToUpper(text)) // as encoding/json folds names of fields, a long s too
		if seen[folded] {
			return fmt.Errorf("key %.80q comes twice", text)
		}
		seen[folded] = true
		return nil
	})
}

// rest goes over values up to the end of an object or array.
func (s scanner) rest(depth int, before func() error) error {
	for s.More() {
		if err := before(); err != nil {
			return err
		}
		if err := s.value(depth + 1); err != nil {
			return err
		}
	}
	_, err := s.Token()
	return err
}

// parse reads a document that is to be of a role.
func parse[T metadata.Roles](b []byte) (m *metadata.Metadata[T], err error) {
	if err := strict(b); err != nil {
		return nil, err
	}
	m = new(metadata.Metadata[T])
	if _, err := m.FromBytes(b); err != nil {
		return nil, err
	}
	return m, judge(&m.Signed)
}

// judge says what a document lacks that the library of metadata relies on.
func judge(signed any) error {
	switch s := signed.(type) {
	case *metadata.RootType:
		return errors.Join(judgeHead(s.SpecVersion, s.Version), judgeRoot(s))
	case *metadata.TargetsType:
		return errors.Join(judgeHead(s.SpecVersion, s.Version), judgeTargets(s))
	case *metadata.SnapshotType:
		return errors.Join(judgeHead(s.SpecVersion, s.Version), judgeMeta(s.Meta, Targets, Releases, Families))
	case *metadata.TimestampType:
		return errors.Join(judgeHead(s.SpecVersion, s.Version), judgeMeta(s.Meta, Snapshot))
	}
	return errors.New("it is of no role")
}

func judgeHead(spec string, version int64) error {
	switch {
	case !strings.HasPrefix(spec, "1."):
		return fmt.Errorf("it is of version %.20q of the specification, this program knows 1", spec)
	case version < 1:
		return fmt.Errorf("version %d is under 1", version)
	}
	return nil
}

func judgeRoot(s *metadata.RootType) error {
	errs := []error{judgeKeys(s.Keys)}
	if !s.ConsistentSnapshot {
		errs = append(errs, errors.New("it has no consistent snapshots"))
	}
	for _, role := range []Role{Root, Timestamp, Snapshot, Targets} {
		if r := s.Roles[role]; r == nil {
			errs = append(errs, fmt.Errorf("it has no role %s", role))
		} else {
			errs = append(errs, judgeRole(role, r.KeyIDs, r.Threshold))
		}
	}
	return errors.Join(errs...)
}

func judgeTargets(s *metadata.TargetsType) error {
	var errs []error
	for name, t := range s.Targets {
		if len(t.Hashes["sha256"]) != 32 || t.Length < 0 {
			errs = append(errs, fmt.Errorf("target %.80q has no SHA-256", name))
		}
	}
	if s.Delegations == nil {
		return errors.Join(errs...)
	}
	if s.Delegations.SuccinctRoles != nil {
		errs = append(errs, errors.New("succinct roles are not known here"))
	}
	names := map[string]bool{}
	for _, r := range s.Delegations.Roles {
		if names[r.Name] {
			errs = append(errs, fmt.Errorf("role %.80q comes twice", r.Name))
		}
		names[r.Name] = true
		errs = append(errs, judgeRole(r.Name, r.KeyIDs, r.Threshold))
	}
	return errors.Join(append(errs, judgeKeys(s.Delegations.Keys))...)
}

func judgeRole(name Role, keyIDs []string, threshold int) error {
	if threshold < 1 || threshold > len(keyIDs) {
		return fmt.Errorf("role %.80q wants %d signatures of %d keys", name, threshold, len(keyIDs))
	}
	return nil
}

// judgeKeys wants Ed25519: with a key of another length a signature cannot be looked at.
func judgeKeys(keys map[string]*metadata.Key) error {
	for id, k := range keys {
		b, err := hex.DecodeString(k.Value.PublicKey)
		if k.Type != metadata.KeyTypeEd25519 || k.Scheme != metadata.KeySchemeEd25519 || err != nil || len(b) != 32 {
			return fmt.Errorf("key %.12q is not of Ed25519", id)
		}
	}
	return nil
}

func judgeMeta(meta map[string]*metadata.MetaFiles, roles ...Role) error {
	for _, role := range roles {
		m := meta[role+".json"]
		if m == nil || m.Version < 1 || m.Length < 0 || m.Length > maxOf(role) {
			return fmt.Errorf("it does not say which %s there is, by a version and a length of at most %d bytes", role,
				maxOf(role))
		}
	}
	return nil
}
