package store

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// wantAnswer checks the answer to a job, seq 0 standing for none.
func wantAnswer(tb testing.TB, o *Outbox, job string, seq uint64, size int) {
	tb.Helper()
	r, err := o.Answer(job)
	if seq == 0 {
		if !errors.Is(err, ErrNotFound) {
			tb.Errorf("answer of %s: record %d, %v; want ErrNotFound", job, r.Seq, err)
		}
		return
	}
	if err != nil || r.Seq != seq || r.Job != job || string(r.Payload) != string(payload(seq, size)) ||
		r.Request != DigestOf([]byte(job)) {
		tb.Errorf("answer of %s: record %d of job %q, %d bytes, %v; want %d, %d bytes", job, r.Seq, r.Job, len(r.Payload),
			err, seq, size)
	}
}

func TestAnswersAreFoundInEveryState(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := mustOpenOutbox(t, t.TempDir(), OutboxOptions{})
		waits, delivered := mustAnswer(t, o, "waits", 100, nil), mustAnswer(t, o, "delivered", 100, nil)
		wantAnswer(t, o, "waits", waits, 100)
		o.Delivered(delivered)
		wantAnswer(t, o, "delivered", delivered, 100)
		stop := mustRun(t, o)
		pass(lazyEvery)
		wantAnswer(t, o, "waits", waits, 100)
		wantAnswer(t, o, "delivered", delivered, 100)
		o = restart(t, o, stop)
		wantAnswer(t, o, "waits", waits, 100)
		wantAnswer(t, o, "delivered", delivered, 100)
		wantAnswer(t, o, "unknown", 0, 0)
		if got := backlog(t, o); !slices.Equal(got, []uint64{waits}) {
			t.Errorf("waiting %d, want %d", got, waits)
		}
		again := mustAnswer(t, o, "waits", 50, nil)
		wantAnswer(t, o, "waits", again, 50)
	})
}

func TestAnAnswerOutlivesItsEvictionFromTheQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := mustOpenOutbox(t, t.TempDir(), OutboxOptions{Quota: 250})
		var durable tally
		for i := range 3 {
			mustAnswer(t, o, fmt.Sprint(i), 99, durable.add)
		}
		if gap := gapsOf(o); len(gap) != 1 || gap[0].Records != 1 {
			t.Errorf("gaps %+v, want one record", gap)
		}
		o = restart(t, o, mustRun(t, o))
		wantAnswer(t, o, "0", 1, 99)
		if got := backlog(t, o); !slices.Equal(got, []uint64{2, 3}) || durable.got() != 3 {
			t.Errorf("waiting %d, durable called %d times; want 2 and 3, 3 times", got, durable.got())
		}
	})
}

// twin is the alias of the answers whose jobs begin with "cam": the digest of what
// they answer.
func twin(r Record) string {
	if !strings.HasPrefix(r.Job, "cam") {
		return ""
	}
	return "\x00" + r.Request.String()
}

func TestAnAnswerIsFoundByItsAlias(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := mustOpenOutbox(t, t.TempDir(), OutboxOptions{Alias: twin})
		want := func(job string, seq uint64) {
			t.Helper()
			r, err := o.Alias("\x00" + DigestOf([]byte(job)).String())
			if seq == 0 && !errors.Is(err, ErrNotFound) || seq > 0 && (err != nil || r.Seq != seq || r.Job != job) {
				t.Errorf("alias of %s: record %d of job %q, %v; want %d", job, r.Seq, r.Job, err, seq)
			}
		}
		cam, other := mustAnswer(t, o, "cam-1", 100, nil), mustAnswer(t, o, "42", 100, nil)
		want("cam-1", cam)
		want("42", 0)
		wantAnswer(t, o, "42", other, 100)
		o = restart(t, o, mustRun(t, o))
		want("cam-1", cam)
		want("42", 0)
		wantAnswer(t, o, "cam-1", cam, 100)
		stop := mustRun(t, o)
		again := mustAnswer(t, o, "cam-1", 100, nil)
		want("cam-1", again)
		pass(answerKeep)
		want("cam-1", 0)
		wantAnswer(t, o, "cam-1", 0, 0)
		o = restart(t, o, stop)
		want("cam-1", 0)
	})
}

