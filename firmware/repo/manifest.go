package repo

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/limber-edge/limber/family"
)

// Program is the path of the program in a release.
const Program = "limber"

// Bounds of a release.
const (
	maxFiles = 256
	maxFile  = 1 << 30 // bytes
	maxPath  = 200     // bytes of a path
)

// What a release does to the state of the one before.
const (
	TwoWay = "two-way" // the one before can read it as well
	OneWay = "one-way" // it cannot
)

// Modes that a file may have.
const (
	ModePlain   = "0644"
	ModeProgram = "0755"
)

// Manifest is a release for one architecture. There is no word in it for a link, a
// device or an owner.
type Manifest struct {
	Schema  int        `json:"schema"`
	Version string     `json:"version"`
	Arch    string     `json:"arch"`             // as Go names it: amd64, arm64
	Boards  []string   `json:"boards,omitempty"` // patterns of path.Match for the board's model; none: every board
	From    *[2]string `json:"from,omitempty"`   // oldest and newest version that it may take the place of; nil: any
	State   string     `json:"state"`
	Files   []File     `json:"files"` // by path
}

// File is one of a release.
type File struct {
	Path   string        `json:"path"` // relative, of plain names with "/" between them
	Digest family.Digest `json:"digest"`
	Bytes  int64         `json:"bytes"`
	Mode   string        `json:"mode"` // ModePlain or ModeProgram
}

// manifestSchema is the version of manifests that this package reads and writes.
const manifestSchema = 1

