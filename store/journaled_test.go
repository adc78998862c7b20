package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"
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
		frames []int // damaged
		left   []uint64
		gaps   []Gap
	}{
		{"S6 the first", []int{0}, []uint64{3, 4, 5, 6, 7, 8, 9, 10}, []Gap{lostLate(1, 2)}},
		{"S6 two in the middle", []int{1, 2}, []uint64{1, 2, 7, 8, 9, 10}, []Gap{lostLate(3, 6)}},
		{"S6 two apart", []int{1, 3}, []uint64{1, 2, 5, 6, 9, 10}, []Gap{lostLate(3, 4), lostLate(7, 8)}},
		{"S6 the last, which may have been torn", []int{4}, upTo(8), nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o := &Outbox{path: filepath.Join(dir, "outbox.db")}
			to := t.TempDir()
			mustCopyFiles(t, o, to)
			for _, n := range tt.frames {
				mustWriteAt(t, filepath.Join(to, "outbox.log"), int64(n*journalBlock+frameHead+30), []byte("#"))
			}
			k := mustOpenOutbox(t, to, OutboxOptions{})
			if got := backlog(t, k); !slices.Equal(got, tt.left) {
				t.Errorf("waiting %d, want %d", got, tt.left)
			}
			wantGaps(t, k, tt.gaps...)
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
	for _, g := range []group{
		{},
		{puts: []put{waits, kept}, done: deletes{queue: []uint64{9, 3, 1 << 60}, records: []uint64{5}}, gaps: []byte("[]"),
			reserved: 1 << 50, age: time.Minute},
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
	return slices.Equal(a.done.queue, b.done.queue) && slices.Equal(a.done.records, b.done.records) &&
		slices.Equal(a.gaps, b.gaps) && (a.gaps == nil) == (b.gaps == nil) && a.reserved == b.reserved && a.age == b.age &&
		slices.EqualFunc(a.puts, b.puts, func(a, b put) bool {
			return a.Seq == b.Seq && a.Job == b.Job && a.Stream == b.Stream && a.age == b.age &&
				string(a.Payload) == string(b.Payload) && slices.Equal(a.queued, b.queued)
		})
}

func FuzzParseGroup(f *testing.F) {
	r := Record{Seq: 3, Topic: "t", Payload: []byte("payload"), Job: "job", Stream: Live}
	g := group{puts: []put{{&item{Record: r}, []byte{1, 3}}, {&item{Record: r}, nil}}, gaps: []byte("[]")}
	g.done = deletes{queue: []uint64{9, 3, 1 << 60}, records: []uint64{5}}
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
