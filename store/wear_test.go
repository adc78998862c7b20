//go:build linux

package store

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// asked returns how many bytes this process has asked the system to write. The outbox
// writes whole blocks, so it is what the disk gets, but for what the file system notes
// for itself.
func asked(tb testing.TB) (n int64) {
	tb.Helper()
	b, err := os.ReadFile("/proc/self/io")
	if err == nil {
		var read int64
		_, err = fmt.Sscanf(string(b), "rchar: %d\nwchar: %d", &read, &n)
	}
	if err != nil {
		tb.Skipf("the system does not count what is written: %v", err)
	}
	return n
}

// The budget of a card: one gigabyte a day at a job a second, whatever becomes of the
// answers. A day is 24 times the second hour, when answers expire, too.
func TestS16_AJobASecondWritesAGigabyteADayAtMost(t *testing.T) {
	if !inChild(t) {
		return // other tests write, too
	}
	for _, tt := range []struct {
		name string
		ack  time.Duration // after the answer; 0: never
		most float64       // gigabytes a day
	}{
		{"S16 link up", 5 * time.Millisecond, 1},
		{"S16 slow link", 200 * time.Millisecond, 1},
		{"S16 link down", 0, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := mustOpenOutbox(t, t.TempDir(), OutboxOptions{NoSync: true})
				stop := mustRun(t, o)
				var before int64
				for i := range 7200 {
					if i == 3600 {
						before = asked(t)
					}
					seq := mustAnswer(t, o, fmt.Sprint(i), 450, nil)
					if tt.ack > 0 {
						pass(tt.ack)
						o.Delivered(seq)
					}
					pass(time.Second - tt.ack)
				}
				day := float64(asked(t)-before) * 24 / 1e9
				if t.Logf("%.2f GB a day", day); day > tt.most || day < 0.1 {
					t.Errorf("%.2f GB a day, want %.1f at most, and what answers take at least", day, tt.most)
				}
				stop()
			})
		})
	}
}

// A stalling file takes its time for every write.
type stalling struct {
	*os.File
	n int
}

func (s *stalling) WriteAt(b []byte, at int64) (int, error) {
	s.n++
	<-time.After(time.Duration(s.n%10+1) * 500 * time.Millisecond)
	return s.File.WriteAt(b, at)
}

func TestS15_AStallingDiskHoldsUpNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := mustOpenOutbox(t, t.TempDir(), OutboxOptions{Memory: 100_000})
		o.journal.file = &stalling{File: o.journal.file.(*os.File)}
		stop := mustRun(t, o)
		start, most := time.Now(), int64(0)
		var durable tally
		for i := range 6000 { // a minute
			mustAnswer(t, o, fmt.Sprint(i), 300, durable.add)
			if records, _ := o.Collect(Late, 0, 10); len(records) == 0 {
				t.Fatal("nothing to collect")
			}
			if i%2 == 0 {
				o.Delivered(uint64(i + 1))
			}
			o.mu.Lock()
			most = max(most, o.memory.bytes)
			o.mu.Unlock()
			pass(10 * time.Millisecond)
		}
		if took := time.Since(start); took != time.Minute {
			t.Errorf("a minute of work took %v", took)
		}
		if most > freshShare*100_000 {
			t.Errorf("%d bytes of memory, want %d at most", most, freshShare*100_000)
		}
		pass(time.Minute)
		lost := 0
		for _, g := range gapsOf(o) {
			lost += g.Records
		}
		if durable.got()+lost < 6000 || durable.got() < 600 {
			t.Errorf("%d answers became durable, %d were lost; want all of 6000, most of them durable", durable.got(), lost)
		}
		stop()
	})
}

// While outbox.db takes over, which may take a card seconds, nobody waits for it.
func TestS15_ATakeoverThatStallsHoldsUpNobody(t *testing.T) {
	o := mustOpenOutbox(t, t.TempDir(), OutboxOptions{})
	if err := os.Remove(filepath.Join(filepath.Dir(o.path), "outbox.log")); err != nil {
		t.Fatal(err) // so that each group goes to outbox.db
	}
	slow, err := o.file.now.Load().Begin(true)
	if err != nil {
		t.Fatal(err)
	}
	mustRun(t, o)
	var durable sync.WaitGroup
	for i := range 1000 {
		durable.Add(1)
		seq := mustAnswer(t, o, fmt.Sprint(i), 300, durable.Done)
		o.Delivered(seq)
		wantAnswer(t, o, fmt.Sprint(i), seq, 300)
	}
	if err := slow.Rollback(); err != nil {
		t.Fatal(err)
	}
	durable.Wait()
}
