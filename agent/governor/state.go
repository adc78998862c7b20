package governor

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"
)

// Experience is what a governor learned of a device that outlives a restart.
// What it believes of this moment is no part of it.
type Experience struct {
	Met   []float64             `json:"met"`   // how usual each load is here
	Jump  float64               `json:"jump"`  // chance per inference that the load changes
	Trust float64               `json:"trust"` // in a change of the hint
	Hints [][]float64           `json:"hints"` // loads met under each hint, in inferences
	Bias  map[string]Correction `json:"bias"`  // of the members' profiles, by name
}

// Correction is by how much a profile was found to be off.
type Correction struct {
	Profile time.Duration `json:"profile"` // that it was learned with
	Log     float64       `json:"log"`     // natural logarithm of the factor
	Seen    float64       `json:"seen"`    // inferences it was learned from
}

// Experience is what was learned so far.
func (g *View) Experience() Experience {
	e := Experience{Met: slices.Clone(g.grid.met[:]), Jump: g.grid.jump, Trust: g.grid.hint.Trust,
		Bias: map[string]Correction{}}
	for _, seen := range g.grid.hint.Seen { // a copy, as is each seen
		e.Hints = append(e.Hints, seen[:])
	}
	for j, m := range g.members {
		b := g.grid.single[j].bias
		e.Bias[m.Name] = Correction{Profile: m.Latency, Log: b.log, Seen: b.seen}
	}
	return e
}

// Remember takes up what an earlier governor of this device learned, before the
// first job. Corrections of members that were profiled anew do not count. An
// error leaves everything as it was: the experience is of another version, or
// damaged.
func (g *Governor) Remember(e Experience) error {
	if len(e.Met) != levels || len(e.Hints) != hints {
		return fmt.Errorf("experience of %d loads and %d hints, this version knows %d and %d", len(e.Met), len(e.Hints),
			levels, hints)
	}
	met, err := share(e.Met)
	if err != nil {
		return fmt.Errorf("experience: loads met: %w", err)
	}
	if !(e.Trust >= leastTrust && e.Trust <= mostTrust) || !(e.Jump >= leastJump && e.Jump <= mostJump) {
		return fmt.Errorf("experience: trust %v or chance of a change %v is out of range", e.Trust, e.Jump)
	}
	h := hint{Trust: e.Trust}
	for load, seen := range e.Hints {
		if _, err := share(seen); err != nil {
			return fmt.Errorf("experience: hint %d: %w", load, err)
		}
		copy(h.Seen[load][:], seen)
	}
	g.grid.met, g.grid.jump, g.grid.hint = met, e.Jump, h
	for j, m := range g.members {
		if c := e.Bias[m.Name]; c.Profile == m.Latency && math.Abs(c.Log) <= biasRange && c.Seen >= 0 &&
			c.Seen <= biasMemory {
			g.grid.single[j].bias = bias{log: c.Log, seen: c.Seen}
			g.grid.adjust(j)
		}
	}
	return nil
}

// share makes probabilities of weights that have a sum.
func share(weights []float64) (b belief, err error) {
	if len(weights) != levels {
		return b, fmt.Errorf("%d weights of %d loads", len(weights), levels)
	}
	sum := 0.0
	for k, w := range weights {
		if !(w >= 0 && w <= 1e6) {
			return b, fmt.Errorf("weight %v of load %d is out of range", w, k)
		}
		b[k] = w
		sum += w
	}
	if sum == 0 {
		return b, errors.New("all weights are 0")
	}
	return normalised(b), nil
}

// snapshot is everything that a Governor's decisions depend on, but for what
// follows from it. Its fields are those of Governor and Grid.
type snapshot struct {
	Revision   int // 0 in those of versions before it
	Members    []Member
	Kind       kind
	Fixed      string
	Goal       Goal
	Eligible   set
	Power      Power
	Arrivals   rate
	Demand     rate
	Jobs       rate
	Waited     time.Duration
	Steady     belief
	Crowd      float64
	Pace       float64
	UsualSlack time.Duration
	UsualAt    time.Duration
	Standing   standing
	Runs       contradiction
	Scale      float64
	Observed   bool
	Running    bool
	Last       time.Duration

	Single    []timingState
	Batch     []timingState // of profile 0 where there is none
	Met       belief
	Jump      float64
	Filtered  belief
	Predicted belief
	Hint      hint
}

