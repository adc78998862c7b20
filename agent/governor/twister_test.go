package governor

import (
	"math"
	"time"
)

// twister is the generator of CPython's random module (MT19937), so that the
// arrival times here are the reference's own for the same seed.
type twister struct {
	state [624]uint32
	next  int
}

func newTwister(seed uint32) *twister {
	m := &twister{next: 624}
	s := &m.state
	s[0] = 19650218
	for i := uint32(1); i < 624; i++ {
		s[i] = 1812433253*(s[i-1]^s[i-1]>>30) + i
	}
	i := uint32(1)
	wrap := func() {
		if i++; i == 624 {
			s[0], i = s[623], 1
		}
	}
	for range 624 {
		s[i] = (s[i] ^ (s[i-1]^s[i-1]>>30)*1664525) + seed
		wrap()
	}
	for range 623 {
		s[i] = (s[i] ^ (s[i-1]^s[i-1]>>30)*1566083941) - i
		wrap()
	}
	s[0] = 1 << 31
	return m
}

func (m *twister) uint32() uint32 {
	s := &m.state
	if m.next == 624 {
		for i := range s {
			y := s[i]&(1<<31) | s[(i+1)%624]&(1<<31-1)
			s[i] = s[(i+397)%624] ^ y>>1 ^ (y&1)*0x9908b0df
		}
		m.next = 0
	}
	y := s[m.next]
	m.next++
	y ^= y >> 11
	y ^= y << 7 & 0x9d2c5680
	y ^= y << 15 & 0xefc60000
	return y ^ y>>18
}

// float64 is random.random().
func (m *twister) float64() float64 {
	a, b := m.uint32()>>5, m.uint32()>>6
	return (float64(a)*67108864 + float64(b)) / 9007199254740992
}

// exponential is random.expovariate.
func (m *twister) exponential(rate float64) float64 { return -math.Log(1-m.float64()) / rate }

// arrivals come at low per second, in bursts of about 400 ms at high per
// second, with about 1.5 s between bursts.
func arrivals(until time.Duration, low, high float64, seed uint32) (at []time.Duration) {
	m := newTwister(seed)
	now, turn, burst := 0.0, m.exponential(1./1500), false
	for now < milliseconds(until) {
		per := low
		if burst {
			per = high
		}
		now += m.exponential(per / 1e3)
		for now > turn {
			burst = !burst
			stay := 1500.
			if burst {
				stay = 400
			}
			turn += m.exponential(1 / stay)
		}
		at = append(at, ms(now))
	}
	return at
}
