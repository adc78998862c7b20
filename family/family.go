// Package family holds what a family of sub-networks is: architectures, the
// members cut from one supernet, their measured accuracy and cost, and the
// rule that orders them.
//
//	supernet ──cut──▶ sub-network ──calibrate──▶ member ──profile──▶ eligible
//
// A family is a manifest plus content-addressed blobs (the supernet, each
// member's BN statistics, each member's canary). Members share the supernet's
// blob, so a member costs its architecture and its statistics. A family may also
// be foreign: without a supernet, each member an ONNX model of somebody else's.
// The rule that makes a family useful: each member is strictly more accurate
// than the one before it, so that whoever takes a later one gets something for
// it. A manifest that breaks it is refused. What a member costs is a device's
// own affair: its profile says which of them are worth running there.
package family

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"regexp"
	"strings"
)

// Digest names a blob by the SHA-256 of its bytes, in lower-case hexadecimal.
type Digest string

// DigestOf returns the digest of b.
func DigestOf(b []byte) Digest {
	sum := sha256.Sum256(b)
	return Digest(hex.EncodeToString(sum[:]))
}

// Valid tells whether d has the form of a digest.
func (d Digest) Valid() bool {
	b, err := hex.DecodeString(string(d))
	return err == nil && len(b) == sha256.Size && hex.EncodeToString(b) == string(d)
}

// Short is the first twelve digits, for people.
func (d Digest) Short() string { return string(d[:min(12, len(d))]) }

// Blobs hands out blobs by digest. An error names the blob; what is returned
// has been checked against its digest.
type Blobs interface {
	Blob(Digest) ([]byte, error)
}

// Family is the manifest.
type Family struct {
	Schema int    `json:"schema"`
	Name   string `json:"name"`
	// the checkpoint the members are cut from; none in a foreign family
	Supernet Digest `json:"supernet,omitempty"`
	// what its shapes cannot tell; read by package ofa, and the preprocessing by Preprocessing
	Describe json.RawMessage `json:"description"`
	Classes  []string        `json:"classes"` // label of each logit, in order
	Members  []Member        `json:"members"` // by rising accuracy
}

// Member is one sub-network of a family.
type Member struct {
	Name   string  `json:"name"`
	Arch   Arch    `json:"arch"`
	MMACs  float64 `json:"mmacs"`  // millions of multiply-accumulates of one inference; 0, unknown, in a foreign family
	Top1   float64 `json:"top1"`   // fraction of Images classified right, in (0, 1]
	Top5   float64 `json:"top5"`   // fraction with the right class among the first five
	Images int     `json:"images"` // test images the two fractions were measured on

	Stats  Digest `json:"stats,omitempty"` // BN statistics: float32 means and variances, layer by layer
	Canary Digest `json:"canary"`          // float32 input 3×R×R, then the logits (or Outputs) it must give

	CalibratedOn Calibration `json:"calibrated_on"`

	// Of a foreign family, instead of Stats:
	Model  Digest `json:"model,omitempty"`  // ONNX
	Input  string `json:"input,omitempty"`  // name of its input, float32 1×3×R×R
	Output string `json:"output,omitempty"` // name of its output, float32 1×classes

	// Outputs says what the numbers of a foreign member are: Probabilities, or
	// logits, of which a softmax makes them, where it is empty.
	Outputs string `json:"outputs,omitempty"`
}

// Probabilities is what a foreign member with a softmax of its own gives.
const Probabilities = "probabilities"

// Foreign tells whether the members are somebody else's models.
func (f *Family) Foreign() bool { return f.Supernet == "" }

// Calibration says what BN statistics were computed from.
type Calibration struct {
	Images int    `json:"images"`
	Batch  int    `json:"batch"`  // images per batch
	Digest Digest `json:"digest"` // of the images' pixels, in order
}

// Schema is the version of the manifest this package reads and writes.
const Schema = 1

// MaxMembers bounds what one governor has to choose from.
const MaxMembers = 16

// Parse reads a manifest and refuses one that breaks the family's rule.
func Parse(b []byte) (*Family, error) {
	var f Family
	if err := json.Unmarshal(b, &f); err != nil {
		return nil, fmt.Errorf("family manifest: %w", err)
	}
	if err := f.Validate(); err != nil {
		return nil, fmt.Errorf("family manifest %q: %w", f.Name, err)
	}
	return &f, nil
}

// Validate joins every complaint about the manifest.
func (f *Family) Validate() error {
	var errs []error
	if f.Schema != Schema {
		errs = append(errs, fmt.Errorf("schema %d: this program reads %d", f.Schema, Schema))
	}
	if err := CheckName(f.Name); err != nil {
		errs = append(errs, err)
	}
	if !f.Foreign() && !f.Supernet.Valid() {
		errs = append(errs, fmt.Errorf("supernet %q is not a SHA-256 digest", f.Supernet))
	}
	if n := len(f.Classes); n < 2 {
		errs = append(errs, fmt.Errorf("%d classes: wants at least two", n))
	}
	if err := f.validateLabels(); err != nil {
		errs = append(errs, err)
	}
	if n := len(f.Members); n < 1 || n > MaxMembers {
		errs = append(errs, fmt.Errorf("%d members: wants 1 to %d", n, MaxMembers))
	}
	return errors.Join(append(errs, f.validateMembers()...)...)
}

