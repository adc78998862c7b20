package governor

import "math/bits"

// set is a set of members by index.
type set uint16

// all holds the first n members.
func all(n int) set { return set(1<<n - 1) }

func (s set) has(member int) bool { return member >= 0 && s>>member&1 == 1 }

// first is the smallest member of a set that is not empty.
func (s set) first() int { return bits.TrailingZeros16(uint16(s)) }

// last is the largest member of a set that is not empty.
func (s set) last() int { return bits.Len16(uint16(s)) - 1 }

// upTo holds the members of s that are not larger than member.
func (s set) upTo(member int) set { return s & all(member+1) }

// above holds the members of s that are larger than member.
func (s set) above(member int) set { return s &^ all(member+1) }
