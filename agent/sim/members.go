package sim

import (
	"fmt"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/limber-edge/limber/family"
)

// members are those of the families of a profile, on one machine.
type members struct {
	families map[family.Digest]Family
	machine  *machine
}

func newMembers(p *Profile, m *machine) members {
	known := members{families: map[family.Digest]Family{}, machine: m}
	for _, f := range p.Families {
		digest := f.manifest(family.MemoryBlobs{}).Digest()
		if f.Fails == Misses {
			f.Members = slices.Clone(f.Members)
			for i := range f.Members {
				f.Members[i].TakesMS = 2 * p.DeadlineMS
			}
		}
		known.families[digest] = f
	}
	return known
}

// shape has members do as the profile says. Those of a family that it does not know are
// as Loader has them.
func (s members) shape(l *Loader) {
	f, known := s.families[l.Family.Digest()]
	if !known {
		return
	}
	l.Latency = func(i int) time.Duration { return milliseconds(f.Members[i].LatencyMS) }
	l.Takes = func(i int) time.Duration { return s.machine.slow(f.Members[i].takes()) }
	l.Load = func(i int) error {
		time.Sleep(s.machine.slow(milliseconds(f.Members[i].LoadMS)))
		if f.Fails == Canary {
			return fmt.Errorf("member %s: %w: simulated: its logits are others", f.Members[i].Name, family.ErrCanary)
		}
		return nil
	}
	l.Astray = func(i int, mean float64) bool { return f.Members[i].astray(mean) }
}

func milliseconds(ms float64) time.Duration { return time.Duration(ms * float64(time.Millisecond)) }

// takes is what one inference takes without load.
func (m Member) takes() time.Duration {
	ms := m.TakesMS
	if ms == 0 {
		ms = m.LatencyMS
	}
	// Of a log-normal variable, with the median of what is asked for.
	return milliseconds(ms * math.Exp(rand.NormFloat64()*math.Sqrt(math.Log1p(m.CV*m.CV))))
}

// astray tells whether a picture is one of those on which the member does not agree.
func (m Member) astray(mean float64) bool {
	if m.Agreement == 0 {
		return false
	}
	h := fnv.New64a()
	h.Write([]byte(m.Name))
	return rand.New(rand.NewPCG(h.Sum64(), math.Float64bits(mean))).Float64() >= m.Agreement
}
