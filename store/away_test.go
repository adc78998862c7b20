//go:build linux

package store

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// mustDisk mounts a file system of its own for a test, which takes root.
func mustDisk(tb testing.TB, options string) (dir string) {
	tb.Helper()
	dir = tb.TempDir()
	if err := syscall.Mount("none", dir, "tmpfs", 0, options); err != nil {
		tb.Skipf("a disk of a test's own takes root: %v", err)
	}
	tb.Cleanup(func() { syscall.Unmount(dir, syscall.MNT_DETACH) })
	return dir
}

func mustRemount(tb testing.TB, dir string, flags uintptr, options string) {
	tb.Helper()
	if err := syscall.Mount("none", dir, "tmpfs", syscall.MS_REMOUNT|flags, options); err != nil {
		tb.Fatal(err)
	}
}

// An unusable is a state folder that cannot be used, until it is mended.
type unusable struct {
	name  string
	full  bool // else read-only
	state bool // of an earlier process is there
}

func unusables() []unusable {
	return []unusable{
		{"S5 read-only, nothing there", false, false},
		{"S5 read-only, a state there", false, true},
		{"S3 full, nothing there", true, false},
	}
}

// must makes the folder.
func (u unusable) must(tb testing.TB, fill func(dir string)) (dir string, mend func()) {
	tb.Helper()
	disk := mustDisk(tb, "size=1m")
	dir = filepath.Join(disk, "state")
	if u.state {
		fill(dir)
	}
	if u.full {
		for i := range 2 { // the second one takes what the first one left
			if h, err := os.Create(filepath.Join(disk, string(rune('a'+i)))); err == nil {
				h.Write(make([]byte, 1<<20))
				h.Close()
			}
		}
	} else {
		mustRemount(tb, disk, syscall.MS_RDONLY, "")
	}
	return dir, func() { mustRemount(tb, disk, 0, "size=100m") }
}

func mustStayUp(tb testing.TB, dir string) *Store {
	tb.Helper()
	s, err := Open(dir, Options{StayUp: true}, quiet())
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { s.Close() })
	return s
}

func wantCell(tb testing.TB, s *Store, name, want string) {
	tb.Helper()
	if got, err := s.Cell(name); err != nil && want != "" || string(got) != want {
		tb.Errorf("cell %s is %q, %v; want %q", name, got, err, want)
	}
}

func TestS3_S5_WhatIsStoredWhileTheFolderCannotBeUsedIsOnTheDiskLater(t *testing.T) {
	for _, tt := range unusables() {
		t.Run(tt.name, func(t *testing.T) {
			dir, mend := tt.must(t, func(dir string) {
				s := mustOpen(t, dir)
				if err := errors.Join(s.SetCell("before", []byte("kept")), s.Close()); err != nil {
					t.Fatal(err)
				}
			})
			if _, err := Open(dir, Options{}, quiet()); err == nil {
				t.Error("opened without being told to stay up, want an error")
			}
			s := mustStayUp(t, dir)
			kept := ""
			if tt.state {
				kept = "kept"
			}
			wantCell(t, s, "before", kept)
			blob := randomBytes(100_000)
			d, err := s.PutBlob(blob)
			if err = errors.Join(err, s.SetCell("mode", []byte("balanced"))); err != nil {
				t.Fatal(err)
			}
			if err := s.Fault(); !errors.Is(err, errUnusable) || !strings.Contains(err.Error(), "limber.db is in memory only") {
				t.Errorf("fault %v, want that it is in memory", err)
			}
			ended, end := context.WithCancel(t.Context())
			end()
			if err := s.Run(ended); !errors.Is(err, context.Canceled) {
				t.Errorf("run: %v, want that it was to end", err)
			}

			mend()
			if err := errors.Join(s.Run(t.Context()), s.Fault(), s.SetCell("later", []byte("too")), s.Close()); err != nil {
				t.Fatal(err)
			}
			s = mustOpen(t, dir)
			wantCell(t, s, "before", kept)
			wantCell(t, s, "mode", "balanced")
			wantCell(t, s, "later", "too")
			if got, err := s.Blob(d); err != nil || !bytes.Equal(got, blob) {
				t.Errorf("blob: %d bytes, %v; want %d", len(got), err, len(blob))
			}
			if len(s.Damage()) > 0 || s.Quarantined() != "" {
				t.Errorf("told are %q, %q; want nothing", s.Damage(), s.Quarantined())
			}
		})
	}
}

