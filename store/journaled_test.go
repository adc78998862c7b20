package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	bolt "go.etcd.io/bbolt"
)

// mustCopyFiles copies the files of an outbox, as a kill would leave them now.
func mustCopyFiles(tb testing.TB, o *Outbox, dir string) {
	tb.Helper()
	for _, name := range []string{"outbox.db", "outbox.log"} {
		b, err := os.ReadFile(filepath.Join(filepath.Dir(o.path), name))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			tb.Fatal(err)
		} else if err == nil {
			mustPut(tb, filepath.Join(dir, name), string(b))
		}
	}
}

// mustKill opens what a kill would leave of o now.
func mustKill(tb testing.TB, o *Outbox) *Outbox {
	tb.Helper()
	dir := tb.TempDir()
	mustCopyFiles(tb, o, dir)
	return mustOpenOutbox(tb, dir, o.opts)
}

func TestAKillLosesNothingThatTheJournalHas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := mustOpenOutbox(t, t.TempDir(), OutboxOptions{Quota: 4000})
		mustRun(t, o)
		before := commits(t, o)
		for i := range 10 {
			mustAnswer(t, o, fmt.Sprint(i), 500, nil) // seven have room
			pass(groupAge)
		}
		sent := mustAnswer(t, o, "sent", 500, nil)
		o.Delivered(sent)
		pass(groupAge)
		o.Delivered(6)
		pass(lazyEvery)
		if got := commits(t, o) - before; got != 0 {
			t.Errorf("%d commits of outbox.db, want none", got)
		}
		k := mustKill(t, o)
		if got, want := backlog(t, k), []uint64{5, 7, 8, 9, 10}; !slices.Equal(got, want) {
			t.Errorf("waiting %d, want %d", got, want)
		}
		for i := range 10 {
			wantAnswer(t, k, fmt.Sprint(i), uint64(i+1), 500)
		}
		wantAnswer(t, k, "sent", sent, 500)
		wantGaps(t, k, Gap{Class: Results, Reason: Quota, Records: 4, Bytes: 4 * 501, First: 1, Last: 4})
		if got := mustAppend(t, k, 10, nil); got <= sent {
			t.Errorf("number %d, want one over %d", got, sent)
		}
		k = mustKill(t, mustKill(t, k)) // what was taken over is not taken over again
		if got, want := backlog(t, k), []uint64{5, 7, 8, 9, 10}; !slices.Equal(got, want) {
			t.Errorf("waiting after more kills %d, want %d", got, want)
		}
	})
}

func TestS6_ADamagedFrameIsAGap(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		o := mustOpenOutbox(t, t.TempDir(), OutboxOptions{})
		mustRun(t, o)
		for range 5 { // frames of two records
			mustAppend(t, o, 100, nil)
			mustAppend(t, o, 100, nil)
			pass(groupAge)
		}
		mustCopyFiles(t, o, dir)
	})
	for _, tt := range []struct {
		name   string
		blocks []int // in which half of the sectors are others
		as     []byte
		left   []uint64
		gaps   []Gap
		told   string
	}{
		{"S6 the first", []int{0}, nil, []uint64{3, 4, 5, 6, 7, 8, 9, 10}, []Gap{lostLate(1, 2)}, ""},
		{"S6 two in the middle", []int{1, 2}, nil, []uint64{1, 2, 7, 8, 9, 10}, []Gap{lostLate(3, 6)}, ""},
		{"S6 two apart", []int{1, 3}, nil, []uint64{1, 2, 5, 6, 9, 10}, []Gap{lostLate(3, 4), lostLate(7, 8)}, ""},
		{"S6 the last, which was torn", []int{4}, nil, upTo(8), nil, ""},
		{"S6 the last, which was not", []int{4}, []byte("#"), upTo(8), nil, "the last group in outbox.log is damaged"},
		{"S6 no other", nil, nil, upTo(10), nil, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			to := t.TempDir()
			mustCopyFiles(t, &Outbox{path: filepath.Join(dir, "outbox.db")}, to)
			for _, n := range tt.blocks {
				mustSpoilBlock(t, to, n, tt.as)
			}
			k := mustOpenOutbox(t, to, OutboxOptions{})
			wantWaiting(t, k, tt.left...)
			wantGaps(t, k, tt.gaps...)
			if told := strings.Join(k.Damage(), ""); !strings.Contains(told, tt.told) || (told == "") != (tt.told == "") {
				t.Errorf("told is %q, want %q", told, tt.told)
			}
		})
	}
}

