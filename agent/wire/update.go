package wire

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
)

// Update is what a command of the verb family asks for: that a device takes a family
// into use, and goes back by itself if it does not prove itself.
type Update struct {
	Family *Family `json:"family,omitempty"`
	// Sources are URLs below which its blobs lie, by the 64 digits of their digests. The
	// device takes those that its configuration allows; without one it asks the controller.
	Sources   []string   `json:"sources,omitempty"`
	Probation *Probation `json:"probation,omitempty"` // nil: DefaultProbation
	Retry     bool       `json:"retry,omitempty"`     // also if it failed on this device before
	Force     bool       `json:"force,omitempty"`     // do not wait for the window or the lock
}

// Probation is what a family must show before the one that it follows is given up.
type Probation struct {
	Frames    int `json:"frames"`     // that it answers, from 0
	MaxMissed int `json:"max_missed"` // of these, after their deadline
}

// Check tells why no device can obey.
func (p Probation) Check() error {
	if p.Frames < 0 || p.Frames > MaxProbationFrames || p.MaxMissed < 0 {
		return fmt.Errorf("probation: want frames from 0 to %d, and max_missed from 0", MaxProbationFrames)
	}
	return nil
}

// DefaultProbation is that of a command that names none.
func DefaultProbation() Probation { return Probation{Frames: 200, MaxMissed: 20} }

// The bounds of a command of the verb family.
const (
	MaxSourceURLs      = 8
	MaxProbationFrames = 1_000_000
)

// Check tells why no device can obey.
func (u Update) Check() error {
	switch {
	case u.Family == nil:
		return errors.New("the command has no family")
	case !ValidName(u.Family.Name):
		return fmt.Errorf("family.name: %.80q is not [A-Za-z0-9_.-]{1,64}", u.Family.Name)
	case !strings.HasPrefix(u.Family.Digest, "sha256:") || !validDigest(u.Family.Digest[len("sha256:"):]):
		return fmt.Errorf(`family.digest: %.80q is not "sha256:" and 64 hexadecimal digits`, u.Family.Digest)
	case len(u.Sources) > MaxSourceURLs:
		return fmt.Errorf("sources: %d are more than %d", len(u.Sources), MaxSourceURLs)
	}
	for _, s := range u.Sources {
		if at, err := url.Parse(s); err != nil || at.Host == "" || at.Scheme != "http" && at.Scheme != "https" {
			return fmt.Errorf("sources: %.200q is not an http or https URL", s)
		}
	}
	if u.Probation != nil {
		return u.Probation.Check()
	}
	return nil
}

// Proof is the probation that was asked for.
func (u Update) Proof() Probation {
	if u.Probation == nil {
		return DefaultProbation()
	}
	return *u.Probation
}

// UpdatePhase is how far a family is on its way.
type UpdatePhase string

// The phases, in their order.
const (
	UpdateFetching   UpdatePhase = "fetching"   // blobs come
	UpdateVerified   UpdatePhase = "verified"   // all are there, and are what they should be
	UpdateLocked     UpdatePhase = "locked"     // waits for the window or for the update lock
	UpdateActivating UpdatePhase = "activating" // its members are made ready, and take over
	UpdateProbation  UpdatePhase = "probation"  // it answers, and may have to go back
)

// Progress is how far a command of the verb family is.
type Progress struct {
	Step   UpdatePhase `json:"step"`
	Done   int64       `json:"done"`             // bytes of blobs that are there
	Of     int64       `json:"of"`               // bytes of blobs that were missing; 0: not known yet
	Frames int         `json:"frames,omitempty"` // answered on probation
	P95MS  *float64    `json:"p95_ms,omitempty"` // of infer, on probation
	Missed int         `json:"missed,omitempty"` // of the frames, after their deadline
}

// UpdateStep is an update under way.
type UpdateStep struct {
	ID     string      `json:"id"` // of the command
	Family Family      `json:"family"`
	Step   UpdatePhase `json:"step"`
	Detail string      `json:"detail,omitempty"` // what it waits for
}

// LastUpdate is how the last update ended.
type LastUpdate struct {
	ID         string `json:"id"` // of the command
	Family     Family `json:"family"`
	State      Step   `json:"state"` // of the command: a final one
	Reason     Reason `json:"reason,omitempty"`
	Detail     string `json:"detail,omitempty"`
	RolledBack bool   `json:"rolled_back,omitempty"`
	TS         Time   `json:"ts"`
}

// The sizes of what Fetch may ask for, in bytes.
const (
	BlobPart     = 64 << 10  // by default
	MaxBlobParts = 256 << 10 // that who serves holds in flight for one who asks
)

// Fetch asks for a part of the blob that its topic names. It comes under
// Address.Blob; an empty one says that there is no such blob, or nothing at the offset.
type Fetch struct {
	Schema Schema `json:"schema"`
	Offset int64  `json:"offset"` // from 0
	Bytes  int    `json:"bytes"`  // at most, up to MaxBlobParts
}

// Check tells why nothing can be sent.
func (f Fetch) Check() error {
	if f.Offset < 0 || f.Bytes < 1 || f.Bytes > MaxBlobParts {
		return fmt.Errorf("want an offset from 0 and from 1 to %d bytes", MaxBlobParts)
	}
	return nil
}
