package store

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// mustAppendTo appends a record of n+1 bytes to each of the streams.
func mustAppendTo(tb testing.TB, o *Outbox, n int, streams ...Stream) (seqs []uint64) {
	tb.Helper()
	for _, s := range streams {
		seq, err := o.Append(func(seq uint64) (Record, error) {
			return Record{Topic: "t", Payload: payload(seq, n), Stream: s}, nil
		}, nil)
		if err != nil {
			tb.Fatal(err)
		}
		seqs = append(seqs, seq)
	}
	return seqs
}

// wantWaiting wants these records to wait.
func wantWaiting(tb testing.TB, o *Outbox, want ...uint64) {
	tb.Helper()
	if got := backlog(tb, o); !slices.Equal(got, want) {
		tb.Errorf("waiting %d, want %d", got, want)
	}
}

func TestS8_WhatIsLeastWorthGoesFirst(t *testing.T) {
	for _, tt := range []struct {
		name    string
		opts    OutboxOptions
		streams []Stream // of records of 1000 bytes
		lost    []Gap
	}{
		{"the oldest result, whether late or live", OutboxOptions{Quota: 6000},
			[]Stream{Event, Live, Late, Live, Late, Live, Late},
			[]Gap{{Class: Results, Reason: Quota, Records: 2, Bytes: 2000, First: 2, Last: 3}}},
		{"no more results than need be", OutboxOptions{Quota: 6000}, []Stream{Late, Event, Event, Event, Event, Event},
			[]Gap{{Class: Results, Reason: Quota, Records: 1, Bytes: 1000, First: 1, Last: 1}}},
		{"then the oldest event", OutboxOptions{Quota: 6000},
			[]Stream{Control, Event, Event, Live, Event, Event, Event, Event},
			[]Gap{{Class: Results, Reason: Quota, Records: 1, Bytes: 1000, First: 4, Last: 4},
				{Class: Events, Reason: Quota, Records: 1, Bytes: 1000, First: 2, Last: 2}}},
		{"control last, the oldest", OutboxOptions{Quota: 3000}, []Stream{Control, Late, Control, Event, Control, Control},
			[]Gap{{Class: Results, Reason: Quota, Records: 1, Bytes: 1000, First: 2, Last: 2},
				{Class: Events, Reason: Quota, Records: 1, Bytes: 1000, First: 4, Last: 4},
				{Class: Controls, Reason: Quota, Records: 1, Bytes: 1000, First: 1, Last: 1}}},
		{"a twentieth is for control", OutboxOptions{Quota: 20_000}, append(slices.Repeat([]Stream{Live}, 20), Control),
			[]Gap{{Class: Results, Reason: Quota, Records: 1, Bytes: 1000, First: 1, Last: 1}}},
		{"results over their own limit", OutboxOptions{Results: 2000}, []Stream{Late, Event, Live, Event, Live, Event, Live},
			[]Gap{{Class: Results, Reason: Quota, Records: 2, Bytes: 2000, First: 1, Last: 3}}},
		{"events over their own limit", OutboxOptions{Events: 1000}, []Stream{Late, Event, Live, Event, Live, Event, Live},
			[]Gap{{Class: Events, Reason: Quota, Records: 2, Bytes: 2000, First: 2, Last: 4}}},
		{"results over their count", OutboxOptions{Count: 3}, []Stream{Live, Late, Control, Event, Live, Late, Live},
			[]Gap{{Class: Results, Reason: Count, Records: 2, Bytes: 2000, First: 1, Last: 2}}},
	} {
		t.Run("S8 "+tt.name, func(t *testing.T) {
			dir := t.TempDir()
			o := mustOpenOutbox(t, dir, tt.opts)
			mustAppendTo(t, o, 999, tt.streams...)
			wantGaps(t, o, tt.lost...)
			lost := 0
			for _, g := range tt.lost {
				lost += g.Records
			}
			if left := backlog(t, o); len(left)+lost != len(tt.streams) {
				t.Errorf("%d wait, %d were lost, want %d together", len(left), lost, len(tt.streams))
			}

			all := mustOpenOutbox(t, t.TempDir(), OutboxOptions{}) // the same trimmed at the start: S9
			mustAppendTo(t, all, 999, tt.streams...)
			left := backlog(t, o)
			all.opts = tt.opts
			if all.opts.Quota == 0 {
				all.opts.Quota = defaultQuota
			}
			all.opts.Memory = 1
			trimmed := restart(t, all, mustRun(t, all))
			wantWaiting(t, trimmed, left...)
			wantGaps(t, trimmed, tt.lost...)
		})
	}
}

