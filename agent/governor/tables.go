package governor

import (
	"sync"
	"weak"
)

// Tables is what governors of one process have in common: the tables of members
// with the same latency, 28 kB and half a millisecond each, which nobody changes
// once they are made. One that no governor uses any more is forgotten. The zero
// value is ready; its methods are safe for concurrent use.
type Tables struct {
	mu   sync.Mutex
	made map[float64]weak.Pointer[table] // by latency, ms
}

// of is the table of a member that takes profile ms unloaded. Without Tables it
// is a new one.
func (t *Tables) of(profile float64) *table {
	if t == nil {
		return newTable(profile)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if known := t.made[profile].Value(); known != nil {
		return known
	}
	for latency, one := range t.made {
		if one.Value() == nil {
			delete(t.made, latency)
		}
	}
	if t.made == nil {
		t.made = make(map[float64]weak.Pointer[table])
	}
	made := newTable(profile)
	t.made[profile] = weak.Make(made)
	return made
}