// mustSpoilBlock writes over half of a block of a journal, as a whole or of each sector the
// beginning.
func mustSpoilBlock(tb testing.TB, dir string, block int, as []byte) {
	tb.Helper()
	path := filepath.Join(dir, "outbox.log")
	if as == nil {
		mustWriteAt(tb, path, int64(block*journalBlock), make([]byte, journalBlock/2))
		return
	}
	for at := block * journalBlock; at < (block*2+1)*journalBlock/2; at += 512 {
		mustWriteAt(tb, path, int64(at), as)
	}
}

// Whichever frame is lost: what was given up and told does not wait, what was delivered is
// not said to be lost, and a gap whose record is lost is told again.
func TestS6_WhatALostFrameDidIsNotUndone(t *testing.T) {
	fill := func(t *testing.T, o *Outbox) { mustAppendTo(t, o, 100, Late, Late, Late) }
	push := func(t *testing.T, o *Outbox) { mustAppendTo(t, o, 100, Late) } // out the first
	tell := func(t *testing.T, o *Outbox) { announced(t, o) }
	settle := func(_ *testing.T, o *Outbox) { o.Delivered(5) }
	event := func(t *testing.T, o *Outbox) { mustAppendTo(t, o, 99, Event) }
	delivered := []func(*testing.T, *Outbox){fill, push, tell, settle}
	waits := []func(*testing.T, *Outbox){fill, push, tell, event}
	mixed := lostLate(2, 3)
	mixed.First, mixed.Mixed = 1, true
	pushed, told := lostLate(1, 1), lostLate(5, 5)
	pushed.Reason, told.Class, told.Bytes = Count, Controls, 100
	for _, tt := range []struct {
		name    string
		history []func(*testing.T, *Outbox) // a frame each
		lost    int
		left    []uint64
		gaps    []Gap
	}{
		{"S6 with what was given up", delivered, 0, []uint64{4}, []Gap{mixed}},
		{"S6 with its delete", delivered, 1, []uint64{2, 3}, []Gap{lostLate(4, 4)}},
		{"S6 with what told of it", delivered, 2, []uint64{2, 3, 4}, nil},
		{"S6 with what did not yet", waits, 2, []uint64{2, 3, 4, 6}, []Gap{pushed, told}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := mustOpenOutbox(t, t.TempDir(), OutboxOptions{Count: 3})
				mustRun(t, o)
				for _, happens := range tt.history {
					happens(t, o)
					pass(2 * lazyEvery)
				}
				dir := t.TempDir()
				mustCopyFiles(t, o, dir)
				mustSpoilBlock(t, dir, tt.lost, nil)
				k := mustOpenOutbox(t, dir, OutboxOptions{Count: 3})
				wantWaiting(t, k, tt.left...)
				wantGaps(t, k, tt.gaps...)
			})
		})
	}
}

// What outbox.db took over stays taken over when it is gone: it was delivered, or told.
func TestS5_ARemovedOutboxDeliversNothingAgainThatItTookOver(t *testing.T) {
	for _, tt := range []struct {
		name string
		end  func(t *testing.T, o *Outbox, stop func())
	}{
		{"S5 at an orderly end", func(t *testing.T, o *Outbox, stop func()) { stop() }},
		{"S5 while it ran", func(*testing.T, *Outbox, func()) { pass(2 * takeOverEvery) }},
		{"S5 at a start", func(t *testing.T, o *Outbox, stop func()) { restart(t, o, stop) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := mustOpenOutbox(t, t.TempDir(), OutboxOptions{})
				stop := mustRun(t, o)
				last := mustAppendTo(t, o, 100, Late, Event)[1]
				pass(groupAge)
				o.Delivered(1)
				tt.end(t, o, stop)
				dir := t.TempDir()
				mustCopyFiles(t, o, dir)
				if err := os.Remove(filepath.Join(dir, "outbox.db")); err != nil {
					t.Fatal(err)
				}
				k := mustOpenOutbox(t, dir, OutboxOptions{})
				wantWaiting(t, k)
				wantDamage(t, k.Damage(), "was removed")
				if got := mustAppend(t, k, 10, nil); got <= last {
					t.Errorf("number %d, want one over %d", got, last)
				}
			})
		})
	}
}