func TestS3_S5_RecordsWaitWhileTheFolderCannotBeUsed(t *testing.T) {
	for _, tt := range unusables() {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var want []uint64
				dir, mend := tt.must(t, func(dir string) {
					o := mustOpenOutbox(t, dir, OutboxOptions{})
					stop := mustRun(t, o)
					want = append(want, mustAppend(t, o, 100, nil), mustAppend(t, o, 100, nil))
					stop()
					if err := o.Close(); err != nil {
						t.Fatal(err)
					}
				})
				o := mustOpenOutbox(t, dir, OutboxOptions{StayUp: true})
				stop := mustRun(t, o)
				var durable tally
				seq := mustAppend(t, o, 100, durable.add)
				if tt.state {
					o.Delivered(want[0])
					want = want[1:]
				}
				want = append(want, seq)
				pass(2 * lastRetry)
				if err := o.Fault(); !errors.Is(err, errUnusable) || durable.got() > 0 || !o.Unwritten() {
					t.Errorf("fault %v, %d durable; want that it is in memory, none", err, durable.got())
				}
				if got := backlog(t, o); !slices.Equal(got, want) {
					t.Errorf("waiting are %d, want %d", got, want)
				}

				mend()
				pass(lastRetry)
				if err := o.Fault(); err != nil || durable.got() != 1 {
					t.Errorf("fault %v, %d durable; want none, 1", err, durable.got())
				}
				o = restart(t, o, stop)
				if got := backlog(t, o); !slices.Equal(got, want) || len(o.Damage()) > 0 {
					t.Errorf("after a restart %d, %q; want %d", got, o.Damage(), want)
				}
			})
		})
	}
}

func TestS7_AFileInUseIsLockedForWhoWouldStayUp(t *testing.T) {
	dir := t.TempDir()
	mustOpen(t, dir)
	if _, err := Open(dir, Options{StayUp: true}, quiet()); !errors.Is(err, ErrLocked) {
		t.Errorf("got %v, want %v", err, ErrLocked)
	}
	toRead, err := os.Open(filepath.Join(dir, "limber.db")) // as where it cannot be written
	if err != nil {
		t.Fatal(err)
	}
	defer toRead.Close()
	if err := lock(toRead); !errors.Is(err, ErrLocked) {
		t.Errorf("lock to read: got %v, want %v", err, ErrLocked)
	}
}

// Somebody mounts the disk with the state over the folder while the device is up.
func TestS5_AFileThatComesLaterIsLeftAlone(t *testing.T) {
	disk := mustDisk(t, "size=1m")
	mustRemount(t, disk, syscall.MS_RDONLY, "")
	s := mustStayUp(t, disk)
	if err := s.SetCell("mode", []byte("balanced")); err != nil {
		t.Fatal(err)
	}
	mustRemount(t, disk, 0, "")
	other := mustOpen(t, t.TempDir())
	if err := errors.Join(other.SetCell("mode", []byte("low-latency")), other.Close()); err != nil {
		t.Fatal(err)
	}
	theirs := mustRead(t, other.file.path)
	mustPut(t, filepath.Join(disk, "limber.db"), string(theirs))
	if err := s.Close(); err == nil || !strings.Contains(err.Error(), "restart the agent") {
		t.Errorf("got %v, want that it takes a restart", err)
	}
	if got := mustRead(t, filepath.Join(disk, "limber.db")); !bytes.Equal(got, theirs) {
		t.Error("the file has changed")
	}
}

func TestS14_AFileThatIsMissingIsTold(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	next := mustFill(t, dir)
	for _, name := range []string{"limber.db", "outbox.db", "outbox.log"} {
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
		if name == "outbox.db" {
			continue // of which the journal has the numbers
		}
		s := mustOpen(t, dir)
		o := mustOpenOutbox(t, dir, OutboxOptions{Floor: 1 << 41})
		if name == "limber.db" {
			wantDamage(t, s.Damage(), "limber.db was removed")
			wantDamage(t, o.Damage())
		} else {
			wantDamage(t, s.Damage())
			wantDamage(t, o.Damage(), "outbox.db was removed")
			if o.numbers.next < 1<<41 || o.numbers.next < next {
				t.Errorf("numbers begin at %d, want none below the floor", o.numbers.next)
			}
		}
		if err := errors.Join(o.Close(), s.Close()); err != nil {
			t.Fatal(err)
		}
	}
	dir = t.TempDir()
	s, o := mustOpen(t, dir), mustOpenOutbox(t, dir, OutboxOptions{})
	wantDamage(t, slices.Concat(s.Damage(), o.Damage())) // a first start
}

// wantDamage wants one sentence each with these words.
func wantDamage(tb testing.TB, got []string, want ...string) {
	tb.Helper()
	fits := len(got) == len(want)
	for i := range min(len(got), len(want)) {
		fits = fits && strings.Contains(got[i], want[i])
	}
	if !fits {
		tb.Errorf("told is %q, want %q", got, want)
	}
}