type timingState struct{ Profile, Log, Seen float64 }

func (t *timing) state() timingState { return timingState{t.profile, t.bias.log, t.bias.seen} }

func (t *timing) restore(s timingState) {
	if s.Profile > 0 && s.Profile != t.profile {
		*t = timing{profile: s.Profile, table: newTable(s.Profile)}
	}
	t.bias = bias{log: s.Log, seen: s.Seen}
}

// Snapshot is the state of g as JSON, from which Restore makes a governor that
// decides the same, bit for bit. It belongs to this version of the package.
func (g *Governor) Snapshot() ([]byte, error) {
	d := g.grid
	s := snapshot{
		Revision: g.revision, Members: g.members, Kind: g.mode.kind, Fixed: g.mode.member, Goal: g.mode.goal,
		Eligible: g.eligible, Power: g.power,
		Arrivals: g.arrivals, Demand: g.demand, Jobs: g.jobs, Waited: g.waited, Steady: g.steady,
		Crowd: g.crowd, Pace: g.pace, UsualSlack: g.usual.slack, UsualAt: g.usual.at,
		Standing: g.standing, Runs: g.profile, Scale: g.scale, Observed: g.observed, Running: g.running, Last: g.last,
		Met: d.met, Jump: d.jump, Filtered: d.filtered, Predicted: d.predicted, Hint: d.hint,
	}
	for j := range d.single {
		s.Single = append(s.Single, d.single[j].state())
		s.Batch = append(s.Batch, d.batch[j].state())
	}
	return json.Marshal(s)
}

// Restore makes a governor of a Snapshot.
func Restore(b []byte) (*Governor, error) {
	var s snapshot
	if err := json.Unmarshal(b, &s); err != nil {
		return nil, fmt.Errorf("snapshot of a governor: %w", err)
	}
	if s.Revision < 0 || s.Revision > newest {
		return nil, fmt.Errorf("snapshot of a governor: revision %d of its rules, this version knows 0 to %d", s.Revision,
			newest)
	}
	if s.Kind > fixed || s.Goal.Prefer > Energy || (s.Kind == fixed) != (s.Fixed != "") {
		return nil, fmt.Errorf("snapshot of a governor: mode %d with member %q, or preference %d, is not known", s.Kind,
			s.Fixed, s.Goal.Prefer)
	}
	g, err := New(s.Members, Mode{kind: s.Kind, member: s.Fixed, goal: s.Goal}, nil)
	if err != nil {
		return nil, fmt.Errorf("snapshot of a governor: %w", err)
	}
	n := len(s.Members)
	if len(s.Single) != n || len(s.Batch) != n || s.Standing.Member < -1 || s.Standing.Member >= n ||
		s.Standing.Told < -1 || s.Standing.Told >= n || s.Eligible == 0 || s.Eligible&^all(n) != 0 || s.Hint.Load < 0 ||
		s.Hint.Load >= hints {
		return nil, fmt.Errorf("snapshot of a governor: it does not fit its %d members", n)
	}
	g.revision = s.Revision
	g.eligible, g.power, g.waited, g.steady, g.crowd, g.pace = s.Eligible, s.Power, s.Waited, s.Steady, s.Crowd, s.Pace
	for r, from := range map[*rate]rate{&g.arrivals: s.Arrivals, &g.demand: s.Demand, &g.jobs: s.Jobs} {
		r.PerMS, r.Last = from.PerMS, from.Last
	}
	g.usual = usual{slack: s.UsualSlack, at: s.UsualAt}
	g.standing, g.profile = s.Standing, s.Runs
	g.scale, g.observed, g.running, g.last = s.Scale, s.Observed, s.Running, s.Last
	return g, g.grid.restore(&s)
}

func (g *Grid) restore(s *snapshot) error {
	for j := range g.single {
		if p := s.Single[j].Profile; !(p > 0) {
			return fmt.Errorf("snapshot of a governor: profile %v ms of member %d", p, j)
		}
		g.single[j].restore(s.Single[j])
		g.batch[j].restore(s.Batch[j])
		g.adjust(j)
	}
	g.met, g.jump, g.filtered, g.predicted, g.hint = s.Met, s.Jump, s.Filtered, s.Predicted, s.Hint
	return nil
}
