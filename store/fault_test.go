//go:build linux

package store

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	bolt "go.etcd.io/bbolt"
)

const childEnv = "STORE_TEST_CHILD"

// inChild runs the calling test in a process of its own, and tells whether this
// is that process.
func inChild(t *testing.T) bool {
	t.Helper()
	if os.Getenv(childEnv) != "" {
		return true
	}
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.timeout=60s")
	cmd.Env = append(os.Environ(), childEnv+"=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	return false
}

// mustLimitFiles has every write of this process beyond size bytes of a file
// fail, like on a full disk, until the returned function is called.
func mustLimitFiles(tb testing.TB, size uint64) (lift func()) {
	tb.Helper()
	signal.Ignore(syscall.SIGXFSZ)
	var before syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &before); err != nil {
		tb.Fatal(err)
	}
	set := func(l syscall.Rlimit) {
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &l); err != nil {
			tb.Error(err)
		}
	}
	set(syscall.Rlimit{Cur: size, Max: before.Max})
	lift = func() { set(before) }
	tb.Cleanup(lift)
	return lift
}

func TestS3_FullDiskIsSurvived(t *testing.T) {
	if !inChild(t) {
		return // the limit would hold for other tests, too
	}
	for _, tt := range []struct {
		name  string
		limit uint64
	}{
		{"S3 on growth of the file", 1 << 20},
		{"S3 on every write", 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := mustOpenOutbox(t, t.TempDir(), OutboxOptions{Memory: 1 << 20})
				stop := mustRun(t, o)
				first := mustAnswer(t, o, "stored", 1000, nil)
				pass(groupAge)
				lift := mustLimitFiles(t, tt.limit)

				var durable tally
				for range 10 {
					mustAppend(t, o, 1<<20, durable.add)
					synctest.Wait()
				}
				pass(time.Minute)
				if err := o.Fault(); err == nil || !noRoom(err) || durable.got() > 0 {
					t.Errorf("fault %v, %d durable; want that there is no room, none", err, durable.got())
				}
				wantAnswer(t, o, "stored", first, 1000)
				left := backlog(t, o)
				wantGaps(t, o, Gap{Reason: Disk, Records: 7, Bytes: 7 * (1<<20 + 1), First: first + 1, Last: first + 7})
				if len(left) != 4 || left[0] != first {
					t.Errorf("waiting %d; want the first and the last three", left)
				}

				lift()
				pass(lastRetry)
				if err := o.Fault(); err != nil || durable.got() != len(left)-1 {
					t.Errorf("fault %v, %d durable; want none, %d", err, durable.got(), len(left)-1)
				}
				o = restart(t, o, stop)
				if got := backlog(t, o); !slices.Equal(got, left) {
					t.Errorf("after a restart %d, want %d", got, left)
				}
			})
		})
	}
}

func TestS5_DeletedFolderIsNoticed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "state")
		o := mustOpenOutbox(t, dir, OutboxOptions{})
		stop := mustRun(t, o)
		mustAppend(t, o, 10, nil)
		pass(groupAge)
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		var durable tally
		mustAppend(t, o, 10, durable.add)
		pass(time.Minute)
		want := "open " + o.path + ": its folder was removed; restart the agent, which builds its state anew, or make the " +
			"folder again"
		if err := o.Fault(); err == nil || err.Error() != want || durable.got() > 0 {
			t.Errorf("fault %v, %d durable; want %s, none", err, durable.got(), want)
		}
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		pass(lastRetry)
		if err := o.Fault(); err != nil || durable.got() != 1 {
			t.Errorf("fault %v, %d durable; want none, 1", err, durable.got())
		}
		o = restart(t, o, stop)
		if got := backlog(t, o); !slices.Equal(got, []uint64{1, 2}) {
			t.Errorf("after a restart %d, want 1 and 2, which were in memory", got)
		}
	})
}

// mustFlip changes one byte of the payload of record seq in the file.
func mustFlip(tb testing.TB, o *Outbox, seq uint64) {
	tb.Helper()
	b, err := os.ReadFile(o.path)
	if err != nil {
		tb.Fatal(err)
	}
	for i := bytes.Index(b, payload(seq, 20)); i >= 0; {
		mustWriteAt(tb, o.path, int64(i), []byte("#"))
		b[i] = '#'
		i = bytes.Index(b, payload(seq, 20))
	}
}

func mustWriteAt(tb testing.TB, path string, at int64, b []byte) {
	tb.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		tb.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(b, at); err != nil {
		tb.Fatal(err)
	}
}