// Nothing says at the next start how far numbers were used while the file was in memory.
func TestS5_NumbersUsedInMemoryAreNotUsedAgain(t *testing.T) {
	for _, tt := range unusables() {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dir, _ := tt.must(t, func(dir string) {
					o := mustOpenOutbox(t, dir, OutboxOptions{})
					stop := mustRun(t, o)
					mustAppend(t, o, 100, nil)
					restart(t, o, stop).Close()
				})
				var last uint64
				for range 3 {
					pass(time.Second)
					o := mustOpenOutbox(t, dir, OutboxOptions{StayUp: true})
					seq := mustAppend(t, o, 100, nil)
					if seq <= last {
						t.Errorf("number %d, want one over %d", seq, last)
					}
					last = seq
					o.Close() // killed
				}
			})
		})
	}
}

// The journal has room of its own where outbox.db has none.
func TestS3_AnOrderlyEndOnAFullDiskSavesWhatItCanAndCountsTheRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const size, records = 1000, 3000
		disk := mustDisk(t, "size=1m")
		o := mustOpenOutbox(t, disk, OutboxOptions{Memory: 256 << 10})
		ctx, cancel := context.WithCancel(t.Context())
		ran := make(chan error)
		go func() { ran <- o.Run(ctx) }()
		pass(0)
		if err := os.WriteFile(filepath.Join(disk, "full"), make([]byte, 1<<20), 0o600); err == nil {
			t.Fatal("the disk is not full")
		}
		for range records {
			mustAppend(t, o, size, nil)
			synctest.Wait()
		}
		delivered := backlog(t, o)[0]
		o.Delivered(delivered)
		cancel()
		if err := <-ran; err == nil || !noRoom(err) {
			t.Errorf("end: %v, want that there is no room", err)
		}
		o.Close()
		mustRemount(t, disk, 0, "size=100m")
		o = mustOpenOutbox(t, disk, OutboxOptions{})
		left, sum := backlog(t, o), 0
		for _, g := range gapsOf(o) {
			sum += g.Records
		}
		if len(left) == 0 || len(left)+sum != records-1 || left[len(left)-1] != records {
			t.Errorf("%d wait, %d counted as lost; want %d together, the last one among them", len(left), sum, records-1)
		}
	})
}

func TestS5_AFolderInThePlaceOfAFileIsToBeMovedAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		for _, name := range []string{"limber.db", "outbox.db"} {
			if err := os.MkdirAll(filepath.Join(dir, name, "full"), 0o700); err != nil {
				t.Fatal(err)
			}
		}
		s, o := mustStayUp(t, dir), mustOpenOutbox(t, dir, OutboxOptions{StayUp: true})
		stop := mustRun(t, o)
		seq := mustAppend(t, o, 100, nil)
		ended, end := context.WithCancel(t.Context())
		end()
		for range 2 { // also when it was tried again
			for name, err := range map[string]error{"limber.db": s.Fault(), "outbox.db": o.Fault()} {
				want := filepath.Join(dir, name) + " is in memory only, and lost with the process: a folder is in its place; " +
					"move the folder away"
				if err != nil && err.Error() != want || err == nil && name == "limber.db" {
					t.Errorf("got %v, want %s", err, want)
				}
			}
			s.Run(ended)
			pass(lastRetry)
		}
		if o.Fault() == nil {
			t.Error("the outbox has no fault")
		}
		for _, name := range []string{"limber.db", "outbox.db"} {
			if err := os.Rename(filepath.Join(dir, name), filepath.Join(dir, name+".old")); err != nil {
				t.Fatal(err)
			}
		}
		pass(lastRetry)
		if err := errors.Join(s.Run(t.Context()), s.Fault(), o.Fault()); err != nil {
			t.Errorf("without the folders: %v", err)
		}
		wantWaiting(t, restart(t, o, stop), seq)
	})
}

// Nor is a file that another process wrote to while this one had it in memory.
func TestS5_AFileThatAnotherProcessWroteIsLeftAlone(t *testing.T) {
	disk := mustDisk(t, "size=1m")
	if err := mustOpen(t, disk).Close(); err != nil {
		t.Fatal(err)
	}
	mustRemount(t, disk, syscall.MS_RDONLY, "")
	s := mustStayUp(t, disk)
	if err := s.SetCell("mode", []byte("balanced")); err != nil {
		t.Fatal(err)
	}
	mustRemount(t, disk, 0, "")
	other := mustOpen(t, disk)
	if err := errors.Join(other.SetCell("mode", []byte("low-latency")), other.Close()); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err == nil || !strings.Contains(err.Error(), "restart the agent") {
		t.Errorf("got %v, want that it takes a restart", err)
	}
	wantCell(t, mustOpen(t, disk), "mode", "low-latency")
}
