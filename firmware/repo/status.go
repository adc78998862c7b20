package repo

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/limber-edge/limber/family"
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
			s.Days = s.Expires.Sub(r.now).Hours() / 24
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

// Manifests are the digests of those that devices may take of a version, by architecture.
func (r *Repository) Manifests(version string) map[string]family.Digest {
	all := map[string]family.Digest{}
	for _, t := range r.Targets() {
		if arch, ok := archOf(t.Target, version); ok {
			all[arch] = family.Digest(t.SHA256)
		}
	}
	return all
}

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

// Changes say what would be different if all that waits were visible: what whoever signs
// agrees to.
func (r *Repository) Changes() (all []string) {
	next := r.all()
	for _, role := range Roles() {
		was, of := r.published.signers(role)
		will, wants := next.signers(role)
		for _, id := range without(will, was) {
			all = append(all, fmt.Sprintf("key %s may sign for %s", id[:min(8, len(id))], role))
		}
		for _, id := range without(was, will) {
			all = append(all, fmt.Sprintf("key %s may not sign for %s any more", id[:min(8, len(id))], role))
		}
		if of != wants {
			all = append(all, fmt.Sprintf("%d must sign for %s, %d before", wants, role, of))
		}
	}
	was, will := r.published.list(), next.list()
	for _, t := range without(will, was) {
		all = append(all, fmt.Sprintf("%s is %s", t.Target, t.SHA256))
	}
	for _, t := range without(was, will) {
		all = append(all, fmt.Sprintf("%s is not %s any more", t.Target, t.SHA256))
	}
	return all
}

// without are those of a list that another one lacks.
func without[T comparable](list, other []T) (rest []T) {
	for _, one := range list {
		if !slices.Contains(other, one) {
			rest = append(rest, one)
		}
	}
	return rest
}
