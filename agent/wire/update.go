package wire

import (
	"cmp"
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
	Shadow    *Shadow    `json:"shadow,omitempty"`    // nil: it is not compared with the one in use
	Probation *Probation `json:"probation,omitempty"` // nil: DefaultProbation
	Retry     bool       `json:"retry,omitempty"`     // also if it failed on this device before
	Force     bool       `json:"force,omitempty"`     // do not wait for the window or the lock
}

// Shadow is how a family is compared with the one in use before anything is changed: it
// answers frames that the other one has answered, for nobody to see.
type Shadow struct {
	Percent *float64 `json:"percent,omitempty"` // of the frames answered, and of a processor's time, at most; nil: 10
	Frames  *int     `json:"frames,omitempty"`  // that both must have answered; nil: 200
	// Agreement is the least share of these with the same first class, in [0, 1]; nil: it is
	// only told.
	Agreement *float64 `json:"agreement,omitempty"`
	// Only ends the command after that, as succeeded: the family is not taken into use.
	Only bool `json:"only,omitempty"`
}

// Share is the percentage that was asked for, in (0, 100].
func (s Shadow) Share() float64 {
	if s.Percent == nil {
		return 10
	}
	return *s.Percent
}

// Wants is how many frames both must have answered, from 1.
func (s Shadow) Wants() int {
	if s.Frames == nil {
		return 200
	}
	return *s.Frames
}

// Check tells why no device can obey.
func (s Shadow) Check() error {
	switch {
	case !(s.Share() > 0 && s.Share() <= 100):
		return fmt.Errorf("shadow.percent: %v is not in (0, 100]", s.Share())
	case s.Wants() < 1 || s.Wants() > MaxShadowFrames:
		return fmt.Errorf("shadow.frames: want from 1 to %d", MaxShadowFrames)
	case s.Agreement != nil && !(*s.Agreement >= 0 && *s.Agreement <= 1):
		return fmt.Errorf("shadow.agreement: %v is not in [0, 1]", *s.Agreement)
	}
	return nil
}

// Agreement is what came of comparing a family with the one in use.
type Agreement struct {
	Frames int `json:"frames"` // that both answered
	Agreed int `json:"agreed"` // of these, with the same first class, by its label
	// Agreement is the share of those, in [0, 1], to six decimal places; absent without frames.
	Agreement *float64 `json:"agreement,omitempty"`
	P95MS     *float64 `json:"p95_ms,omitempty"` // of the new family's infer; absent without frames
	// Missed of the frames would have been answered after their deadline: the queue as it
	// was, and the new family's decode and infer.
	Missed int `json:"missed"`
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

// ReleaseOrder is what a command of the verb release asks for: that another release of the
// program runs on a device, and the one before again if it does not prove itself. Until
// the command's expiry it must be on trial; how long that may take the device says.
type ReleaseOrder struct {
	Version   string `json:"version,omitempty"`
	Digest    string `json:"digest,omitempty"`    // of its manifest: "sha256:" and hex digits
	Downgrade bool   `json:"downgrade,omitempty"` // also if it is older than the one that runs
	OneWay    bool   `json:"one_way,omitempty"`   // also if the one that runs cannot read the state that it leaves
}

// Check tells why no device can obey.
func (o ReleaseOrder) Check() error {
	if !ValidName(o.Version) {
		return fmt.Errorf("version: %.80q is not [A-Za-z0-9_.-]{1,64}", o.Version)
	}
	return checkDigest("digest", o.Digest)
}

// Release names a release of the program, and the digest of its manifest.
type Release struct {
	Version string `json:"version"`
	Digest  string `json:"digest,omitempty"` // absent of the program that was installed as a package
	Slot    string `json:"slot,omitempty"`   // of the one that runs: "a", "b", or "package"
}

// The bounds of a command of the verb family or release.
const (
	MaxSourceURLs      = 8
	MaxProbationFrames = 1_000_000
	MaxShadowFrames    = 1_000_000
)

// Check tells why no device can obey.
func (u Update) Check() error {
	switch {
	case u.Family == nil:
		return errors.New("the command has no family")
	case !ValidName(u.Family.Name):
		return fmt.Errorf("family.name: %.80q is not [A-Za-z0-9_.-]{1,64}", u.Family.Name)
	}
	return cmp.Or(checkDigest("family.digest", u.Family.Digest), checkSources(u.Sources), u.Proof().Check(),
		u.checkShadow())
}

func checkDigest(field, d string) error {
	if digits, ok := strings.CutPrefix(d, "sha256:"); !ok || !validDigest(digits) {
		return fmt.Errorf(`%s: %.80q is not "sha256:" and 64 hexadecimal digits`, field, d)
	}
	return nil
}

func checkSources(urls []string) error {
	if len(urls) > MaxSourceURLs {
		return fmt.Errorf("sources: %d are more than %d", len(urls), MaxSourceURLs)
	}
	for _, s := range urls {
		if at, err := url.Parse(s); err != nil || at.Host == "" || at.Scheme != "http" && at.Scheme != "https" {
			return fmt.Errorf("sources: %.200q is not an http or https URL", s)
		}
	}
	return nil
}

func (u Update) checkShadow() error {
	if u.Shadow == nil {
		return nil
	}
	return u.Shadow.Check()
}

// Proof is the probation that was asked for.
func (u Update) Proof() Probation {
	if u.Probation == nil {
		return DefaultProbation()
	}
	return *u.Probation
}

// UpdatePhase is how far a family or a release is on its way.
type UpdatePhase string

// The phases, in their order.
const (
	UpdateFetching   UpdatePhase = "fetching"   // blobs come
	UpdateVerified   UpdatePhase = "verified"   // all are there, and are what they should be
	UpdateShadow     UpdatePhase = "shadow"     // of a family: it is compared with the one in use, and answers nobody
	UpdateLocked     UpdatePhase = "locked"     // waits for the window or for the update lock
	UpdateActivating UpdatePhase = "activating" // its members are made ready, and take over; the program ends for it
	UpdateProbation  UpdatePhase = "probation"  // of a family: it answers, and may have to go back
	UpdateTrial      UpdatePhase = "trial"      // of a release: it runs, and may have to go back
)

// Progress is how far a command of the verb family or release is.
type Progress struct {
	Step   UpdatePhase `json:"step"`
	Done   int64       `json:"done"`             // bytes of blobs that are there
	Of     int64       `json:"of"`               // bytes of blobs that were missing; 0: not known yet
	Frames int         `json:"frames,omitempty"` // answered on probation, or on trial
	P95MS  *float64    `json:"p95_ms,omitempty"` // of infer, on probation
	Missed int         `json:"missed,omitempty"` // of the frames, after their deadline
}

// UpdateStep is an update under way.
type UpdateStep struct {
	ID      string      `json:"id"`                // of the command
	Family  Family      `json:"family,omitzero"`   // one of the two
	Release *Release    `json:"release,omitempty"` // likewise
	Step    UpdatePhase `json:"step"`
	Detail  string      `json:"detail,omitempty"` // what it waits for
}

// LastUpdate is how the last update ended.
type LastUpdate struct {
	ID         string     `json:"id"`                // of the command
	Family     Family     `json:"family,omitzero"`   // one of the two
	Release    *Release   `json:"release,omitempty"` // likewise
	State      Step       `json:"state"`             // of the command: a final one
	Reason     Reason     `json:"reason,omitempty"`
	Detail     string     `json:"detail,omitempty"`
	Shadow     *Agreement `json:"shadow,omitempty"` // of a family that was compared
	RolledBack bool       `json:"rolled_back,omitempty"`
	TS         Time       `json:"ts"`
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
