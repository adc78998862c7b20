package blob

import (
	"context"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/limber-edge/limber/agent/wire"
)

// How long an answer may take, of which RFC 6298 is the model.
const (
	answerFirst = 5 * time.Second // before one came
	answerLeast = time.Second
	answerMost  = time.Minute
)

// overtaken is how many parts that were asked for later must come before one counts as
// lost: a broker keeps the order.
const overtaken = 2

// ask is a part that was asked for.
type ask struct {
	offset int64
	bytes  int64
	at     time.Time
	again  bool // not for the first time, so what comes may be the answer to another one
	behind int  // parts that were asked for later, and came
}

// part is what came.
type part struct {
	offset int64
	bytes  []byte
	at     time.Time
}

// window is what was asked for and has not come, or came ahead of what precedes it.
// Beside receive it belongs to one goroutine.
type window struct {
	fetcher *Fetcher
	digest  string
	arrived chan part

	mu     sync.Mutex
	wanted map[int64]int64 // guarded by mu: bytes at most, by offset

	width int              // parts at once
	asked []ask            // that have not come, in the order of asking
	lost  []ask            // of these, to be asked for again
	ahead map[int64][]byte // parts that came before what precedes them
	sizes map[int64]int64  // how much was asked for, of these
	next  int64            // offset of what was never asked for
	end   int64            // of the blob at most

	quiet   int       // times in a row that nothing came
	heard   time.Time // of the last part, or ask
	smooth  time.Duration
	varying time.Duration
}

func newWindow(f *Fetcher, digest string, from int64) *window {
	w := &window{fetcher: f, digest: digest, arrived: make(chan part, 4*windowParts), end: math.MaxInt64}
	w.width = 1
	w.reset(from)
	return w
}

// reset forgets what was asked for; what comes of it is left alone.
func (w *window) reset(from int64) {
	w.asked, w.lost, w.next = nil, nil, from
	w.ahead, w.sizes = map[int64][]byte{}, map[int64]int64{}
	w.mu.Lock()
	w.wanted = map[int64]int64{}
	w.mu.Unlock()
	for {
		select {
		case <-w.arrived:
		default:
			return
		}
	}
}

// receive takes a part, if it was asked for and has not come.
func (w *window) receive(t wire.Topic, payload []byte) bool {
	w.mu.Lock()
	most, ok := w.wanted[t.Offset]
	if ok = ok && t.Digest == w.digest && int64(len(payload)) <= most; ok {
		delete(w.wanted, t.Offset)
	}
	w.mu.Unlock()
	if !ok {
		return false
	}
	select {
	case w.arrived <- part{t.Offset, payload, time.Now()}:
		return true
	default: // as if it were lost on the way; there is room for all that is asked for
		return false
	}
}

// ask asks for as many parts as the window has room for, and the rate allows.
func (w *window) ask(p *partial) error {
	for len(w.asked) < w.width && w.fetcher.rate.wait() == 0 {
		var a ask
		switch {
		case len(w.lost) > 0:
			a, w.lost = w.lost[0], w.lost[1:]
			a.again, a.behind = true, 0
		case len(w.asked)+len(w.ahead) < w.width && w.next < min(w.end, p.want.Max):
			a = ask{offset: w.next, bytes: min(w.fetcher.rate.part(wire.BlobPart), p.want.Max-w.next)}
			w.next += a.bytes
		default:
			return nil
		}
		if err := w.send(a); err != nil {
			return err
		}
	}
	return nil
}

// send asks for a part.
func (w *window) send(a ask) error {
	a.at = time.Now()
	w.mu.Lock()
	w.wanted[a.offset] = a.bytes
	w.mu.Unlock()
	w.fetcher.rate.spend(a.bytes)
	w.asked, w.heard = append(w.asked, a), a.at
	return w.fetcher.link.Fetch(w.digest, wire.Fetch{Offset: a.offset, Bytes: int(a.bytes)})
}

