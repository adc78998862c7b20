package engine

import "time"

// pause is the time before something is tried again: it doubles with each attempt in
// vain, between two bounds.
type pause struct {
	least, most time.Duration
	grown       time.Duration // 0: it is the least
}

func (p *pause) length() time.Duration { return max(p.grown, p.least) }

func (p *pause) grow() { p.grown = min(2*p.length(), p.most) }

func (p *pause) reset() { p.grown = 0 }