// lostLate is the gap of results of 100 bytes that were damaged.
func lostLate(first, last uint64) Gap {
	n := int(last - first + 1)
	return Gap{Class: Results, Reason: Damage, Records: n, Bytes: int64(101 * n), First: first, Last: last}
}

func TestNumbersNeverGoBackWhateverIsLost(t *testing.T) {
	remove := func(names ...string) func(dir string) error {
		return func(dir string) error {
			var errs []error
			for _, name := range names {
				errs = append(errs, os.Remove(filepath.Join(dir, name)))
			}
			return errors.Join(errs...)
		}
	}
	fill := func(name, content string) func(dir string) error {
		return func(dir string) error { return os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600) }
	}
	for _, tt := range []struct {
		name   string
		damage func(dir string) error
		left   int // records
	}{
		{"outbox.db is deleted", remove("outbox.db"), 3},
		{"outbox.db is emptied", fill("outbox.db", ""), 3},
		{"outbox.db is garbage", fill("outbox.db", "not a database"), 3},
		{"outbox.db is another one", func(dir string) error {
			other, err := OpenOutbox(filepath.Join(dir, "other"), OutboxOptions{}, quiet())
			if err != nil {
				return err
			}
			return errors.Join(other.Close(), os.Rename(other.path, filepath.Join(dir, "outbox.db")))
		}, 0},
		{"outbox.log is deleted", remove("outbox.log"), 2},
		{"outbox.log is emptied", fill("outbox.log", ""), 2},
		{"outbox.log is garbage", fill("outbox.log", "not a journal"), 2},
		{"both are deleted", remove("outbox.log", "outbox.db"), 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { // the bubble's clock is 26 years behind
				o := mustOpenOutbox(t, t.TempDir(), OutboxOptions{})
				o.numbers = numbers{7 << 40, 7<<40 + reserve}
				stop := mustRun(t, o)
				mustAppend(t, o, 100, nil)
				mustAppend(t, o, 100, nil)
				o = restart(t, o, stop)
				mustRun(t, o)
				floor := o.Horizon()
				last := mustAppend(t, o, 100, nil)
				for range 2 {
					mustAnswer(t, o, "job", 100, nil)
				}
				pass(groupAge)
				dir := t.TempDir()
				mustCopyFiles(t, o, dir)
				if err := tt.damage(dir); err != nil {
					t.Fatal(err)
				}
				k := mustOpenOutbox(t, dir, OutboxOptions{Floor: floor})
				if got := len(backlog(t, k)); got != tt.left {
					t.Errorf("%d records left, want %d", got, tt.left)
				}
				if got := mustAppend(t, k, 10, nil); got <= last+2 {
					t.Errorf("number %d, want one over %d", got, last+2)
				}
			})
		})
	}
}

func TestAnOutboxOlderThanItsJournalTakesItOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := mustOpenOutbox(t, t.TempDir(), OutboxOptions{})
		mustRun(t, o)
		old, err := os.ReadFile(o.path)
		if err != nil {
			t.Fatal(err)
		}
		mustAppend(t, o, 100, nil)
		pass(2 * takeOverEvery)
		mustAnswer(t, o, "job", 100, nil)
		pass(groupAge)
		dir := t.TempDir()
		mustCopyFiles(t, o, dir)
		mustPut(t, filepath.Join(dir, "outbox.db"), string(old)) // the disk forgot what it had called written
		wantAnswer(t, mustOpenOutbox(t, dir, OutboxOptions{}), "job", 2, 100)
	})
}

