package family

import (
	"cmp"
	"slices"
	"time"
)

// Profile is what the members of a family cost on one device, unloaded: one image
// at a time and, where they take several, in batches.
type Profile struct {
	Schema        int             `json:"schema"`
	Family        Digest          `json:"family"`
	Runtime       string          `json:"runtime"` // ONNX Runtime version
	Options       string          `json:"options"` // the Variant, "cpu/1"
	Taken         time.Time       `json:"taken"`
	OthersPercent *float64        `json:"others_percent,omitempty"` // CPU that other processes used meanwhile
	Rounds        int             `json:"rounds"`                   // measured runs of each member
	Batch         int             `json:"batch"`                    // images of a run in a batch
	Members       []MemberProfile `json:"members"`                  // in the family's order
}

// MemberProfile is one member's share of a profile.
type MemberProfile struct {
	Name  string  `json:"name"`
	P50ms float64 `json:"p50_ms"`
	P95ms float64 `json:"p95_ms"`
	CV    float64 `json:"cv"`              // coefficient of variation: standard deviation over mean of the runs
	Batch float64 `json:"batch_ms"`        // median of a run in a batch, all its images together; 0: it takes one only
	Fault string  `json:"fault,omitempty"` // why the member cannot be used on this device; then nothing was measured
}

// Fits tells whether the profile was taken of this family, by this runtime,
// with these options; otherwise it must be taken again.
func (p *Profile) Fits(f *Family, runtime, options string) bool {
	if p.Schema != Schema || p.Family != f.Digest() || p.Runtime != runtime || p.Options != options || p.Batch != Batch ||
		len(p.Members) != len(f.Members) {
		return false
	}
	for i, m := range p.Members {
		if m.Name != f.Members[i].Name || (m.Fault == "" && !(m.P50ms > 0)) {
			return false
		}
	}
	return true
}

// Front returns the indices of the members worth choosing among on the device:
// those that no other one beats in both latency and top-1, by rising latency.
func (p *Profile) Front(f *Family) []int {
	var usable []int
	var points []Point
	for i, m := range p.Members {
		if m.Fault == "" {
			usable = append(usable, i)
			points = append(points, Point{Cost: m.P50ms, Top1: f.Members[i].Top1})
		}
	}
	front := Pareto(points)
	for at, i := range front {
		front[at] = usable[i]
	}
	return front
}

// Point is a candidate's place in the plane that a search looks at.
type Point struct {
	Cost float64 // milliseconds, or millions of multiply-accumulates
	Top1 float64 // fraction
}

// Pareto returns the indices of the points that no other point beats, by
// rising cost: each is strictly more accurate than every cheaper one. Of equal
// points the first stays.
func Pareto(points []Point) []int {
	order := make([]int, len(points))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		return cmp.Or(cmp.Compare(points[a].Cost, points[b].Cost), cmp.Compare(points[b].Top1, points[a].Top1))
	})
	var front []int
	for _, i := range order {
		if len(front) == 0 || points[i].Top1 > points[front[len(front)-1]].Top1 {
			front = append(front, i)
		}
	}
	return front
}
