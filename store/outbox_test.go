package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	bolt "go.etcd.io/bbolt"
)

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

func mustOpenOutbox(tb testing.TB, dir string, opts OutboxOptions) *Outbox {
	tb.Helper()
	o, err := OpenOutbox(dir, opts, quiet())
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { o.Close() })
	return o
}

// mustRun runs o and returns a function that stops it and waits for it.
func mustRun(tb testing.TB, o *Outbox) (stop func()) {
	tb.Helper()
	ctx, cancel := context.WithCancel(tb.Context())
	done := make(chan error, 1)
	go func() { done <- o.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			tb.Errorf("Run: %v", err)
		}
	})
	tb.Cleanup(stop)
	return stop
}

// restart stops o and opens the same folder again.
func restart(tb testing.TB, o *Outbox, stop func()) *Outbox {
	tb.Helper()
	stop()
	if err := o.Close(); err != nil {
		tb.Fatal(err)
	}
	return mustOpenOutbox(tb, filepath.Dir(o.path), o.opts)
}

// mustAppend appends a record of n bytes of payload under the topic "t", which
// counts n+1 bytes.
func mustAppend(tb testing.TB, o *Outbox, n int, durable func()) uint64 {
	tb.Helper()
	seq, err := o.Append(func(seq uint64) (Record, error) {
		return Record{Topic: "t", Payload: payload(seq, n)}, nil
	}, durable)
	if err != nil {
		tb.Fatal(err)
	}
	return seq
}

// payload returns n bytes that tell seq, as far as they reach.
func payload(seq uint64, n int) []byte {
	b := fmt.Appendf(nil, "%020d", seq)
	return append(b, make([]byte, max(0, n-len(b)))...)[:n]
}

func mustAnswer(tb testing.TB, o *Outbox, job string, n int, durable func()) uint64 {
	tb.Helper()
	seq, err := o.Append(func(seq uint64) (Record, error) {
		return Record{Topic: "t", Payload: payload(seq, n), Job: job, Request: DigestOf([]byte(job))}, nil
	}, durable)
	if err != nil {
		tb.Fatal(err)
	}
	return seq
}

// backlog returns the numbers of everything that waits, sorted, and checks that each
// stream is in order.
func backlog(tb testing.TB, o *Outbox) (all []uint64) {
	tb.Helper()
	for s := range Stream(Streams) {
		all = append(all, inStream(tb, o, s)...)
	}
	slices.Sort(all)
	return all
}

// inStream returns the numbers of what waits in a stream, in the order Collect gives it.
func inStream(tb testing.TB, o *Outbox, s Stream) (seqs []uint64) {
	tb.Helper()
	for after := uint64(0); ; after = seqs[len(seqs)-1] {
		records, more := o.Collect(s, after, 100)
		for more != nil && !o.lineHasNone(s, after) {
			<-more // the file is opened again
			records, more = o.Collect(s, after, 100)
		}
		for _, r := range records {
			if !bytes.Equal(r.Payload, payload(r.Seq, len(r.Payload))) || r.Stream != s {
				tb.Errorf("record %d of stream %d has the payload %.30q", r.Seq, r.Stream, r.Payload)
			}
			if len(seqs) > 0 && seqs[len(seqs)-1] >= r.Seq {
				tb.Errorf("record %d after record %d in stream %d", r.Seq, seqs[len(seqs)-1], s)
			}
			seqs = append(seqs, r.Seq)
		}
		if len(records) == 0 && o.lineHasNone(s, after) {
			return seqs
		}
	}
}

func (o *Outbox) lineHasNone(s Stream, after uint64) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	onDisk, inMemory := o.peek(s, after, 1)
	return len(onDisk)+len(inMemory) == 0
}

// gapsOf returns what was lost and not told.
func gapsOf(o *Outbox) (all []Gap) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, a := range o.gaps.accounts {
		if a.told == 0 {
			all = append(all, a.Gap)
		}
	}
	return all
}