// Whatever keeps the journal from being written, outbox.db takes over what is in it, and
// a record is called durable only when it is there.
func TestS4_AJournalThatFailsIsTakenOver(t *testing.T) {
	for _, tt := range []struct {
		name string
		fail func(o *Outbox) error
	}{
		{"S4 the write fails", func(o *Outbox) error { return o.journal.file.Close() }},
		{"S4 removed", func(o *Outbox) error { return os.Remove(o.journal.path) }},
		{"S4 a folder in its place", func(o *Outbox) error {
			return errors.Join(os.Remove(o.journal.path), os.MkdirAll(filepath.Join(o.journal.path, "full"), 0o700))
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := mustOpenOutbox(t, t.TempDir(), OutboxOptions{})
				stop := mustRun(t, o)
				var durable tally
				mustAnswer(t, o, "first", 100, durable.add)
				pass(groupAge)
				if err := tt.fail(o); err != nil {
					t.Fatal(err)
				}
				for i := range 3 {
					mustAnswer(t, o, fmt.Sprint(i), 100, durable.add)
					pass(groupAge)
				}
				if got := onDisk(t, o, bucketRecords); !slices.Equal(got, upTo(4)) || durable.got() != 4 || o.Fault() != nil {
					t.Errorf("records %d, %d called durable, fault %v; want all four, and none", got, durable.got(), o.Fault())
				}
				os.RemoveAll(filepath.Join(o.journal.path, "full"))
				pass(2 * takeOverEvery)
				mustAnswer(t, o, "next", 100, nil) // with it the journal is made anew
				pass(2 * takeOverEvery)
				mustAnswer(t, o, "last", 100, nil)
				pass(groupAge)
				if got := mustLogged(t, o); len(got) != 1 {
					t.Errorf("%d groups in the journal, want the last one", len(got))
				}
				wantAnswer(t, mustKill(t, o), "last", 6, 100)
				stop()
			})
		})
	}
}

func TestAGroupIsReadAsItWasWritten(t *testing.T) {
	r := Record{Seq: 1 << 40, Topic: "t", Payload: []byte("payload"), Job: "job", Stream: Live}
	waits := put{&item{Record: r, age: time.Hour}, []byte{byte(Live), 3}}
	r.Seq, r.Stream = 7, Late
	kept := put{&item{Record: r, age: time.Second}, nil}
	done := deletes{queue: [Classes][]uint64{{1, 3, 4, 5, 9, 1 << 60}, nil, {2}}, records: []uint64{5, 6, 7}}
	for _, g := range []group{
		{},
		{puts: []put{waits, kept}, done: done, gaps: []byte("[]"), reserved: 1 << 50, age: time.Minute},
		{gaps: []byte{}, puts: []put{kept}},
	} {
		var before tallies
		before.add(g)
		got, had, err := parseGroup(appendGroup(nil, g, before))
		if err != nil || had != before || !sameGroup(got, g) {
			t.Errorf("got %+v after %+v, %v; want %+v after %+v", got, had, err, g, before)
		}
	}
	if _, _, err := parseGroup([]byte{loggedVersion + 1, 1, 2, 3}); !errors.Is(err, errVersion) {
		t.Errorf("another version: got %v, want %v", err, errVersion)
	}
}

func sameGroup(a, b group) bool {
	return slices.EqualFunc(a.done.queue[:], b.done.queue[:], slices.Equal) &&
		slices.Equal(a.done.records, b.done.records) &&
		slices.Equal(a.gaps, b.gaps) && (a.gaps == nil) == (b.gaps == nil) && a.reserved == b.reserved && a.age == b.age &&
		slices.EqualFunc(a.puts, b.puts, func(a, b put) bool {
			return a.Seq == b.Seq && a.Job == b.Job && a.Stream == b.Stream && a.age == b.age &&
				string(a.Payload) == string(b.Payload) && slices.Equal(a.queued, b.queued)
		})
}

