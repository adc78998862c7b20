package pipeline

import (
	"slices"
	"sort"
	"sync"

	"github.com/limber-edge/limber/agent/frame"
	"github.com/limber-edge/limber/agent/governor"
)

// How far decoding goes ahead of inference, those that are being decoded counted:
// enough for a batch, but no more than one picture beyond so many pixels, and one
// more for each higher priority. A pixel takes 1.5 bytes as a rule, 8 at most.
const (
	aheadFrames = governor.Batch
	aheadPixels = 4 << 20
)

// lineup holds decoded frames until they are inferred, the most urgent first,
// and the slots that are free.
type lineup struct {
	members []Member
	ready   chan struct{} // holds one token when a frame came
	taken   chan struct{} // holds one token when frames were taken

	mu     sync.Mutex
	slots  []*slot // with a frame, in the order of service
	pixels int     // of their pictures
	out    int     // slots that are being filled
	free   []*slot
	closed bool
}

func newLineup(members []Member) *lineup {
	return &lineup{members: members, ready: make(chan struct{}, 1), taken: make(chan struct{}, 1)}
}

// slot is a free one for the next frame; nil if enough are lined up. One of higher
// priority than all of those finds room, too.
func (l *lineup) slot(next Priority) *slot {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := len(l.slots)
	if n > 0 && (n+l.out >= aheadFrames || l.pixels >= aheadPixels) && next <= l.slots[0].entry.Priority {
		return nil
	}
	l.out++
	return l.spare()
}

// own is a free one for a frame that is not lined up.
func (l *lineup) own() *slot {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.spare()
}

func (l *lineup) spare() *slot {
	n := len(l.free)
	if n == 0 {
		r := widest(l.members)
		return &slot{buffer: make([]float32, 3*r*r)}
	}
	s := l.free[n-1]
	l.free = l.free[:n-1]
	return s
}

// put lines up a slot with a frame; false means that the lineup is closed.
func (l *lineup) put(s *slot) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.out--
	if l.closed {
		return false
	}
	at := sort.Search(len(l.slots), func(i int) bool { return s.entry.before(l.slots[i].entry) })
	l.slots = slices.Insert(l.slots, at, s)
	l.pixels += s.pixels
	token(l.ready)
	return true
}

// take takes out the most urgent frame, or nil.
func (l *lineup) take() *slot {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.slots) == 0 {
		return nil
	}
	s := l.slots[0]
	l.slots = slices.Delete(l.slots, 0, 1)
	l.pixels -= s.pixels
	token(l.taken)
	return s
}

// takeMore moves n frames to the end of some, in the order of service, of those
// that may join a party.
func (l *lineup) takeMore(some []*slot, n int, with party) []*slot {
	if n == 0 {
		return some // and wake nobody, while an inference is about to begin
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	left := l.slots[:0]
	for _, s := range l.slots {
		if n == 0 || !with.admits(s.entry) {
			left = append(left, s)
			continue
		}
		n--
		some = append(some, s)
		l.pixels -= s.pixels
	}
	clear(l.slots[len(left):])
	l.slots = left
	token(l.taken)
	return some
}

// count is how many frames takeMore would find.
func (l *lineup) count(with party) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.slots {
		if with.admits(s.entry) {
			n++
		}
	}
	return n
}

// giveBack takes a slot back that was not filled.
func (l *lineup) giveBack(s *slot) {
	l.mu.Lock()
	l.out--
	l.mu.Unlock()
	l.release(s)
}

// release empties a slot and lets it be used again.
func (l *lineup) release(s *slot) {
	if s.pixels > keptPixels {
		s.pic = frame.Picture{}
	}
	s.entry, s.pixels = nil, 0
	l.mu.Lock()
	defer l.mu.Unlock()
	l.free = append(l.free, s)
}

// close lets no more frames in.
func (l *lineup) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
}
