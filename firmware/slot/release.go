package slot

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
)

// Program is the path in a release of the program that is started.
const Program = "limber"

// marker is the file of a slot that says what lies there: a Release.
const marker = "release.json"

// Bounds of a release.
const (
	maxRelease = 1 << 20 // bytes of release.json
	maxFiles   = 256
	maxPath    = 255 // bytes
)

// Release is what a slot holds.
type Release struct {
	Version string `json:"version"`
	Digest  string `json:"digest"` // of its manifest
	Files   []File `json:"files"`
}

// File is one of a release.
type File struct {
	Path   string      `json:"path"` // below the slot, with slashes
	Digest string      `json:"digest"`
	Bytes  int64       `json:"bytes"`
	Mode   fs.FileMode `json:"mode"` // as 0o755; nobody else may write
}

func parseRelease(b []byte) (Release, error) {
	var r Release
	if err := json.Unmarshal(b, &r); err != nil {
		return Release{}, err
	}
	return r, r.Validate()
}

// Validate judges a release before anything of it is written.
func (r *Release) Validate() error {
	switch {
	case r.Version == "" || len(r.Version) > maxWord:
		return fmt.Errorf("version %.80q is empty or too long", r.Version)
	case !validDigest(r.Digest):
		return fmt.Errorf("digest %.80q is none", r.Digest)
	case len(r.Files) > maxFiles:
		return fmt.Errorf("%d files, at most %d", len(r.Files), maxFiles)
	}
	seen := map[string]bool{marker: true}
	program := false
	for _, f := range r.Files {
		if err := f.validate(); err != nil {
			return err
		}
		folded := strings.ToLower(f.Path)
		if seen[folded] {
			return fmt.Errorf("path %s is there twice, or reserved", f.Path)
		}
		seen[folded] = true
		program = program || f.Path == Program && f.Mode&0o100 != 0
	}
	if !program {
		return fmt.Errorf("no file %s that can be executed", Program)
	}
	return r.validateFolders(seen)
}

// validateFolders refuses a file in whose place there must be a folder.
func (r *Release) validateFolders(files map[string]bool) error {
	for _, f := range r.Files {
		for dir := path.Dir(f.Path); dir != "."; dir = path.Dir(dir) {
			if files[strings.ToLower(dir)] {
				return fmt.Errorf("path %s is below a file", f.Path)
			}
		}
	}
	return nil
}

func (f *File) validate() error {
	switch {
	case f.Path == "" || len(f.Path) > maxPath || f.Path != path.Clean(f.Path) || !fs.ValidPath(f.Path) || f.Path == ".":
		return fmt.Errorf("path %.80q is none below a folder", f.Path)
	case strings.ContainsFunc(f.Path, func(r rune) bool { return r <= ' ' || r > '~' || r == '\\' }):
		return fmt.Errorf("path %.80q has other than printable ASCII", f.Path)
	case f.Bytes < 0:
		return fmt.Errorf("%s: %d bytes", f.Path, f.Bytes)
	case f.Mode&^0o755 != 0 || f.Mode&0o400 == 0:
		return fmt.Errorf("%s: mode %04o is none of 0400 to 0755 in which only its owner may write", f.Path, uint32(f.Mode))
	case !validDigest(f.Digest):
		return fmt.Errorf("%s: digest %.80q is none", f.Path, f.Digest)
	}
	return nil
}

const digestPrefix = "sha256:"

// validDigest tells whether s is "sha256:" and 64 hexadecimal digits in lower case.
func validDigest(s string) bool {
	digits, ok := strings.CutPrefix(s, digestPrefix)
	b, err := hex.DecodeString(digits)
	return ok && err == nil && len(b) == 32 && digits == strings.ToLower(digits)
}

// ErrRefused is in what is said of a release that did not prove itself before.
var ErrRefused = errors.New("refused: it did not prove itself here; a command with retry tries it again")