func FuzzParseGroup(f *testing.F) {
	r := Record{Seq: 3, Topic: "t", Payload: []byte("payload"), Job: "job", Stream: Live}
	g := group{puts: []put{{&item{Record: r}, []byte{1, 3}}, {&item{Record: r}, nil}}, gaps: []byte("[]")}
	g.done = deletes{queue: [Classes][]uint64{{3, 4, 5, 9, 1 << 60}}, records: []uint64{5}}
	f.Add(appendGroup(nil, g, tallies{}))
	f.Add(appendGroup(nil, group{}, tallies{{1, 2, 3, 4}}))
	f.Add([]byte{loggedVersion})
	f.Fuzz(func(t *testing.T, b []byte) {
		g, before, err := parseGroup(b)
		if err != nil {
			return
		}
		again, had, err := parseGroup(appendGroup(nil, g, before))
		if err != nil || had != before || !sameGroup(again, g) {
			t.Errorf("%q is read as %+v, and that as %+v, %v", b, g, again, err)
		}
	})
}

func TestDurableFirstHoldsAnAnswerBackForItsCommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := mustOpenOutbox(t, t.TempDir(), OutboxOptions{DurableFirst: true})
		stop := mustRun(t, o)
		var durable tally
		event := mustAppendTo(t, o, 100, Event)[0]
		answer := mustAnswer(t, o, "job", 100, durable.add)
		wantWaiting(t, o, event)
		pass(groupAge)
		wantWaiting(t, o, event, answer)
		if durable.got() != 1 {
			t.Errorf("called durable %d times, want once", durable.got())
		}
		stop()
	})
}

// Where nothing can be written, answers go out all the same, and nothing else is lost.
func TestDurableFirstHoldsNothingBackWhileTheDiskFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "state")
		o := mustOpenOutbox(t, dir, OutboxOptions{DurableFirst: true})
		mustRun(t, o)
		pass(0)
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		before := mustAnswer(t, o, "before", 100, nil)
		wantWaiting(t, o)
		pass(groupAge)
		during := mustAnswer(t, o, "during", 100, nil)
		if !o.Unwritten() {
			t.Error("the outbox does not say that answers are not written")
		}
		wantWaiting(t, o, before, during)
		wantGaps(t, o)
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		pass(lastRetry)
	})
}

// What the process before wrote while this one waited for it to end is there.
func TestS7_TheJournalIsReadOnceTheProcessBeforeHasEnded(t *testing.T) {
	dir := t.TempDir()
	o := mustOpenOutbox(t, dir, OutboxOptions{})
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan error)
	go func() { ran <- o.Run(ctx) }()
	defer func() {
		cancel()
		<-ran // with an error: it has no file any more
	}()
	opened := make(chan *Outbox)
	go func() {
		next, err := OpenOutbox(dir, OutboxOptions{}, quiet())
		if err != nil {
			t.Error(err)
		}
		opened <- next
	}()
	var last uint64
	for end := time.Now().Add(200 * time.Millisecond); time.Now().Before(end); {
		durable := make(chan struct{})
		last = mustAppend(t, o, 100, func() { close(durable) })
		<-durable
	}
	o.file.now.Load().abandon() // as a kill does
	next := <-opened
	if next == nil {
		return
	}
	defer next.Close()
	if got := backlog(t, next); !slices.Equal(got, upTo(last)) {
		t.Errorf("%d waiting, want all %d that were called durable", len(got), last)
	}
}

