package pipeline

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent/governor"
)

func waiting(due time.Duration, size int) *entry {
	return &entry{Job: Job{Body: make([]byte, size)}, due: due}
}

// first takes out the first job, whatever its chance.
func (q *queue) first() *entry {
	e, _ := q.pop(&view{blind: true, forecast: newForecast()}, false)
	return e
}

func TestQueueServesTheEarliestDeadlineFirst(t *testing.T) {
	q, rng := newQueue(1000, 0), rand.New(rand.NewPCG(1, 1))
	var want []*entry
	for range 1000 {
		e := waiting(time.Duration(rng.IntN(50)), 0)
		want = append(want, e)
		if _, err := q.push(e, -1); err != nil {
			t.Fatal(err)
		}
	}
	slices.SortStableFunc(want, func(a, b *entry) int { return int(a.due - b.due) }) // of equals the first come first
	for i, w := range want {
		if got := q.first(); got != w {
			t.Fatalf("job %d: got due %v, want due %v, or another of the same", i, got.due, w.due)
		}
	}
	if e := q.first(); e != nil {
		t.Errorf("got %v of an empty queue", e)
	}
}

func TestQueueIsFullExactlyAtItsBounds(t *testing.T) {
	for _, tt := range []struct {
		name  string
		jobs  int
		bytes int
		sizes []int
		fits  []bool
	}{
		{"in jobs", 2, 100, []int{1, 1, 1}, []bool{true, true, false}},
		{"in bytes", 10, 100, []int{60, 40, 1, 0}, []bool{true, true, false, true}},
		{"a smaller one fits where a larger does not", 10, 100, []int{60, 41, 40}, []bool{true, false, true}},
		{"larger than the whole queue", 10, 100, []int{101, 100}, []bool{false, true}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			q := newQueue(tt.jobs, tt.bytes)
			for i, size := range tt.sizes {
				if _, err := q.push(waiting(1, size), 0); (err == nil) != tt.fits[i] {
					t.Errorf("job %d of %d bytes: got %v, want room %v", i, size, err, tt.fits[i])
				}
			}
		})
	}
}

func TestFullQueueGivesUpExpiredJobsOnly(t *testing.T) {
	q := newQueue(3, 100)
	late, onTime := waiting(9, 10), waiting(10, 10)
	for _, e := range []*entry{onTime, late, waiting(11, 10)} {
		if _, err := q.push(e, 0); err != nil {
			t.Fatal(err)
		}
	}
	expired, err := q.push(waiting(5, 90), 10)
	if err == nil || len(expired) != 1 || expired[0] != late {
		t.Errorf("no room by bytes: got %v, %v; want the late job, and an error", expired, err)
	}
	if expired, err = q.push(waiting(20, 80), 10); err != nil || len(expired) != 0 {
		t.Errorf("room by bytes: got %v, %v; want none expired, nil", expired, err)
	}
	if q.size() != 3 || q.bytes != 100 {
		t.Errorf("got %d jobs of %d bytes, want 3 of 100", q.size(), q.bytes)
	}
}

func TestQueueReturnsItsRoomWhenAJobIsTakenOut(t *testing.T) {
	q := newQueue(1, 10)
	for range 100 {
		if _, err := q.push(waiting(1, 10), 0); err != nil {
			t.Fatal(err)
		}
		q.done(q.first())
	}
	if q.bytes != 0 || len(q.ahead) != 0 {
		t.Errorf("got %d bytes and %d jobs ahead, want none", q.bytes, len(q.ahead))
	}
}

func TestClosedQueueTakesNothing(t *testing.T) {
	q := newQueue(10, 10)
	q.close()
	if _, err := q.push(waiting(1, 1), 0); err != ErrClosed || q.size() != 0 {
		t.Errorf("got %v and %d jobs, want %v and none", err, q.size(), ErrClosed)
	}
}

func TestGlanceSeesTheJobsBehindTheHead(t *testing.T) {
	q := newQueue(100, 0)
	for due := range 30 {
		if _, err := q.push(waiting(time.Duration(due), 0), -1); err != nil {
			t.Fatal(err)
		}
	}
	head := q.first()
	q.first() // being decoded: behind the head, before those that wait
	q.done(head)
	got, arrivals := q.glance(make([]time.Duration, 0, governor.Lookahead), nil)
	if len(got) != governor.Lookahead || got[0] != 1 || got[governor.Lookahead-1] != governor.Lookahead {
		t.Errorf("got deadlines %v, want 1 to %d", got, governor.Lookahead)
	}
	if len(arrivals) != 30 {
		t.Errorf("got %d arrivals, want 30", len(arrivals))
	}
	if _, arrivals = q.glance(got, arrivals); len(arrivals) != 0 {
		t.Errorf("got %d arrivals at once after, want none", len(arrivals))
	}
}

func TestArrivalsNobodyLooksAtAreBounded(t *testing.T) {
	q := newQueue(1, 0)
	for i := range 10 * maxArrivals {
		e := waiting(time.Hour, 0)
		e.arrived = time.Duration(i)
		q.push(e, 0) // all but the first find it full
	}
	_, got := q.glance(nil, nil)
	if len(got) != maxArrivals || got[len(got)-1] != 10*maxArrivals-1 {
		t.Errorf("got %d arrivals, the last at %d; want the last %d", len(got), got[len(got)-1], maxArrivals)
	}
}
