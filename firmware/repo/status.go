package repo

import (
	"encoding/hex"
	"slices"
	"strings"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"
)

// RoleStatus is what is visible of a role.
type RoleStatus struct {
	Role       Role      `json:"role"`
	Version    int64     `json:"version"` // 0: there is nothing yet
	Expires    time.Time `json:"expires,omitzero"`
	Days       float64   `json:"days"` // until then; under 0 it has expired
	Signatures int       `json:"signatures"`
	Threshold  int       `json:"threshold"`
	Keys       []string  `json:"keys"`              // that may sign
	Waiting    *Waiting  `json:"waiting,omitempty"` // the next version
}

// Target is what devices may take.
type Target struct {
	Target string `json:"target"`
	SHA256 string `json:"sha256"`
	Bytes  int64  `json:"bytes"`
}

// Status tells of every role, in the order of Roles.
func (r *Repository) Status() (all []RoleStatus) {
	waiting := r.Waiting()
	for _, role := range Roles() {
		h := headOf(r.published[role])
		s := RoleStatus{Role: role, Version: h.Signed.Version, Expires: h.Signed.Expires, Keys: []string{}}
		from := r.published
		if s.Version == 0 {
			from = r.staged
		} else {
			s.Days = float64(s.Expires.Sub(r.now)/time.Hour) / 24
		}
		ids, threshold := from.signers(role)
		s.Keys, s.Threshold, s.Signatures = append(s.Keys, ids...), threshold, signatures(r.published[role], ids)
		if i := slices.IndexFunc(waiting, func(w Waiting) bool { return w.Role == role }); i >= 0 {
			s.Waiting = &waiting[i]
		}
		all = append(all, s)
	}
	return all
}

// Targets lists what devices may take, by name.
func (r *Repository) Targets() []Target { return r.published.list() }

func (s set) list() (all []Target) {
	for _, role := range []Role{Releases, Families} {
		if t, err := s.targets(role); err == nil {
			all = append(all, listTargets(t.Signed.Targets)...)
		}
	}
	slices.SortFunc(all, func(a, b Target) int { return strings.Compare(a.Target, b.Target) })
	return all
}

func listTargets(targets map[string]*metadata.TargetFiles) (all []Target) {
	for name, t := range targets {
		all = append(all, Target{name, hex.EncodeToString(t.Hashes["sha256"]), t.Length})
	}
	return all
}

// Change is a target that what waits would add, or take away.
type Change struct {
	Target
	Withdrawn bool `json:"withdrawn,omitempty"`
}

// Changes are the targets that what waits adds and takes away: what who signs agrees to.
func (r *Repository) Changes() (all []Change) {
	before := r.published.list()
	after := r.all().list()
	for _, t := range after {
		if !slices.Contains(before, t) {
			all = append(all, Change{Target: t})
		}
	}
	for _, t := range before {
		if !slices.Contains(after, t) {
			all = append(all, Change{t, true})
		}
	}
	return all
}