// wantGaps wants these losses and no other.
func wantGaps(tb testing.TB, o *Outbox, want ...Gap) {
	tb.Helper()
	if got := gapsOf(o); !slices.Equal(got, want) {
		tb.Errorf("gaps %+v, want %+v", got, want)
	}
}

// commits returns the number of the last transaction.
func commits(tb testing.TB, o *Outbox) (n int) {
	tb.Helper()
	mustView(tb, o, func(tx *bolt.Tx) { n = tx.ID() })
	return n
}

// onDisk returns the keys in one bucket of the file.
func onDisk(tb testing.TB, o *Outbox, bucket string) (seqs []uint64) {
	tb.Helper()
	mustView(tb, o, func(tx *bolt.Tx) {
		tx.Bucket([]byte(bucket)).ForEach(func(key, _ []byte) error {
			seqs = append(seqs, parseNumber(key))
			return nil
		})
	})
	return seqs
}

func mustView(tb testing.TB, o *Outbox, fn func(*bolt.Tx)) {
	tb.Helper()
	if err := o.file.view(func(tx *bolt.Tx) error { fn(tx); return nil }); err != nil {
		tb.Fatal(err)
	}
}

// A tally counts calls of durable.
type tally struct{ n atomic.Int64 }

func (c *tally) add()     { c.n.Add(1) }
func (c *tally) got() int { return int(c.n.Load()) }

// pass lets time go by in a bubble.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func upTo(n uint64) (seqs []uint64) {
	for seq := uint64(1); seq <= n; seq++ {
		seqs = append(seqs, seq)
	}
	return seqs
}

func TestRecordsComeInOrderThroughRestarts(t *testing.T) {
	o := mustOpenOutbox(t, t.TempDir(), OutboxOptions{Memory: 40 << 10})
	for range 3 {
		stop := mustRun(t, o)
		for range 100 {
			mustAppend(t, o, 1000, nil)
		}
		o = restart(t, o, stop)
	}
	if got, want := backlog(t, o), upTo(300); !slices.Equal(got, want) {
		t.Errorf("got %d, want 1 to 300", got)
	}
	if records, bytes := o.Depth(); records != 300 || bytes != 300*1001 {
		t.Errorf("depth %d records, %d bytes; want 300, %d", records, bytes, 300*1001)
	}
}

func TestNumbersOutliveAFileThatIsReplaced(t *testing.T) {
	o := mustOpenOutbox(t, t.TempDir(), OutboxOptions{})
	last := mustAppend(t, o, 10, nil)
	if err := errors.Join(os.Remove(o.path), o.reopen()); err != nil {
		t.Fatal(err)
	}
	o = restart(t, o, func() {}) // without a commit, like a crash
	if got := mustAppend(t, o, 10, nil); got <= last {
		t.Errorf("number %d after a crash, want one over %d", got, last)
	}
}

func TestNumbersSkipAheadAfterACrashOnly(t *testing.T) {
	dir := t.TempDir()
	o := mustOpenOutbox(t, dir, OutboxOptions{})
	mustAppend(t, o, 10, nil)
	o.Close() // without a last commit, like a crash
	o = mustOpenOutbox(t, dir, OutboxOptions{})
	if got := mustAppend(t, o, 10, nil); got <= reserve {
		t.Errorf("number %d after a crash, want one over %d", got, reserve)
	}
	next := o.numbers.next
	o = restart(t, o, mustRun(t, o))
	if got := mustAppend(t, o, 10, nil); got != next {
		t.Errorf("number %d after a clean stop, want %d", got, next)
	}
}