func TestS13_AnswersAreKeptAnHourOfRunningTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := mustOpenOutbox(t, t.TempDir(), OutboxOptions{})
		stop := mustRun(t, o)
		o.Delivered(mustAnswer(t, o, "old", 100, nil))
		pass(40 * time.Minute)
		waits := mustAnswer(t, o, "waits", 100, nil)
		pass(lazyEvery)
		o = restart(t, o, stop)
		pass(0)
		wantAnswer(t, o, "old", 1, 100)
		stop = mustRun(t, o)
		pass(19 * time.Minute)
		wantAnswer(t, o, "old", 1, 100)
		pass(time.Minute)
		wantAnswer(t, o, "old", 0, 0)
		wantAnswer(t, o, "waits", waits, 100)
		pass(time.Hour)
		mustAppend(t, o, 10, nil) // expired answers are deleted with the next commit
		pass(2 * takeOverEvery)
		wantAnswer(t, o, "waits", 0, 0)
		if got := onDisk(t, o, bucketRecords); !slices.Equal(got, []uint64{waits, waits + 1}) {
			t.Errorf("records %d, want %d, which still waits, and %d", got, waits, waits+1)
		}
		o.Delivered(waits)
		pass(2 * takeOverEvery)
		if got := onDisk(t, o, bucketRecords); !slices.Equal(got, []uint64{waits + 1}) {
			t.Errorf("records %d, want %d", got, waits+1)
		}
		// The device is off for a year, which nobody counts.
		o.Delivered(mustAnswer(t, o, "new", 100, nil))
		o = restart(t, o, stop)
		pass(365 * 24 * time.Hour)
		o = restart(t, o, func() {})
		wantAnswer(t, o, "new", waits+2, 100)
	})
}

func TestAnswersAreBoundedInNumber(t *testing.T) {
	t.Parallel()
	o := mustOpenOutbox(t, t.TempDir(), OutboxOptions{NoSync: true, Memory: 64 << 20})
	for i := range answerLimit + 10 {
		o.Delivered(mustAnswer(t, o, fmt.Sprint(i), 0, nil))
	}
	for job, seq := range map[string]uint64{"0": 0, "9": 0, "10": 11, fmt.Sprint(answerLimit): answerLimit + 1} {
		wantAnswer(t, o, job, seq, 0)
	}
	o = restart(t, o, mustRun(t, o))
	wantAnswer(t, o, "9", 0, 0)
	wantAnswer(t, o, "10", 11, 0)
	if got := len(onDisk(t, o, bucketRecords)); got != answerLimit {
		t.Errorf("%d answers on disk, want %d", got, answerLimit)
	}
}

func TestAnswersAreBoundedInBytes(t *testing.T) {
	t.Parallel()
	o := mustOpenOutbox(t, t.TempDir(), OutboxOptions{NoSync: true, Memory: 64 << 20})
	const size = 4<<20 - 1 // and one byte of topic
	for i := range 18 {
		o.Delivered(mustAnswer(t, o, fmt.Sprint(i), size, nil))
	}
	o = restart(t, o, mustRun(t, o))
	wantAnswer(t, o, "1", 0, 0)
	wantAnswer(t, o, "2", 3, size)
	if got := len(onDisk(t, o, bucketRecords)); got != 16 {
		t.Errorf("%d answers on disk, want 16", got)
	}
}

func TestWhetherAJobWasAnsweredIsKnownWithoutTheDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := mustOpenOutbox(t, t.TempDir(), OutboxOptions{Alias: func(r Record) string { return "also " + r.Job }})
		stop := mustRun(t, o)
		mustAnswer(t, o, "job", 100, nil)
		stop()
		if err := o.Close(); err != nil {
			t.Fatal(err)
		}
		for name, want := range map[string]bool{"job": true, "also job": true, "other": false} {
			if got := o.Answered(name); got != want {
				t.Errorf("%s: got %v, want %v", name, got, want)
			}
		}
		time.Sleep(answerKeep) // of the bubble
		if o.Answered("job") {
			t.Error("an answer that is too old to be found is announced")
		}
	})
}

func TestAnswersThatWereGivenUpTakeNoMemory(t *testing.T) {
	o := mustOpenOutbox(t, t.TempDir(), OutboxOptions{Memory: 64 << 10})
	mustAnswer(t, o, "stored", 100, nil)
	mustCommit(t, o)
	o.fail(errors.New("no disk"))
	for i := range 20_000 {
		mustAnswer(t, o, fmt.Sprint(i), 100, nil)
	}
	if got := len(o.answers.log.elems); got > 4*o.answers.log.count+100 {
		t.Errorf("%d kept in memory for %d answers", got, o.answers.log.count)
	}
}