func TestS6_AJournalIsTakenOverWhereItsGenerationIsDamaged(t *testing.T) {
	for _, tt := range []struct {
		name string
		key  string
		bit  int
		want []uint64
	}{
		{"S6 a bit of what tells outboxes apart", keyGeneration, 5, []uint64{1, 2}},
		{"S6 a generation that is to come", keyGeneration, 40, []uint64{1, 2}},
		{"S6 an earlier generation", keyGeneration, 63, []uint64{1, 2}},
		{"S6 another key", keyAge, 63, []uint64{1, 2}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := mustOpenOutbox(t, t.TempDir(), OutboxOptions{})
				mustRun(t, o)
				mustAppend(t, o, 100, nil)
				pass(2 * takeOverEvery)
				mustAppend(t, o, 100, nil)
				pass(groupAge)
				dir := t.TempDir()
				mustCopyFiles(t, o, dir)
				mustAlter(t, filepath.Join(dir, "outbox.db"), func(tx *bolt.Tx) error {
					meta := tx.Bucket([]byte(bucketMeta))
					seal := sealOf(meta, uint64(tx.ID()))
					value := slices.Clone(meta.Get([]byte(tt.key)))
					value[tt.bit/8] ^= 0x80 >> (tt.bit % 8)
					return errors.Join(meta.Put([]byte(tt.key), value), meta.Put([]byte(keySeal), seal))
				})
				k := mustOpenOutbox(t, dir, OutboxOptions{})
				if got := backlog(t, k); !slices.Equal(got, tt.want) {
					t.Errorf("waiting %d, want %d", got, tt.want)
				}
				wantDamage(t, k.Damage(), "the count of numbers and time")
			})
		})
	}
}

// Nor is what was taken over taken over again, where the generation is not what is damaged.
func TestS6_AVoidJournalIsLeftWhereAnotherCountIsDamaged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		o := mustOpenOutbox(t, dir, OutboxOptions{})
		stop := mustRun(t, o)
		seq := mustAppend(t, o, 100, nil)
		pass(groupAge)
		o.Delivered(seq)
		stop()
		if err := o.Close(); err != nil {
			t.Fatal(err)
		}
		mustAlter(t, o.path, func(tx *bolt.Tx) error {
			meta := tx.Bucket([]byte(bucketMeta))
			seal := sealOf(meta, uint64(tx.ID()))
			return errors.Join(meta.Put([]byte(keyAge), number(1<<50)), meta.Put([]byte(keySeal), seal))
		})
		if got := backlog(t, mustOpenOutbox(t, dir, OutboxOptions{})); len(got) > 0 {
			t.Errorf("waiting %d again, want none", got)
		}
	})
}

func TestS6_AKillAfterDamageWasFoundWhileRunningLosesNothing(t *testing.T) {
	o := mustOpenOutbox(t, t.TempDir(), OutboxOptions{})
	last := mustAppend(t, o, 100, nil)
	if err := errors.Join(o.commit(false), o.file.close()); err != nil {
		t.Fatal(err)
	}
	mustAlter(t, o.path, func(tx *bolt.Tx) error {
		meta := tx.Bucket([]byte(bucketMeta))
		seal := sealOf(meta, uint64(tx.ID()))
		return errors.Join(meta.Put([]byte(keyGeneration), number(1)), meta.Put([]byte(keySeal), seal))
	})
	if err := o.reopen(); err != nil {
		t.Fatal(err)
	}
	k := mustKill(t, o)
	if got := backlog(t, k); !slices.Equal(got, []uint64{last}) {
		t.Errorf("waiting %d, want %d", got, last)
	}
	if got := mustAppend(t, k, 10, nil); got < last+reserve/2 {
		t.Errorf("number %d, want one that was not given out before", got)
	}
}

func TestS6_AJournalThatIsGoneIsTold(t *testing.T) {
	for name, harm := range map[string]func(path string) error{
		"removed":       os.Remove,
		"emptied":       func(path string) error { return os.Truncate(path, 0) },
		"cut short":     func(path string) error { return os.Truncate(path, 3000) },
		"written over":  func(path string) error { return os.WriteFile(path, make([]byte, journalSize), 0o600) },
		"now a folder":  func(path string) error { return errors.Join(os.Remove(path), os.Mkdir(path, 0o700)) },
		"left as it is": func(string) error { return nil },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := mustOpenOutbox(t, t.TempDir(), OutboxOptions{})
				mustRun(t, o)
				mustAppend(t, o, 99, nil)
				pass(groupAge)
				dir := t.TempDir()
				mustCopyFiles(t, o, dir)
				if err := harm(filepath.Join(dir, "outbox.log")); err != nil {
					t.Fatal(err)
				}
				told := len(mustOpenOutbox(t, dir, OutboxOptions{}).Damage()) > 0
				if want := name != "left as it is"; told != want {
					t.Errorf("told %v, want %v", told, want)
				}
			})
		})
	}
}