func TestT1_NumbersGoOnFromTheFloorWhereTheClockIsNotSet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // the bubble's clock is 26 years behind
		dir := t.TempDir()
		o := mustOpenOutbox(t, dir, OutboxOptions{})
		o.numbers.next = 5<<40 + 1
		floor := o.Horizon()
		o.Close()
		if err := os.WriteFile(o.path, []byte("not a database"), 0o600); err != nil {
			t.Fatal(err)
		}
		o = mustOpenOutbox(t, dir, OutboxOptions{Floor: floor << 8})
		if got, least := mustAppend(t, o, 10, nil), floor<<8; got < least || o.Horizon() <= got {
			t.Errorf("number %d, want one from %d on, below the horizon, %d", got, least, o.Horizon())
		}
	})
}

func TestNumbersDoNotRunOutWhereNothingNeedsACommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := mustOpenOutbox(t, t.TempDir(), OutboxOptions{})
		mustRun(t, o)
		pass(0)
		for range 4 {
			o.mu.Lock()
			o.numbers.next += reserve / 2 // as if so many had been delivered at once
			o.mu.Unlock()
			o.Delivered(mustAppend(t, o, 10, nil))
			pass(time.Minute)
		}
	})
}

func TestNoNumberIsGivenOutBeyondTheReservation(t *testing.T) {
	o := mustOpenOutbox(t, t.TempDir(), OutboxOptions{})
	o.numbers.next = o.numbers.reserved - 1
	mustAppend(t, o, 10, nil)
	if seq, err := o.Append(func(uint64) (Record, error) { return Record{}, nil }, nil); err == nil {
		t.Errorf("got number %d beyond the reservation, want an error", seq)
	}
}

func TestGroupsAreCommittedTogether(t *testing.T) {
	for _, tt := range []struct {
		name    string
		records int
		size    int
		after   time.Duration
		logged  int // groups in the journal
		taken   int // commits of outbox.db
	}{
		{"64 records at once", 64, 100, 0, 1, 0},
		{"63 records not at once", 63, 100, 4 * time.Millisecond, 0, 0},
		{"63 records after 5 ms", 63, 100, 5 * time.Millisecond, 1, 0},
		{"15 records not at once", 15, 100, 19 * time.Millisecond, 0, 0},
		{"15 records after 20 ms", 15, 100, 20 * time.Millisecond, 1, 0},
		{"a block not at once", 8, 511, 4 * time.Millisecond, 0, 0},
		{"a block after 5 ms", 8, 511, 5 * time.Millisecond, 1, 0},
		{"256 KiB at once", 2, 128 << 10, 0, 1, 0},
		{"more than the journal takes", 1, journalSize, 0, 0, 1},
		{"one record, taken over after a minute, and nothing when idle", 1, 100, time.Hour, 0, 1},
		{"nothing", 0, 0, time.Hour, 0, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := mustOpenOutbox(t, t.TempDir(), OutboxOptions{})
				mustRun(t, o)
				synctest.Wait()
				before := commits(t, o)
				var durable tally
				for range tt.records {
					mustAppend(t, o, tt.size, durable.add)
				}
				synctest.Wait()
				pass(tt.after)
				if logged, taken := len(mustLogged(t, o)), commits(t, o)-before; logged != tt.logged || taken != tt.taken {
					t.Errorf("%d groups logged, %d commits; want %d, %d", logged, taken, tt.logged, tt.taken)
				}
				if want := tt.records * (tt.logged + tt.taken); durable.got() != want {
					t.Errorf("%d records called durable, want %d", durable.got(), want)
				}
			})
		})
	}
}

// An answer is on the disk 20 ms after it was given, whatever the broker says
// meanwhile.
func TestAnAnswerIsWrittenAtOnceThoughItWasDelivered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := mustOpenOutbox(t, t.TempDir(), OutboxOptions{})
		mustRun(t, o)
		pass(0)
		for i := range 20 { // two a second, acknowledged after 0 to 40 ms, or 60 to 80
			var durable tally
			seq, ack := mustAnswer(t, o, fmt.Sprint(i), 100, durable.add), time.Duration(i%10)*10*time.Millisecond
			if i%10 == 5 {
				ack = 0
			}
			pass(ack)
			o.Delivered(seq)
			pass(max(0, groupAge-ack))
			if durable.got() != 1 {
				t.Errorf("answer %d, delivered after %v: called durable %d times, want once", i, ack, durable.got())
			}
			pass(400 * time.Millisecond)
		}
		if logged := mustLogged(t, o); len(logged) < 20 || len(logged) > 23 {
			t.Errorf("%d groups logged for 20 answers, want one each, with what was delivered in the next", len(logged))
		}
	})
}

