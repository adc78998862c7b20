package rollout

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/limber-edge/limber/agent/wire"
)

// The bounds of a spec, so that a Record and each document of it keep theirs.
const (
	maxPhases  = 32
	maxSpec    = 32 << 10             // bytes of JSON
	maxTime    = 365 * 24 * time.Hour // of soak and for, as of commands
	maxObserve = math.MaxUint32       // frames
	missFloor  = 0.005                // under which no limit of misses by the baseline goes: 1.2 times nothing is nothing
)

// Complete is the spec with what it leaves to defaults. Its error is a *wire.Refusal
// and says why no controller can do it.
func Complete(s wire.RolloutSpec) (wire.RolloutSpec, error) {
	only := s.Shadow != nil && s.Shadow.Only
	if len(s.Gates) == 0 {
		s.Gates = defaultGates(s)
	}
	if s.Observe == 0 {
		s.Observe = 200
	}
	switch {
	case s.SoakMS != nil:
	case only:
		s.SoakMS = new(0.0)
	default:
		s.SoakMS = new(wire.Millis(10 * time.Minute))
	}
	switch {
	case len(s.Phases) > 0:
	case only:
		s.Phases = []string{"100%"}
	default:
		s.Phases = []string{"1", "5%", "25%", "100%"}
	}
	if s.ForMS == nil {
		s.ForMS = new(wire.Millis(24 * time.Hour))
	}
	completeShadow(&s)
	if err := check(s); err != nil {
		return s, &wire.Refusal{Reason: wire.Invalid, Err: err}
	}
	return s, nil
}

// defaultGates are all that there are for what is rolled out. The agreement is the first, to
// be named before what comes of it.
func defaultGates(s wire.RolloutSpec) []wire.Gate {
	all := []wire.Gate{{Name: wire.GateAgreement, Limit: "0.97"}, {Name: wire.GateSuccess, Limit: "0.95"},
		{Name: wire.GateMisses, Limit: "1.2x"}, {Name: wire.GateP95, Limit: "1.2x"}}
	switch {
	case s.Shadow != nil && s.Shadow.Only:
		return all[:2]
	case s.Family == nil:
		return all[1:]
	}
	return all
}

// check tells why a complete spec cannot be done.
func check(s wire.RolloutSpec) error {
	for _, check := range []func(wire.RolloutSpec) error{wire.RolloutSpec.Check, checkPhases, checkGates, checkShadow,
		checkTimes, checkUnavailable, checkSize} {
		if err := check(s); err != nil {
			return err
		}
	}
	return nil
}

func checkPhases(s wire.RolloutSpec) error {
	if len(s.Phases) > maxPhases {
		return fmt.Errorf("phases: %d are more than %d", len(s.Phases), maxPhases)
	}
	for _, p := range s.Phases {
		if _, err := parseShare(p); err != nil {
			return fmt.Errorf("phases: %w", err)
		}
	}
	for _, name := range s.Canary {
		if !wire.ValidDevice(name) {
			return fmt.Errorf("canary: %.80q is no name of a device", name)
		}
	}
	return nil
}

func checkGates(s wire.RolloutSpec) error {
	seen := map[string]bool{}
	for _, g := range s.Gates {
		if seen[g.Name] {
			return fmt.Errorf("gates: %s is named twice", g.Name)
		}
		seen[g.Name] = true
		if _, err := parseLimit(g); err != nil {
			return fmt.Errorf("gates: %w", err)
		}
	}
	return nil
}

func checkTimes(s wire.RolloutSpec) error {
	most := wire.Millis(maxTime)
	switch {
	case s.Observe < 1 || s.Observe > maxObserve:
		return fmt.Errorf("observe: %d frames are not in [1, %d]", s.Observe, int64(maxObserve))
	case !(*s.SoakMS >= 0 && *s.SoakMS <= most):
		return fmt.Errorf("soak_ms: %v is not in [0, %.0f]", *s.SoakMS, most)
	case !(*s.ForMS >= 1 && *s.ForMS <= most):
		return fmt.Errorf("for_ms: %v is not in [1, %.0f]", *s.ForMS, most)
	}
	return nil
}

func checkUnavailable(s wire.RolloutSpec) error {
	switch u := s.MaxUnavailable; {
	case u == nil:
		return nil
	case u.N < 1:
		return fmt.Errorf("max_unavailable: %d/%s lets no device start: want a number from 1", u.N, u.Label)
	case !wire.ValidName(u.Label):
		return fmt.Errorf("max_unavailable: the label %.80q is not [A-Za-z0-9_.-]{1,64}", u.Label)
	}
	return nil
}

func checkSize(s wire.RolloutSpec) error {
	b, err := json.Marshal(s)
	if err == nil && len(b) > maxSpec {
		err = fmt.Errorf("spec: %d bytes of JSON are more than %d", len(b), maxSpec)
	}
	return err
}

// share is how much of the devices a phase reaches to, counted from the first.
type share struct {
	devices int     // where percent is 0
	percent float64 // in (0, 100]
}

// parseShare reads a number of devices from 1, or a percentage in (0, 100].
func parseShare(s string) (share, error) {
	if figure, ok := strings.CutSuffix(s, "%"); ok {
		v, err := parseFigure(figure)
		if err != nil || !(v > 0 && v <= 100) {
			return share{}, fmt.Errorf("%.40q is no percentage over 0 and up to 100", s)
		}
		return share{percent: v}, nil
	}
	n, err := strconv.ParseUint(s, 10, 31)
	if err != nil || n == 0 || s[0] == '+' {
		return share{}, fmt.Errorf(`%.40q is neither a number of devices from 1 nor a percentage such as "5%%"`, s)
	}
	return share{devices: int(n)}, nil
}

