package store

import (
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// mustScarce opens and runs an outbox on a file system that has as many bytes left as
// the test says, and counts how often it is looked at.
func mustScarce(tb testing.TB, opts OutboxOptions) (o *Outbox, left, looks *atomic.Int64, stop func()) {
	tb.Helper()
	left, looks = new(atomic.Int64), new(atomic.Int64)
	o = mustOpenOutbox(tb, tb.TempDir(), opts)
	o.space.free = func(string) (int64, error) {
		looks.Add(1)
		return left.Load(), nil
	}
	return o, left, looks, mustRun(tb, o)
}

func TestBelowTheRoomToSpareOnlyControlIsWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, left, _, stop := mustScarce(t, OutboxOptions{Free: 1000})
		left.Store(999)
		var durable tally
		answer := mustAnswer(t, o, "job", 99, durable.add)
		control := mustAppendTo(t, o, 99, Late, Event, Control)[2]
		pass(takeOverEvery + lookEvery)
		if got := onDisk(t, o, bucketQueue); !slices.Equal(got, []uint64{control}) || durable.got() > 0 {
			t.Errorf("on disk %d, %d durable; want %d, none", got, durable.got(), control)
		}
		if !o.Unwritten() || o.Fault() == nil {
			t.Errorf("unwritten %v, fault %v; want it told", o.Unwritten(), o.Fault())
		}
		wantWaiting(t, o, 1, 2, 3, 4)
		wantAnswer(t, o, "job", answer, 99)

		left.Store(1000)
		pass(lookEvery + groupAge)
		wantWaiting(t, mustKill(t, o), upTo(4)...)
		if durable.got() != 1 {
			t.Errorf("with room again %d durable, want 1", durable.got())
		}
		if o.Unwritten() || o.Fault() != nil {
			t.Errorf("unwritten %v, fault %v; want neither", o.Unwritten(), o.Fault())
		}
		stop()
	})
}

func TestTheRoomIsLookedAtOnceASecondAtMost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, left, looks, _ := mustScarce(t, OutboxOptions{Free: 1000})
		for _, enough := range []int64{1000, 999} {
			left.Store(enough)
			pass(lookEvery)
			before := looks.Load()
			for range 10 * time.Second / groupAge {
				mustAppend(t, o, 99, nil)
				pass(groupAge)
			}
			if got := looks.Load() - before; got < 9 || got > 11 {
				t.Errorf("with %d bytes left: looked %d times in 10 s, want 10", enough, got)
			}
		}
		o.Delivered(backlog(t, o)...)
		pass(time.Minute)
		before := looks.Load()
		pass(time.Hour)
		if got, want := looks.Load()-before, int64(time.Hour/lookIdle); got < want-1 || got > want+1 {
			t.Errorf("looked %d times in an hour in which there was nothing to write, want %d", got, want)
		}
	})
}

func TestTheRoomIsLookedAtWhileNothingIsWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, left, _, _ := mustScarce(t, OutboxOptions{Free: 1000})
		for _, now := range []int64{999, 1000, 0, 5000} {
			left.Store(now)
			pass(lookIdle)
			if err := o.Fault(); (err != nil) != (now < 1000) {
				t.Errorf("with %d bytes left: fault %v", now, err)
			}
		}
	})
}

// Who wants no room to stay free is not woken for it.
func TestTheRoomIsNotLookedAtForNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, _, looks, _ := mustScarce(t, OutboxOptions{})
		if pass(time.Hour); looks.Load() > 0 {
			t.Errorf("looked %d times", looks.Load())
		}
	})
}

func TestWithoutRoomToSpareTheMemoryIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, left, _, stop := mustScarce(t, OutboxOptions{Free: 1000, Memory: 10_000})
		pass(0)
		mustAppendTo(t, o, 999, Event)
		pass(lookEvery)
		for range 100 {
			mustAppendTo(t, o, 999, Late)
			synctest.Wait()
		}
		if o.memory.bytes > freshShare*o.opts.Memory {
			t.Errorf("%d bytes of memory, want at most %d", o.memory.bytes, freshShare*o.opts.Memory)
		}
		kept := backlog(t, o)
		lost := 101 - len(kept)
		wantGaps(t, o, Gap{Class: Results, Reason: Space, Records: lost, Bytes: int64(lost) * 1000, First: 2,
			Last: uint64(lost) + 1})
		if kept[0] != 1 {
			t.Errorf("the oldest is %d, want the event", kept[0])
		}
		left.Store(1000)
		pass(lookEvery + groupAge)
		if got := onDisk(t, o, bucketQueue); !slices.Equal(got, kept) {
			t.Errorf("with room again on disk %d, want %d", got, kept)
		}
		o = restart(t, o, stop)
		wantWaiting(t, o, kept...)
		if gaps := gapsOf(o); len(gaps) != 1 || gaps[0].Records != lost {
			t.Errorf("after a restart gaps %+v, want %d lost", gaps, lost)
		}
	})
}

// What is in memory at an orderly end would be lost.
func TestAnOrderlyEndWritesWhateverRoomIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, _, _, stop := mustScarce(t, OutboxOptions{Free: 1000})
		mustAppendTo(t, o, 99, Late, Live, Event, Control)
		pass(time.Minute)
		o = restart(t, o, stop)
		wantWaiting(t, o, 1, 2, 3, 4)
	})
}

// Delivered records do not take up memory until there is room.
func TestWithoutRoomToSpareWhatIsDeliveredIsLetGoOf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, _, _, _ := mustScarce(t, OutboxOptions{Free: 1000, Memory: 10_000})
		mustAppendTo(t, o, 99, Control)
		pass(time.Second)
		for range 1000 {
			o.Delivered(mustAppendTo(t, o, 999, Live)...)
		}
		if gaps := gapsOf(o); len(gaps) > 0 || o.memory.count() > 0 {
			t.Errorf("gaps %+v, %d records fresh; want none", gaps, o.memory.count())
		}
	})
}

func TestAFileSystemSaysWhatItHasLeft(t *testing.T) {
	if left, err := FreeBytes(t.TempDir()); err != nil || left <= 0 {
		t.Errorf("got %d, %v", left, err)
	}
	if _, err := FreeBytes("/none/such"); err == nil {
		t.Error("a folder that is not there has room")
	}
}