// mustLogged returns the groups of the journal that outbox.db does not have.
func mustLogged(tb testing.TB, o *Outbox) (groups []group) {
	tb.Helper()
	b := mustReadJournal(tb, o.journal.path)
	clear(b[max(0, len(b)-journalBlock):]) // the mark
	bodies, _ := frames(b, o.journal.generation)
	for _, body := range bodies {
		g, _, err := parseGroup(body)
		if err != nil {
			tb.Error(err)
		}
		groups = append(groups, g)
	}
	return groups
}

func TestDeliveredBeforeTheCommitIsNotQueued(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := mustOpenOutbox(t, t.TempDir(), OutboxOptions{})
		mustRun(t, o)
		pass(0)
		before := commits(t, o)
		var durable tally
		event := mustAppend(t, o, 100, durable.add)
		o.Delivered(event)
		pass(time.Hour)
		if got := commits(t, o) - before; got != 0 || durable.got() != 0 {
			t.Errorf("delivered event: %d commits, durable called %d times; want none", got, durable.got())
		}
		answer := mustAnswer(t, o, "job", 100, durable.add)
		o.Delivered(answer)
		pass(time.Hour / 2)
		if queue, records := onDisk(t, o, bucketQueue), onDisk(t, o, bucketRecords); len(queue) != 0 ||
			!slices.Equal(records, []uint64{answer}) {
			t.Errorf("delivered answer: queue %d, records %d; want none, %d", queue, records, answer)
		}
		if durable.got() != 1 {
			t.Errorf("durable called %d times, want once", durable.got())
		}
	})
}

func TestDeliveredAfterTheCommitIsDeleted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := mustOpenOutbox(t, t.TempDir(), OutboxOptions{})
		mustRun(t, o)
		event, answer, last := mustAppend(t, o, 9, nil), mustAnswer(t, o, "job", 9, nil), mustAppend(t, o, 9, nil)
		pass(groupAge)
		o.Delivered(event, answer, event, 12345)
		pass(takeOverEvery)
		if got, want := onDisk(t, o, bucketQueue), []uint64{last}; !slices.Equal(got, want) {
			t.Errorf("queue %d, want %d", got, want)
		}
		if got, want := onDisk(t, o, bucketRecords), []uint64{answer, last}; !slices.Equal(got, want) {
			t.Errorf("records %d, want %d", got, want)
		}
		if got, want := backlog(t, o), []uint64{last}; !slices.Equal(got, want) {
			t.Errorf("waiting %d, want %d", got, want)
		}
	})
}

func TestCollectTellsWhatToWaitFor(t *testing.T) {
	o := mustOpenOutbox(t, t.TempDir(), OutboxOptions{})
	records, more := o.Collect(Live, 0, 10)
	if len(records) > 0 || more == nil {
		t.Fatalf("got %v, %v of an empty outbox, want nothing and what to wait for", records, more)
	}
	select {
	case <-more:
		t.Error("woken by nothing")
	default:
	}
	seq := mustAppend(t, o, 10, nil)
	<-more
	if records, more := o.Collect(Late, 0, 10); len(records) != 1 || records[0].Seq != seq || more != nil {
		t.Errorf("got %v, %v, want record %d", records, more, seq)
	}
	if records, more := o.Collect(Late, seq, 10); len(records) > 0 || more == nil {
		t.Errorf("got %v, %v with nothing after %d, want what to wait for", records, more, seq)
	}
}