// ParseManifest reads a manifest. It refuses one with anything in it that is not known
// here, and one whose files could lie anywhere but in the folder of the release.
func ParseManifest(b []byte) (*Manifest, error) {
	if len(b) > maxManifest {
		return nil, fmt.Errorf("release manifest: %d bytes are more than %d", len(b), maxManifest)
	}
	if err := strict(b); err != nil {
		return nil, fmt.Errorf("release manifest: %w", err)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	var m Manifest
	if err := d.Decode(&m); err != nil {
		return nil, fmt.Errorf("release manifest: %s", strings.TrimPrefix(err.Error(), "json: "))
	}
	if err := m.Validate(); err != nil {
		return nil, fmt.Errorf("release manifest: %w", err)
	}
	return &m, nil
}

// Validate joins every complaint.
func (m *Manifest) Validate() error {
	var errs []error
	complain := func(bad bool, format string, args ...any) {
		if bad {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	complain(m.Schema != manifestSchema, "schema %d: this program reads %d", m.Schema, manifestSchema)
	complain(!ValidVersion(m.Version), "version %.80q: wants one such as 1.4.0 or 1.4.0-rc.1", m.Version)
	complain(!validArch(m.Arch), "arch %.80q: wants a name such as arm64", m.Arch)
	complain(m.State != TwoWay && m.State != OneWay, "state %.80q: wants %s or %s", m.State, TwoWay, OneWay)
	complain(len(m.Boards) > maxFiles, "boards: %d patterns are more than %d", len(m.Boards), maxFiles)
	for _, b := range m.Boards {
		_, err := path.Match(b, "")
		complain(err != nil || b == "" || len(b) > maxPath, "boards: %.80q is not a pattern such as \"*Orin*\"", b)
	}
	if f := m.From; f != nil {
		complain(!ValidVersion(f[0]) || !ValidVersion(f[1]) || CompareVersions(f[0], f[1]) > 0,
			"from %.80q: wants the oldest and the newest version that it may take the place of", *f)
	}
	return errors.Join(append(errs, m.validateFiles())...)
}

func (m *Manifest) validateFiles() error {
	if len(m.Files) > maxFiles {
		return fmt.Errorf("files: %d are more than %d", len(m.Files), maxFiles)
	}
	var errs []error
	for _, f := range m.Files {
		if err := f.validate(); err != nil {
			errs = append(errs, fmt.Errorf("file %.200q: %w", f.Path, err))
		}
	}
	if !slices.ContainsFunc(m.Files, func(f File) bool { return f.Path == Program && f.Mode == ModeProgram }) {
		errs = append(errs, fmt.Errorf("files: wants %q of mode %s among them", Program, ModeProgram))
	}
	return errors.Join(append(errs, collide(m.Files))...)
}

func (f File) validate() error {
	var errs []error
	if err := checkPath(f.Path); err != nil {
		errs = append(errs, err)
	}
	if !f.Digest.Valid() {
		errs = append(errs, fmt.Errorf("%.80q is not a SHA-256 digest", f.Digest))
	}
	if f.Bytes < 0 || f.Bytes > maxFile {
		errs = append(errs, fmt.Errorf("%d bytes are not from 0 to %d", f.Bytes, maxFile))
	}
	if f.Mode != ModePlain && f.Mode != ModeProgram {
		errs = append(errs, fmt.Errorf("mode %.20q is neither %s nor %s", f.Mode, ModePlain, ModeProgram))
	}
	return errors.Join(errs...)
}

// checkPath wants a relative path that means the same on every system.
func checkPath(p string) error {
	if p == "" || len(p) > maxPath {
		return fmt.Errorf("a path has 1 to %d bytes", maxPath)
	}
	for name := range strings.SplitSeq(p, "/") {
		switch {
		case name == "" || name == "." || name == "..":
			return fmt.Errorf("a path is relative and has no %q in it", name)
		case strings.ContainsFunc(name, func(r rune) bool { return !plain(r) }):
			return errors.New("a path has only letters, digits and . _ + - between slashes")
		}
	}
	return nil
}

func plain(r rune) bool {
	return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("._+-", r)
}

// collide says which files cannot lie in one folder, also where that does not tell upper
// from lower case.
func collide(files []File) error {
	all, folders := map[string]string{}, map[string]string{}
	for _, f := range files {
		p := strings.ToLower(f.Path)
		if other, ok := all[p]; ok {
			return fmt.Errorf("files %.200q and %.200q would be one", other, f.Path)
		}
		all[p] = f.Path
		for d := path.Dir(p); d != "." && d != "/"; d = path.Dir(d) {
			folders[d] = f.Path
		}
	}
	for p, f := range all {
		if inside, ok := folders[p]; ok {
			return fmt.Errorf("file %.200q would be the folder of %.200q", f, inside)
		}
	}
	return nil
}

func validArch(s string) bool {
	return s != "" && len(s) <= 20 && !strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9')
	})
}

// Digest is that of the blob, and of the target, that the manifest is.
func (m *Manifest) Digest() family.Digest { return family.DigestOf(m.Compact()) }

// Compact is the manifest as it is signed.
func (m *Manifest) Compact() []byte {
	b, err := json.Marshal(m)
	if err != nil {
		panic(err) // it has no field that could not be written
	}
	return b
}

// runtimeName begins the path of ONNX Runtime in a release.
const runtimeName = "libonnxruntime.so"

// HasRuntime tells whether ONNX Runtime is in a release, where its program looks first.
func (m *Manifest) HasRuntime() bool {
	return slices.ContainsFunc(m.Files, func(f File) bool { return strings.HasPrefix(f.Path, runtimeName) })
}

// Fits says why a release is not for a board. An empty model is one that nobody knows.
func (m *Manifest) Fits(arch, model string) error {
	fits := len(m.Boards) == 0 || slices.ContainsFunc(m.Boards, func(b string) bool {
		ok, _ := path.Match(b, model)
		return ok
	})
	switch {
	case m.Arch != arch:
		return fmt.Errorf("release %s is for %s, this board is %s", m.Version, m.Arch, arch)
	case !fits:
		return fmt.Errorf("release %s is for boards %q, this one is %q", m.Version, m.Boards, model)
	}
	return nil
}

// MayReplace says why a release may not take the place of a version.
func (m *Manifest) MayReplace(version string) error {
	if f := m.From; f != nil && (!ValidVersion(version) || CompareVersions(version, f[0]) < 0 ||
		CompareVersions(version, f[1]) > 0) {
		return fmt.Errorf("release %s takes the place of versions from %s to %s, this is %s", m.Version, f[0], f[1], version)
	}
	return nil
}
