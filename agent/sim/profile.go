package sim

import (
	"bytes"
	_ "embed" // the example
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"time"

	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/firmware/slot"
)

// Profile is what simulated devices run and what befalls them. A file has it as JSON;
// Example is one.
type Profile struct {
	// Families are what devices can run. They start with the first.
	Families []Family `json:"families"`
	// Load comes and goes on the machine that all devices share, stage by stage and then
	// from the start again. None: there is none.
	Load []Stage `json:"load,omitempty"`
	// FPS is frames a second that each device is sent, by a camera beside it; 0: none.
	FPS        float64 `json:"fps"`
	DeadlineMS float64 `json:"deadline_ms"` // of each frame
	// Releases are those of the program that fail.
	Releases []Release `json:"releases,omitempty"`
}

// Family is one whose members only take their time.
type Family struct {
	Name    string   `json:"name"`
	Classes int      `json:"classes"`
	Members []Member `json:"members"` // by rising top-1
	// Fails is how it does not prove itself on a device; empty: by what its members take, or
	// not at all.
	Fails Failure `json:"fails,omitempty"`
}

// Failure is how a family does not prove itself.
type Failure string

// The ways in which families fail.
const (
	Misses Failure = "misses" // every inference takes twice the deadline of a frame
	Canary Failure = "canary" // each member gives other logits than it must
)

// Member is one of them.
type Member struct {
	Name      string  `json:"name"`
	Top1      float64 `json:"top1"`       // in (0, 1]
	LatencyMS float64 `json:"latency_ms"` // of an inference, as it was measured without load
	// TakesMS is what an inference takes without load, where that is not what was measured:
	// such a member misses deadlines that it promises to keep. 0: LatencyMS.
	TakesMS float64 `json:"takes_ms,omitempty"`
	// LoadMS is what it takes until the member can run; 0: nothing.
	LoadMS float64 `json:"load_ms,omitempty"`
	// CV is the coefficient of variation of what inferences take, which is log-normal.
	CV float64 `json:"cv,omitempty"`
	// Agreement is the share of pictures that the member gives to the class that all others
	// do, in (0, 1]; 0: all.
	Agreement float64 `json:"agreement,omitempty"`
	// KiB is the size of its model, which a device fetches that does not have it; 0: 1.
	KiB int `json:"kib,omitempty"`
}

// Stage is a time of one load.
type Stage struct {
	Seconds  float64 `json:"seconds"`
	Slowdown float64 `json:"slowdown"` // of each inference, over what it takes without load
	// CPUPercent is what other programs take of the processors, in percent.
	CPUPercent float64 `json:"cpu_percent,omitempty"`
	// MemoryPercent is how much of the memory is left, in percent; 0: half.
	MemoryPercent float64 `json:"memory_percent,omitempty"`
}

// Example is a profile with two families, of which the second misses deadlines on
// purpose.
//
//go:embed example.json
var Example []byte

// Limits of a profile: no device in the field is beyond them.
const (
	maxFamilies = 16
	maxReleases = 1000
	maxClasses  = 1000
	maxStages   = 1000
	maxMillis   = 600_000 // ms, of an inference and of a deadline
	maxModel    = 1 << 16 // KiB
	maxFPS      = 1000
	maxStage    = 86_400 // s
)

// ParseProfile reads a file strictly, and joins every complaint about it.
func ParseProfile(b []byte) (*Profile, error) {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	p := new(Profile)
	err := d.Decode(p)
	if err == nil {
		if _, more := d.Token(); !errors.Is(more, io.EOF) {
			err = errors.New("something follows the profile")
		}
	}
	if err == nil {
		err = p.check()
	}
	if err != nil {
		return nil, fmt.Errorf("profile: %w", err)
	}
	return p, nil
}

// Fail has a family of the profile, or else the release of a version, fail on each device,
// whatever the profile says of it.
func (p *Profile) Fail(name, how string) error {
	is := slices.IndexFunc(p.Families, func(f Family) bool { return f.Name == name })
	if is >= 0 {
		p.Families[is].Fails = Failure(how)
		return p.check()
	}
	p.Releases = slices.DeleteFunc(p.Releases, func(r Release) bool { return r.Version == name })
	p.Releases = append(p.Releases, Release{name, slot.Reason(how)})
	return p.check()
}