func TestS6_DamagedRecordIsSkippedAndCounted(t *testing.T) {
	for _, tt := range []struct {
		name    string
		restart bool
	}{{"S6 found at start", true}, {"S6 found when read", false}} {
		t.Run(tt.name, func(t *testing.T) {
			o := mustOpenOutbox(t, t.TempDir(), OutboxOptions{Memory: 1})
			stop := mustRun(t, o)
			for range 10 {
				mustAppendDurable(t, o, 100)
			}
			mustFlip(t, o, 4)
			if tt.restart {
				o = restart(t, o, stop)
			}
			if got, want := backlog(t, o), []uint64{1, 2, 3, 5, 6, 7, 8, 9, 10}; !slices.Equal(got, want) {
				t.Errorf("got %d, want %d", got, want)
			}
			if gaps := gapsOf(o); len(gaps) != 1 || gaps[0].Records != 1 || gaps[0].First != 4 || gaps[0].Last != 4 ||
				gaps[0].Reason != Damage {
				t.Errorf("gaps %+v, want record 4", gaps)
			}
			if got := o.Quarantined(); len(got) != 0 {
				t.Errorf("whole file set aside: %s", got)
			}
		})
	}
}

// mustAppendDurable appends a record and waits for its commit.
func mustAppendDurable(tb testing.TB, o *Outbox, n int) {
	tb.Helper()
	durable := make(chan struct{})
	mustAppend(tb, o, n, func() { close(durable) })
	<-durable
}

// mustSpoil overwrites all of an outbox's file but its first two pages, which say what
// it is.
func mustSpoil(tb testing.TB, o *Outbox) {
	tb.Helper()
	info, err := os.Stat(o.path)
	if err != nil {
		tb.Fatal(err)
	}
	page := os.Getpagesize()
	mustWriteAt(tb, o.path, int64(2*page), bytes.Repeat([]byte{0xee}, int(info.Size())-2*page))
}

func TestS6_DamageWhileRunningIsSetAside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := mustOpenOutbox(t, t.TempDir(), OutboxOptions{Memory: 10_000})
		stop := mustRun(t, o)
		for range 100 {
			mustAppend(t, o, 1000, nil)
			pass(groupAge)
		}
		mustAnswer(t, o, "job", 1000, nil)
		pass(groupAge)
		mustSpoil(t, o)

		got := backlog(t, o)
		gaps := gapsOf(o)
		if len(gaps) != 1 || gaps[0].Records+len(got) != 101 || len(got) < 5 || got[0] != gaps[0].Last+1 ||
			gaps[0].Reason != Damage {
			t.Errorf("gaps %+v, waiting %d; want 101 together, the last ones waiting", gaps, got)
		}
		if aside := o.Quarantined(); len(aside) != 1 || !strings.Contains(aside[0], "outbox.db.corrupt-") {
			t.Errorf("set aside %q, want one file", aside)
		}
		wantAnswer(t, o, "job", 101, 1000)
		pass(lastRetry)
		if err := o.Fault(); err != nil {
			t.Errorf("fault %v, want none", err)
		}
		o = restart(t, o, stop)
		if again := backlog(t, o); !slices.Equal(again, got) {
			t.Errorf("after a restart %d, want %d", again, got)
		}
	})
}

// What is read and cannot be is tried again soon, however often somebody looks.
func TestS4_DamageHealsWhileRecordsKeepComing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := mustOpenOutbox(t, t.TempDir(), OutboxOptions{Memory: 10_000})
		mustRun(t, o)
		for range 100 {
			mustAppend(t, o, 1000, nil)
			pass(groupAge)
		}
		mustSpoil(t, o)

		found := make(chan []Record, 1)
		go func() {
			records, more := o.Collect(Late, 0, 100)
			for ; more != nil; records, more = o.Collect(Late, 0, 100) {
				<-more
			}
			found <- records
		}()
		synctest.Wait()
		for range 100 {
			mustAppend(t, o, 10, nil)
			pass(30 * time.Millisecond)
		}
		select {
		case records := <-found:
			if len(records) == 0 {
				t.Error("no records, want those that were in memory")
			}
		default:
			t.Error("nothing after 3 s, want the records that were in memory")
		}
		if err := o.Fault(); err != nil {
			t.Errorf("fault %v, want none", err)
		}
	})
}

func TestADamagedFileThatIsToBeIntactStaysAsItIs(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	mustFill(t, dir)
	for name, open := range map[string]func() error{
		"limber.db": func() error { _, err := Open(dir, Options{Intact: true, StayUp: true}, quiet()); return err },
		"outbox.db": func() error {
			_, err := OpenOutbox(dir, OutboxOptions{Intact: true, StayUp: true}, quiet())
			return err
		},
	} {
		path, damaged := filepath.Join(dir, name), []byte("of another version")
		if err := os.WriteFile(path, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := open(); !errors.Is(err, errDamaged) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: got %v, want an error that names the damage", name, err)
		}
		if b, err := os.ReadFile(path); err != nil || !bytes.Equal(b, damaged) {
			t.Errorf("%s: got %.40q, %v; want it as it was", name, b, err)
		}
	}
}