// What was sent and not acknowledged may have come; told as lost it would count twice.
func TestS8_WhatIsOnItsWayIsNotTheFirstToBeLost(t *testing.T) {
	o := mustOpenOutbox(t, t.TempDir(), OutboxOptions{Count: 4})
	mustAppendTo(t, o, 99, Late, Late, Live, Live)
	for _, s := range []Stream{Late, Live} {
		o.Collect(s, 0, 1) // 1 and 3
	}
	for range 1000 {
		mustAppendTo(t, o, 99, Late, Live)
	}
	wantWaiting(t, o, 1, 3, 2003, 2004)
	if n := len(o.queue.lines[Late].elems); n > 100 {
		t.Errorf("%d places for two records", n)
	}
	if gaps := gapsOf(o); len(gaps) != 2 || gaps[0].First != 2 || gaps[0].Last != 2 || gaps[1].First != 4 ||
		gaps[1].Last != 2002 || gaps[1].Records != 1999 {
		t.Errorf("gaps %+v, want 2, and 4 to 2002", gaps)
	}
	o.opts.Count = 1
	mustAppendTo(t, o, 99, Event)
	wantWaiting(t, o, 2004, 2005)
}

func TestS10_ARecordOverTheLimitOfItsClassIsRejectedAlone(t *testing.T) {
	o := mustOpenOutbox(t, t.TempDir(), OutboxOptions{Quota: 2000, Events: 500})
	for _, tt := range []struct {
		s    Stream
		size int
		ok   bool
	}{{Live, 1899, true}, {Live, 1900, false}, {Control, 1999, true}, {Control, 2000, false}, {Event, 499, true},
		{Event, 500, false}} {
		_, err := o.Append(func(seq uint64) (Record, error) {
			return Record{Topic: "t", Payload: payload(seq, tt.size), Stream: tt.s}, nil
		}, nil)
		if (err == nil) != tt.ok {
			t.Errorf("%d bytes of stream %d: %v, want accepted %v", tt.size, tt.s, err, tt.ok)
		}
	}
}

func TestWhatWaitsTooLongIsLost(t *testing.T) {
	for _, restarted := range []bool{false, true} {
		t.Run(fmt.Sprintf("restarted: %v", restarted), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := mustOpenOutbox(t, t.TempDir(), OutboxOptions{ResultsAge: time.Hour, EventsAge: 2 * time.Hour})
				stop := mustRun(t, o)
				mustAppendTo(t, o, 99, Late, Live, Event, Control)
				pass(30 * time.Minute)
				mustAppendTo(t, o, 99, Late, Event)
				if restarted {
					o = restart(t, o, stop)
					stop = mustRun(t, o)
				}
				pass(31 * time.Minute)
				wantWaiting(t, o, 3, 4, 5, 6)
				pass(30 * time.Minute)
				wantWaiting(t, o, 3, 4, 6)
				pass(30 * time.Minute)
				wantWaiting(t, o, 4, 6)
				wantGaps(t, o, Gap{Class: Results, Reason: Age, Records: 3, Bytes: 300, First: 1, Last: 5},
					Gap{Class: Events, Reason: Age, Records: 1, Bytes: 100, First: 3, Last: 3})
				pass(groupAge + lazyEvery)
				if got := onDisk(t, o, bucketQueue); !slices.Equal(got, []uint64{4, 6}) {
					t.Errorf("on disk %d, want 4 and 6", got)
				}
				stop()
			})
		})
	}
}

func TestNothingWaitsTooLongWithoutALimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := mustOpenOutbox(t, t.TempDir(), OutboxOptions{})
		mustRun(t, o)
		mustAppendTo(t, o, 99, Late, Live, Event, Control)
		pass(1000 * time.Hour)
		wantWaiting(t, o, 1, 2, 3, 4)
		if d := o.Depths(); d[Results] != (Depth{2, 200, 1000 * time.Hour}) || d[Controls].Records != 1 {
			t.Errorf("got %+v", d)
		}
	})
}

// The age is of the time the outbox was open: while the device is off nothing ages,
// and what a clock that is set does to it is nothing.
func TestS13_AgeCountsRunningTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		o := mustOpenOutbox(t, dir, OutboxOptions{ResultsAge: time.Hour})
		stop := mustRun(t, o)
		mustAppendTo(t, o, 99, Late)
		pass(time.Minute)
		stop()
		o.Close()
		pass(1000 * time.Hour)
		o = mustOpenOutbox(t, dir, o.opts)
		mustRun(t, o)
		pass(58 * time.Minute)
		wantWaiting(t, o, 1)
		pass(2 * time.Minute)
		wantWaiting(t, o)
	})
}