func TestAFailedEncodeTakesNoNumber(t *testing.T) {
	o := mustOpenOutbox(t, t.TempDir(), OutboxOptions{})
	bad := errors.New("bad")
	if _, err := o.Append(func(uint64) (Record, error) { return Record{}, bad }, nil); !errors.Is(err, bad) {
		t.Errorf("got %v, want %v", err, bad)
	}
	if got := mustAppend(t, o, 10, nil); got != 1 {
		t.Errorf("number %d, want 1", got)
	}
}

func TestAppendIsRefusedOnceRunReturned(t *testing.T) {
	o := mustOpenOutbox(t, t.TempDir(), OutboxOptions{})
	mustRun(t, o)()
	if _, err := o.Append(func(uint64) (Record, error) { return Record{}, nil }, nil); err == nil {
		t.Error("got no error")
	}
}

func TestS8_DropsEqualTheGapInNumbers(t *testing.T) {
	for _, tt := range []struct {
		name string
		opts OutboxOptions
		run  bool
	}{
		{"all in memory", OutboxOptions{Quota: 50_000, Memory: 1 << 20}, false},
		{"oldest on disk", OutboxOptions{Quota: 50_000, Memory: 5_000}, true},
		{"some of both", OutboxOptions{Quota: 50_000, Memory: 30_000}, true},
	} {
		t.Run("S8 "+tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := mustOpenOutbox(t, t.TempDir(), tt.opts)
				if tt.run {
					mustRun(t, o)
				}
				sent := uint64(0)
				for range 200 {
					sent = mustAppend(t, o, 999, nil)
					synctest.Wait()
				}
				delivered := backlog(t, o)
				lost := int(sent) - len(delivered)
				wantGaps(t, o, Gap{Reason: Quota, Records: lost, Bytes: int64(lost) * 1000, First: 1, Last: delivered[0] - 1})
				if len(delivered) != 47 { // a twentieth is not for results
					t.Errorf("%d left, want 47", len(delivered))
				}
				pass(lazyEvery)
				if got := onDisk(t, o, bucketRecords); tt.run && !slices.Equal(got, delivered) {
					t.Errorf("on disk %d, want %d", got, delivered)
				}
			})
		})
	}
}

func TestS9_LoweredQuotaTrimsAtStart(t *testing.T) {
	dir := t.TempDir()
	o := mustOpenOutbox(t, dir, OutboxOptions{})
	stop := mustRun(t, o)
	for range 100 {
		mustAppend(t, o, 999, nil)
	}
	stop()
	o.Close()
	o = mustOpenOutbox(t, dir, OutboxOptions{Quota: 10_000})
	if got, want := backlog(t, o), upTo(100)[91:]; !slices.Equal(got, want) {
		t.Errorf("got %d, want %d", got, want)
	}
	wantGaps(t, o, Gap{Records: 91, Bytes: 91_000, First: 1, Last: 91})
	mustRun(t, o)()
	if got := onDisk(t, o, bucketRecords); len(got) != 9 {
		t.Errorf("%d records on disk, want 9", len(got))
	}
}

func TestS10_ARecordOverTheQuotaIsRejectedAlone(t *testing.T) {
	o := mustOpenOutbox(t, t.TempDir(), OutboxOptions{Quota: 1000})
	for _, tt := range []struct {
		size int
		ok   bool
	}{{500, true}, {1000, false}, {5000, false}, {400, true}} {
		_, err := o.Append(func(seq uint64) (Record, error) {
			return Record{Topic: "t", Payload: payload(seq, tt.size)}, nil
		}, nil)
		if (err == nil) != tt.ok {
			t.Errorf("%d bytes: %v, want accepted %v", tt.size, err, tt.ok)
		}
	}
	if got := backlog(t, o); !slices.Equal(got, []uint64{1, 2}) {
		t.Errorf("waiting %d, want 1 and 2", got)
	}
}