func TestS6_S14_DamagedFilesAreSetAside(t *testing.T) {
	t.Parallel()
	page := os.Getpagesize()
	for _, tt := range []struct {
		name   string
		damage func(whole []byte) []byte
		aside  bool
	}{
		{"S6 garbage", func([]byte) []byte { return randomBytes(5 * page) }, true},
		{"S6 short garbage", func([]byte) []byte { return []byte("not a database") }, true},
		{"S6 zeros", func(b []byte) []byte { return make([]byte, len(b)) }, true},
		{"S6 cut in the middle", func(b []byte) []byte { return b[:5*page] }, true},
		{"S6 cut within a page", func(b []byte) []byte { return b[:3*page+100] }, true},
		{"S6 one root damaged", func(b []byte) []byte { clear(b[16:512]); return b }, false},
		{"S6 both roots damaged", func(b []byte) []byte { clear(b[:2*page]); return b }, true},
		{"S14 empty", func([]byte) []byte { return nil }, true},
		{"S14 first of four pages", func(b []byte) []byte { return b[:page] }, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			next := mustFill(t, dir)
			for _, name := range []string{"outbox.db", "limber.db"} {
				path := filepath.Join(dir, name)
				whole, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, tt.damage(whole), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			o, s := mustOpenOutbox(t, dir, OutboxOptions{}), mustOpen(t, dir)
			if got := len(o.Quarantined()) == 1; got != tt.aside {
				t.Errorf("outbox set aside: %v, want %v", got, tt.aside)
			}
			if got := s.Quarantined() != ""; got != tt.aside {
				t.Errorf("store set aside: %v, want %v", got, tt.aside)
			}
			if seq := mustAppend(t, o, 10, nil); tt.aside && seq < next {
				t.Errorf("number %d, want none below %d again", seq, next)
			}
			mustRun(t, o)()
			if err := s.SetCell("mode", []byte("balanced")); err != nil {
				t.Error(err)
			}
		})
	}
}

// A card that goes bad damages a file at every start.
func TestS6_TheTwoNewestDamagedFilesAreKept(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, name := range []string{"outbox.db.corrupt-9", "limber.db.corrupt-1700000000", "outbox.db.corrupt-1700000000.2",
		"limber.db.corrupt-9.10", "outbox.db.corrupt-mine", "limber.db.corrupt-1700000000.bak"} {
		mustPut(t, filepath.Join(dir, name), name)
	}
	for _, garbage := range []string{"first", "second", "", "last"} {
		mustPut(t, filepath.Join(dir, "limber.db"), garbage)
		s := mustOpen(t, dir)
		aside := s.Quarantined()
		if b, err := os.ReadFile(aside); err != nil || string(b) != garbage {
			t.Errorf("set aside as %q: got %q, %v; want %q", aside, b, err, garbage)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	var left []string
	for _, f := range mustList(t, dir) {
		if _, ours := asideTime(f); ours {
			left = append(left, f)
		}
	}
	if len(left) != 2 || !exists(filepath.Join(dir, "outbox.db.corrupt-mine")) || !exists(filepath.Join(dir,
		"limber.db.corrupt-1700000000.bak")) {
		t.Errorf("left are %v of %v; want two, and what is not ours", left, mustList(t, dir))
	}
}

func TestTheNewestDamagedFileIsToldByItsName(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"a.db.corrupt-9", "a.db.corrupt-1700000000.2", "a.db.corrupt-1700000000",
		"b.db.corrupt-1700000000.10", "b.db.corrupt-5"} {
		mustPut(t, filepath.Join(dir, name), name)
	}
	if err := thin(filepath.Join(dir, "b.db.corrupt-5")); err != nil { // the clock went back
		t.Fatal(err)
	}
	if got, want := mustList(t, dir), []string{"b.db.corrupt-1700000000.10", "b.db.corrupt-5"}; !slices.Equal(got, want) {
		t.Errorf("left are %v, want %v", got, want)
	}
}

// What a full disk keeps from being made leaves nothing that looks like damage.
func TestS3_AFileThatCannotBeMadeIsNotTakenForDamageLater(t *testing.T) {
	if !inChild(t) {
		return // the limit would hold for other tests, too
	}
	dir := t.TempDir()
	for _, limit := range []uint64{1, 4096} {
		lift := mustLimitFiles(t, limit)
		if _, err := Open(dir, Options{}, quiet()); !noRoom(err) {
			t.Errorf("with files of at most %d bytes: got %v, want that there is no room", limit, err)
		}
		lift()
		if left := mustList(t, dir); len(left) > 0 {
			t.Errorf("left are %v, want nothing", left)
		}
	}
	if s := mustOpen(t, dir); s.Quarantined() != "" {
		t.Errorf("set aside %s, want nothing", s.Quarantined())
	}
}

func TestAnEmptyFileThatAnotherProcessMakesIsLockedNotDamaged(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "limber.db")
	mustPut(t, path, "")
	other, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if err := syscall.Flock(int(other.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir, Options{}, quiet()); !errors.Is(err, ErrLocked) {
		t.Errorf("got %v, want %v", err, ErrLocked)
	}
	if got := mustList(t, dir); !slices.Equal(got, []string{"limber.db"}) {
		t.Errorf("the folder has %v, want the file as it was", got)
	}
}

func mustPut(tb testing.TB, path, text string) {
	tb.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		tb.Fatal(err)
	}
}

