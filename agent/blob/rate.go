package blob

import "time"

// rate bounds how fast blobs come. It belongs to one goroutine.
type rate struct {
	perSecond int64     // bytes; 0: no bound
	due       time.Time // of what is asked for next
}

// askLeast is what is asked for at once where the bound is low: less would be mostly
// headers.
const askLeast = 16 << 10

func newRate(kib int) *rate { return &rate{perSecond: int64(kib) << 10} }

// part is how much is asked for at once: no more than what may come in a second.
func (r *rate) part(most int64) int64 {
	if r.perSecond == 0 {
		return most
	}
	return min(most, max(r.perSecond, askLeast))
}

// wait is how long it takes until more may be asked for.
func (r *rate) wait() time.Duration { return max(0, time.Until(r.due)) }

// spend counts bytes that are asked for; those that did not come are given back as fewer
// than none.
func (r *rate) spend(bytes int64) {
	if r.perSecond == 0 {
		return
	}
	if now := time.Now(); bytes > 0 && r.due.Before(now) {
		r.due = now
	}
	r.due = r.due.Add(time.Duration(bytes) * time.Second / time.Duration(r.perSecond))
}