// validateLabels compares the classes with those of the description, where that
// names them: with the labels of another network every answer would be wrong, and
// no canary would tell.
func (f *Family) validateLabels() error {
	if len(f.Describe) == 0 {
		return nil
	}
	var described struct {
		Classes []string `json:"classes"`
	}
	if err := json.Unmarshal(f.Describe, &described); err != nil {
		return fmt.Errorf("description: %w", err)
	}
	if len(described.Classes) == 0 {
		return nil
	}
	if len(described.Classes) != len(f.Classes) {
		return fmt.Errorf("%d classes, and the description names %d: are they of another network?", len(f.Classes),
			len(described.Classes))
	}
	for i, name := range described.Classes {
		if f.Classes[i] != name {
			return fmt.Errorf("class %d is %q, and %q in the description: are the classes of another network?", i, f.Classes[i],
				name)
		}
	}
	return nil
}

// CheckName tells why a family cannot have that name.
func CheckName(name string) error {
	if !namePattern.MatchString(name) {
		return fmt.Errorf("name %q: wants 1-64 of A-Z a-z 0-9 _ . -", name)
	}
	return nil
}

var namePattern = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,64}$`)

func (f *Family) validateMembers() []error {
	var errs []error
	seen := map[string]bool{}
	for i, m := range f.Members {
		if err := m.validate(f.Foreign()); err != nil {
			errs = append(errs, fmt.Errorf("member %d %q: %w", i, m.Name, err))
		}
		if seen[m.Name] {
			errs = append(errs, fmt.Errorf("member %d %q: the name is taken", i, m.Name))
		}
		seen[m.Name] = true
		if i > 0 && m.Top1 <= f.Members[i-1].Top1 {
			errs = append(errs, fmt.Errorf("member %d %q: must be more accurate than %q before it", i, m.Name,
				f.Members[i-1].Name))
		}
	}
	return errs
}

func (m *Member) validate(foreign bool) error {
	switch {
	case !namePattern.MatchString(m.Name):
		return errors.New("wants a name of 1-64 of A-Z a-z 0-9 _ . -")
	case !(m.Top1 > 0 && m.Top1 <= 1) || !(m.Top5 >= m.Top1 && m.Top5 <= 1):
		return fmt.Errorf("top1 %v and top5 %v: want fractions over 0, top5 not under top1", m.Top1, m.Top5)
	case !(m.MMACs > 0 || foreign && m.MMACs == 0) || math.IsInf(m.MMACs, 0):
		return fmt.Errorf("mmacs %v: wants a positive number", m.MMACs)
	case foreign != (m.Model != "") || foreign && m.Stats != "":
		return errors.New("a member has either stats, of the family's supernet, or a model of its own")
	case !m.Canary.Valid() || !foreign && !m.Stats.Valid() || foreign && !m.Model.Valid():
		return errors.New("stats and canary, and a foreign model, want SHA-256 digests")
	case foreign && (m.Input == "" || m.Output == ""):
		return errors.New("a foreign model wants the names of its input and output")
	case m.Outputs != "" && (!foreign || m.Outputs != Probabilities):
		return fmt.Errorf("outputs %q: a foreign model may give %q, everything else gives logits and does not say so",
			m.Outputs, Probabilities)
	case m.Arch.R <= 0:
		return fmt.Errorf("resolution %d: wants pixels a side", m.Arch.R)
	}
	return nil
}

// Marshal writes the manifest, one member readable after the other.
func (f *Family) Marshal() ([]byte, error) {
	b, err := json.MarshalIndent(f, "", " ")
	if err != nil {
		return nil, fmt.Errorf("family manifest: %w", err)
	}
	return append(b, '\n'), nil
}

// Digest names the family: the digest of its compact manifest, so that layout
// does not matter.
func (f *Family) Digest() Digest { return DigestOf(f.Compact()) }

// Compact is the manifest as the blob that Digest names.
func (f *Family) Compact() []byte {
	b, err := json.Marshal(f)
	if err != nil {
		// Only Describe can fail to encode, and Parse has read it as JSON.
		panic("family: a manifest that was read cannot be written: " + err.Error())
	}
	return b
}

// Labels is the first six classes, for people.
func (f *Family) Labels() string {
	const few = 6
	if len(f.Classes) <= few {
		return strings.Join(f.Classes, ", ")
	}
	return strings.Join(f.Classes[:few], ", ") + ", ..."
}

// Index returns the position of the member with that name, or -1.
func (f *Family) Index(name string) int {
	for i, m := range f.Members {
		if m.Name == name {
			return i
		}
	}
	return -1
}