func mustList(tb testing.TB, dir string) (names []string) {
	tb.Helper()
	files, err := os.ReadDir(dir)
	if err != nil {
		tb.Fatal(err)
	}
	for _, f := range files {
		names = append(names, f.Name())
	}
	return names
}

// mustFill makes both files in dir, of some twenty pages each, and returns the
// next sequence number.
func mustFill(tb testing.TB, dir string) uint64 {
	tb.Helper()
	o, s := mustOpenOutbox(tb, dir, OutboxOptions{}), mustOpen(tb, dir)
	stop := mustRun(tb, o)
	for range 40 {
		mustAppend(tb, o, 1000, nil)
	}
	mustAnswer(tb, o, "job", 20_000, nil)
	stop()
	if _, err := s.PutBlob(randomBytes(50_000)); err != nil {
		tb.Fatal(err)
	}
	for i := range 20 {
		if err := s.SetCell(string(rune('a'+i)), make([]byte, 1000)); err != nil {
			tb.Fatal(err)
		}
	}
	if err := errors.Join(o.Close(), s.Close()); err != nil {
		tb.Fatal(err)
	}
	return o.numbers.next
}

// Every page of both files is damaged in turn. Whatever bbolt makes of it, the
// files open and work.
func TestS6_NoDamagedPageIsFatal(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	mustFill(t, dir)
	page := os.Getpagesize()
	random := rand.NewChaCha8([32]byte{6})
	for _, name := range []string{"outbox.db", "limber.db"} {
		whole, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		for p := 0; p < len(whole)/page; p++ {
			for _, fill := range []func([]byte){
				func(b []byte) { random.Read(b) },
				func(b []byte) { random.Read(b[16:]) }, // header of the page intact
				func(b []byte) { random.Read(b[20:40]) },
			} {
				damaged := bytes.Clone(whole)
				fill(damaged[p*page : (p+1)*page])
				useDamaged(t, name, damaged)
			}
		}
	}
}

func useDamaged(t *testing.T, name string, content []byte) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
		t.Fatal(err)
	}
	if name == "limber.db" {
		s := mustOpen(t, dir)
		s.SetCell("mode", []byte("balanced")) // may fail, must not panic
		s.Cell("a")
		s.Close()
		return
	}
	o := mustOpenOutbox(t, dir, OutboxOptions{Memory: 1})
	stop := mustRun(t, o)
	mustAppendDurable(t, o, 1000)
	o.Answer("job")
	backlog(t, o)
	stop()
	o.Close()
}

func TestS12_RecordsOfAnotherVersionAreLeftAlone(t *testing.T) {
	o := mustOpenOutbox(t, t.TempDir(), OutboxOptions{})
	next := o.numbers.next
	err := o.file.update(func(tx *bolt.Tx) error {
		if err := tx.Bucket([]byte(bucketQueue)).Put(number(7), nil); err != nil {
			return err
		}
		return tx.Bucket([]byte(bucketRecords)).Put(number(7), []byte{recordVersion + 1, 1, 2, 3})
	})
	if err != nil {
		t.Fatal(err)
	}
	o = restart(t, o, func() {})
	if got := backlog(t, o); len(got) != 0 || o.Gaps() || o.numbers.next < next {
		t.Errorf("waiting %d, want none and no gap", got)
	}
	o = restart(t, o, mustRun(t, o))
	if queue, records := onDisk(t, o, bucketQueue), onDisk(t, o, bucketRecords); !slices.Equal(queue, []uint64{7}) ||
		!slices.Equal(records, []uint64{7}) {
		t.Errorf("queue %d, records %d; want 7 in both", queue, records)
	}
}