// took takes note of a part, and tells whether it is of use.
func (w *window) took(got part) bool {
	is := func(a ask) bool { return a.offset == got.offset }
	i := slices.IndexFunc(w.asked, is)
	if i < 0 {
		i = slices.IndexFunc(w.lost, is)
		if i < 0 {
			return false // it was asked for before a reset
		}
		w.keep(w.lost[i], got)
		w.lost = slices.Delete(w.lost, i, i+1)
		return true
	}
	a := w.asked[i]
	if !a.again {
		w.measure(got.at.Sub(a.at))
	}
	w.asked = slices.Delete(w.asked, i, i+1)
	w.overtake(i)
	w.keep(a, got)
	return true
}

// keep keeps a part until what precedes it is there. An empty one says where the blob
// ends at most.
func (w *window) keep(a ask, got part) {
	w.quiet, w.heard = 0, got.at
	w.width = min(w.width+1, windowParts)
	w.fetcher.rate.spend(int64(len(got.bytes)) - a.bytes)
	if len(got.bytes) == 0 {
		w.end = min(w.end, a.offset)
		return
	}
	w.ahead[a.offset], w.sizes[a.offset] = got.bytes, a.bytes
}

// overtake has the parts asked for again that were asked for before the i-th, once
// enough of the later ones came.
func (w *window) overtake(i int) {
	rest := w.asked[:0]
	for j, a := range w.asked {
		if j < i {
			a.behind++
		}
		if a.behind >= overtaken {
			w.lost = append(w.lost, a)
		} else {
			rest = append(rest, a)
		}
	}
	w.asked = rest
}

// add adds to the blob what follows it. A part that is shorter than was asked for is its
// last, or all that could be sent; then it goes on from there.
func (w *window) add(p *partial) error {
	for {
		b, ok := w.ahead[p.done]
		if !ok {
			return nil
		}
		whole := int64(len(b)) == w.sizes[p.done]
		delete(w.ahead, p.done)
		if err := p.add(b); err != nil {
			return err
		}
		if !whole {
			w.reset(p.done)
			w.end = math.MaxInt64
			return nil
		}
	}
}

// patience is how long may pass until silence, or the next ask.
func (w *window) patience() time.Duration {
	late := w.late()
	if wait := w.fetcher.rate.wait(); wait > 0 && (wait < late || len(w.asked) == 0) {
		return wait
	}
	return late
}

// late is how long it takes until nothing came for too long.
func (w *window) late() time.Duration { return max(0, time.Until(w.heard.Add(w.timeout()))) }

// silence gives up what was asked for, if nothing came for too long, and in the end
// the other side.
func (w *window) silence() error {
	if len(w.asked) == 0 || w.late() > 0 {
		return nil // it was the rate that had to be waited for
	}
	if w.quiet++; w.quiet == silentMost {
		return errSilent
	}
	w.lost, w.asked = append(w.asked, w.lost...), nil
	w.width = 1
	return nil
}

// timeout is how long nothing may come, twice as long each time in a row.
func (w *window) timeout() time.Duration {
	usual := answerFirst
	if w.smooth > 0 {
		usual = max(answerLeast, w.smooth+4*w.varying)
	}
	return min(usual<<w.quiet, answerMost)
}

// measure takes note of how long a part took.
func (w *window) measure(took time.Duration) {
	if w.smooth == 0 {
		w.smooth, w.varying = max(took, 1), took/2
		return
	}
	w.varying += ((took - w.smooth).Abs() - w.varying) / 4
	w.smooth = max(1, w.smooth+(took-w.smooth)/8)
}

// await returns the part that was asked for alone, or nil where it must be asked for
// again.
func (w *window) await(ctx context.Context) (*part, error) {
	turn := time.NewTimer(w.late())
	defer turn.Stop()
	for {
		select {
		case got := <-w.arrived:
			if w.took(got) {
				return &got, nil
			}
		case <-turn.C:
			return nil, w.silence()
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}