func TestConcurrentUseKeepsOrderAndLosesNothing(t *testing.T) {
	const senders, each = 8, 500
	o := mustOpenOutbox(t, t.TempDir(), OutboxOptions{Memory: 1 << 20})
	stop := mustRun(t, o)
	var durable sync.WaitGroup
	durable.Add(senders * each)
	for s := range senders {
		go func() {
			for i := range each {
				mustAnswer(t, o, fmt.Sprintf("%d-%d", s, i), 300, durable.Done)
			}
		}()
	}
	for after := uint64(0); after < senders*each; {
		records, more := o.Collect(Late, after, 64)
		if more != nil {
			<-more
		}
		for _, r := range records {
			if r.Seq != after+1 {
				t.Fatalf("record %d after %d", r.Seq, after)
			}
			after = r.Seq
			o.Delivered(r.Seq)
			if got, err := o.Answer(r.Job); err != nil || got.Seq != r.Seq {
				t.Fatalf("answer of %s: %d, %v; want %d", r.Job, got.Seq, err, r.Seq)
			}
		}
	}
	durable.Wait()
	stop()
	if records, bytes := o.Depth(); records != 0 || bytes != 0 || o.memory.bytes != 0 || o.Gaps() {
		t.Errorf("left: %d records, %d bytes, %d bytes of memory", records, bytes, o.memory.bytes)
	}
	if got := onDisk(t, o, bucketRecords); len(got) != senders*each {
		t.Errorf("%d answers on disk, want %d", len(got), senders*each)
	}
}

func TestS7_T7_SecondProcessIsLockedOut(t *testing.T) {
	dir := t.TempDir()
	o := mustOpenOutbox(t, dir, OutboxOptions{})
	s := mustOpen(t, dir)
	start := time.Now()
	_, err := Open(dir, Options{}, quiet())
	if !errors.Is(err, ErrLocked) {
		t.Errorf("S7 second Open: %v, want ErrLocked", err)
	}
	_, err = OpenOutbox(dir, OutboxOptions{}, quiet())
	if !errors.Is(err, ErrLocked) {
		t.Errorf("T7 second OpenOutbox: %v, want ErrLocked", err)
	}
	if took := time.Since(start); took > 3*time.Second {
		t.Errorf("two refusals took %v, want a second each", took)
	}
	if err := s.SetCell("mode", []byte("balanced")); err != nil {
		t.Errorf("first process: %v", err)
	}
	mustAppend(t, o, 10, nil)
	mustRun(t, o)()
}

func TestC14_FilesAreClosedToOthers(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state", "limber")
	mustOpenOutbox(t, dir, OutboxOptions{})
	mustOpen(t, dir)
	for name, want := range map[string]os.FileMode{"": 0o700, "limber.db": 0o600, "outbox.db": 0o600,
		"outbox.log": 0o600} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().Perm(); got != want {
			t.Errorf("%q has mode %o, want %o", name, got, want)
		}
	}
}

// BenchmarkAppend appends records of 512 bytes: with the link up, when they are
// delivered at once and the disk has nothing to do, and with the link down, when
// each has to be durable and 256 may be under way.
func BenchmarkAppend(b *testing.B) {
	body := make([]byte, 512)
	encode := func(uint64) (Record, error) { return Record{Topic: "t", Payload: body}, nil }
	b.Run("link=up", func(b *testing.B) {
		o := mustOpenOutbox(b, b.TempDir(), OutboxOptions{})
		mustRun(b, o)
		b.ReportAllocs()
		for b.Loop() {
			seq, _ := o.Append(encode, nil)
			o.Delivered(seq)
		}
	})
	b.Run("link=down", func(b *testing.B) {
		o := mustOpenOutbox(b, b.TempDir(), OutboxOptions{})
		mustRun(b, o)
		underWay := make(chan struct{}, 256)
		b.ReportAllocs()
		for b.Loop() {
			underWay <- struct{}{}
			o.Append(encode, func() { <-underWay })
		}
	})
}