// of is how many of n devices that is, rounded up.
func (s share) of(n int) int {
	if s.percent == 0 {
		return min(s.devices, n)
	}
	// what a decimal fraction lacks in binary must not round up to a device of its own
	return min(n, max(1, int(math.Ceil(float64(n)*s.percent/100-1e-9))))
}

// sizes are those of the phases of n devices, of which the first phase has the canaries.
// Phases that add nobody are left out.
func sizes(phases []string, canaries, n int) ([]int, error) {
	var sizes []int
	reached := 0
	for i, p := range phases {
		s, err := parseShare(p)
		if err != nil {
			return nil, err
		}
		to := s.of(n)
		if i == 0 {
			to = max(to, canaries)
		}
		if to > reached {
			sizes = append(sizes, to-reached)
			reached = to
		}
	}
	if reached < n {
		return nil, fmt.Errorf("phases: %s reach %d of %d devices: end with 100%%", strings.Join(phases, ","), reached, n)
	}
	return sizes, nil
}

// limit is a gate's, read.
type limit struct {
	figure   float64
	relative bool // figure is times the baseline
}

// parseLimit reads the limit of a gate: agreement and success a fraction, misses a fraction
// or times the baseline, p95 milliseconds or times the baseline.
func parseLimit(g wire.Gate) (limit, error) {
	figure, relative := strings.CutSuffix(g.Limit, "x")
	v, err := parseFigure(figure)
	fraction := v >= 0 && v <= 1
	share := g.Name == wire.GateAgreement || g.Name == wire.GateSuccess
	switch {
	case !share && g.Name != wire.GateMisses && g.Name != wire.GateP95:
		return limit{}, fmt.Errorf("%.40q is none of agreement, success, misses, p95", g.Name)
	case err != nil:
		return limit{}, fmt.Errorf("%s: %.40q is no figure", g.Name, g.Limit)
	case share && relative:
		return limit{}, fmt.Errorf("%s: %.40q: it has no baseline, want a fraction", g.Name, g.Limit)
	case share && !fraction:
		return limit{}, fmt.Errorf("%s: %.40q is not in [0, 1]", g.Name, g.Limit)
	case g.Name == wire.GateMisses && !relative && !fraction:
		return limit{}, fmt.Errorf("misses: %.40q is not in [0, 1]; %.40sx is times the hour before", g.Limit, g.Limit)
	case (relative || g.Name == wire.GateP95) && !(v > 0):
		return limit{}, fmt.Errorf("%s: %.40q is not over 0", g.Name, g.Limit)
	}
	return limit{v, relative}, nil
}

// parseFigure reads a plain decimal figure from 0, such as 1.2, of at most 16 characters.
func parseFigure(s string) (float64, error) {
	if s == "" || len(s) > 16 || strings.Trim(s, "0123456789.") != "" {
		return 0, fmt.Errorf("%.40q is no figure", s)
	}
	return strconv.ParseFloat(s, 64)
}

// ParseGate reads NAME=LIMIT, such as misses=1.2x.
func ParseGate(s string) (wire.Gate, error) {
	name, figure, ok := strings.Cut(s, "=")
	g := wire.Gate{Name: name, Limit: figure}
	if !ok {
		return g, fmt.Errorf("%.80q is not NAME=LIMIT, such as misses=1.2x", s)
	}
	_, err := parseLimit(g)
	return g, err
}

// ParseUnavailable reads N/LABEL, such as 1/site.
func ParseUnavailable(s string) (wire.Unavailable, error) {
	number, label, ok := strings.Cut(s, "/")
	n, err := strconv.Atoi(number)
	u := wire.Unavailable{N: n, Label: label}
	if !ok || err != nil {
		return u, fmt.Errorf("%.80q is not N/LABEL, such as 1/site", s)
	}
	return u, checkUnavailable(wire.RolloutSpec{MaxUnavailable: &u})
}

// ParseProbation reads FRAMES/MAX_MISSED, such as 200/20.
func ParseProbation(s string) (wire.Probation, error) {
	frames, missed, ok := strings.Cut(s, "/")
	f, err := strconv.Atoi(frames)
	m, e := strconv.Atoi(missed)
	if !ok || err != nil || e != nil {
		return wire.Probation{}, fmt.Errorf("%.80q is not FRAMES/MAX_MISSED, such as 200/20", s)
	}
	p := wire.Probation{Frames: f, MaxMissed: m}
	return p, p.Check()
}

// ordered are the names in the order in which they take a rollout: the canaries as they
// were named, then the others by the SHA-256 of the rollout's id and their name, so that
// no device is always the first.
func ordered(id string, canary, names []string) []string {
	ranks := make(map[string]string, len(names))
	for _, name := range names {
		ranks[name] = rank(id, name)
	}
	for i, name := range slices.Backward(canary) {
		ranks[name] = fmt.Sprintf("!%08d", i) // before every other, and the first of those named twice
	}
	slices.SortFunc(names, func(a, b string) int { return cmp.Compare(ranks[a], ranks[b]) })
	return names
}