func (p *Profile) check() error {
	var errs []error
	complain := func(bad bool, format string, args ...any) {
		if bad {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	complain(len(p.Families) < 1 || len(p.Families) > maxFamilies, "%d families: wants 1 to %d", len(p.Families),
		maxFamilies)
	complain(len(p.Load) > maxStages, "%d stages of load: wants at most %d", len(p.Load), maxStages)
	complain(!within(p.FPS, 0, maxFPS), "fps %v: wants frames a second from 0 to %d", p.FPS, maxFPS)
	complain(!within(p.DeadlineMS, 1, maxMillis), "deadline_ms %v: wants 1 to %d", p.DeadlineMS, maxMillis)
	seen := map[string]bool{}
	for i, f := range p.Families {
		complain(i == 0 && f.Fails != "", "family %q: fails: devices start with it, so it must not", f.Name)
		complain(seen[f.Name], "family %q: the name is taken", f.Name)
		seen[f.Name] = true
		if err := f.check(); err != nil {
			errs = append(errs, fmt.Errorf("family %q: %w", f.Name, err))
		}
	}
	complain(len(p.Releases) > maxReleases, "%d releases: wants at most %d", len(p.Releases), maxReleases)
	for _, r := range p.Releases {
		if err := r.check(); err != nil {
			errs = append(errs, err)
		}
	}
	for i, s := range p.Load {
		complain(!within(s.Seconds, 0.1, maxStage), "load %d: seconds %v: wants 0.1 to %d", i, s.Seconds, maxStage)
		complain(!within(s.Slowdown, 0.1, 100), "load %d: slowdown %v: wants 0.1 to 100; 1 is none", i, s.Slowdown)
		complain(!within(s.CPUPercent, 0, 100), "load %d: cpu_percent %v is not from 0 to 100", i, s.CPUPercent)
		complain(!within(s.MemoryPercent, 0, 100), "load %d: memory_percent %v is not from 0 to 100", i, s.MemoryPercent)
	}
	return errors.Join(errs...)
}

// within is false for what is no number.
func within(v, least, most float64) bool { return v >= least && v <= most }

// check judges what the manifest of the family cannot: that is held to its own rules.
func (f Family) check() error {
	var errs []error
	if f.Classes > maxClasses {
		errs = append(errs, fmt.Errorf("%d classes: wants at most %d", f.Classes, maxClasses))
	}
	if f.Fails != "" && f.Fails != Misses && f.Fails != Canary {
		errs = append(errs, fmt.Errorf("fails %q: wants %s or %s", f.Fails, Misses, Canary))
	}
	if len(f.Members) > family.MaxMembers {
		errs = append(errs, fmt.Errorf("%d members: wants at most %d", len(f.Members), family.MaxMembers))
	}
	for _, m := range f.Members {
		if !within(m.LatencyMS, 0.01, maxMillis) || m.TakesMS != 0 && !within(m.TakesMS, 0.01, maxMillis) {
			errs = append(errs, fmt.Errorf("member %q: latency_ms %v and takes_ms %v: want 0.01 to %d", m.Name, m.LatencyMS,
				m.TakesMS, maxMillis))
		}
		if !within(m.LoadMS, 0, maxMillis) {
			errs = append(errs, fmt.Errorf("member %q: load_ms %v: wants 0 to %d", m.Name, m.LoadMS, maxMillis))
		}
		if !within(m.CV, 0, 1) || !within(m.Agreement, 0, 1) {
			errs = append(errs, fmt.Errorf("member %q: cv %v and agreement %v: want fractions", m.Name, m.CV, m.Agreement))
		}
		if m.KiB < 0 || m.KiB > maxModel {
			errs = append(errs, fmt.Errorf("member %q: kib %d: wants 0 to %d", m.Name, m.KiB, maxModel))
		}
	}
	if errs == nil {
		errs = append(errs, f.manifest(family.MemoryBlobs{}).Validate())
	}
	return errors.Join(errs...)
}

// side is that of a member's input, in pixels: as little as a frame can have and still
// differ from another.
const side = 8

// manifest is the family as devices and operators know it, whose members are foreign
// models that nobody can run. Its blobs are added.
func (f Family) manifest(blobs family.MemoryBlobs) *family.Family {
	m := &family.Family{Schema: family.Schema, Name: f.Name,
		Describe: json.RawMessage(`{"mean":[0,0,0],"std":[1,1,1],"resize":"bilinear","antialias":false,"crop":"none"}`)}
	for c := range f.Classes {
		m.Classes = append(m.Classes, fmt.Sprintf("class-%d", c))
	}
	for _, of := range f.Members {
		said := fmt.Appendf(nil, "simulated member %s of family %s\n", of.Name, f.Name)
		model := bytes.Repeat(said, 1+max(1, of.KiB)<<10/len(said))[:max(1, of.KiB)<<10]
		m.Members = append(m.Members, family.Member{Name: of.Name, Arch: family.Arch{R: side}, Top1: of.Top1, Top5: 1,
			Model: blobs.Add(model), Canary: blobs.Add(said), Input: "input", Output: "logits"})
	}
	return m
}

// Folder is the i-th family with its blobs, as a program carries one and as it is rolled
// out.
func (p *Profile) Folder(i int) (*family.Folder, error) {
	blobs := family.MemoryBlobs{}
	manifest := p.Families[i].manifest(blobs)
	var b bytes.Buffer
	if err := family.Pack(&b, manifest, blobs, func(family.Digest) bool { return false }); err != nil {
		return nil, err
	}
	return family.OpenPack(bytes.NewReader(b.Bytes()), int64(b.Len()))
}

// stage is the load at a time after the start.
func (p *Profile) stage(at time.Duration) Stage {
	var round float64
	for _, s := range p.Load {
		round += s.Seconds
	}
	if round > 0 {
		left := math.Mod(at.Seconds(), round)
		for _, s := range p.Load {
			if left -= s.Seconds; left < 0 {
				return s
			}
		}
	}
	return Stage{Slowdown: 1}
}
