package store

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"testing"

	bolt "go.etcd.io/bbolt"
)

// mustLeave leaves a state with a record, of which a copy is kept, and another record that
// came after the copy. It returns both folders and numbers.
func mustLeave(tb testing.TB) (folder, kept string, before, after uint64) {
	tb.Helper()
	folder, kept = tb.TempDir(), tb.TempDir()
	if err := os.WriteFile(filepath.Join(folder, stateName), []byte("old"), 0o600); err != nil {
		tb.Fatal(err)
	}
	run := func() uint64 {
		o := mustOpenOutbox(tb, folder, OutboxOptions{})
		stop := mustRun(tb, o)
		seq := mustAppendTo(tb, o, 99, Late)[0]
		stop()
		if err := o.Close(); err != nil {
			tb.Fatal(err)
		}
		return seq
	}
	before = run()
	if err := Copy(folder, kept); err != nil {
		tb.Fatal(err)
	}
	after = run()
	if err := os.WriteFile(filepath.Join(folder, stateName), []byte("new"), 0o600); err != nil {
		tb.Fatal(err)
	}
	return folder, kept, before, after
}

func TestWhatWaitsStaysWhenAStateIsPutBackThatCanBeRead(t *testing.T) {
	folder, kept, before, after := mustLeave(t)
	for range 2 {
		if err := PutBack(kept, folder, quiet()); err != nil {
			t.Fatal(err)
		}
	}
	if b, err := os.ReadFile(filepath.Join(folder, stateName)); string(b) != "old" {
		t.Errorf("got %q, %v; want the old state", b, err)
	}
	o := mustOpenOutbox(t, folder, OutboxOptions{})
	mustRun(t, o)
	if got := inStream(t, o, Late); !slices.Equal(got, []uint64{before, after}) {
		t.Errorf("%d wait, want %d and %d", got, before, after)
	}
	wantGaps(t, o)
	if next := mustAppendTo(t, o, 9, Late)[0]; next <= after {
		t.Errorf("number %d is given out again, after %d", next, after)
	}
}

func TestAGapTellsOfWhatAnotherVersionAddedThatCannotBeRead(t *testing.T) {
	for name, spoil := range map[string]func(testing.TB, string){
		"no file of ours": func(tb testing.TB, path string) {
			if err := os.WriteFile(path, bytes.Repeat([]byte("x"), 1<<16), 0o600); err != nil {
				tb.Fatal(err)
			}
		},
		"no file": func(tb testing.TB, path string) {
			if err := os.Remove(path); err != nil {
				tb.Fatal(err)
			}
		},
		"records of another version": func(tb testing.TB, path string) {
			f, _, err := openFile(path, fileOptions{}, quiet(), nil)
			if err == nil {
				err = f.write(func(tx *bolt.Tx) error {
					return tx.Bucket([]byte(bucketRecords)).Put(number(1<<21), []byte{recordVersion + 1, 1, 2, 3})
				})
			}
			if err == nil {
				err = f.close()
			}
			if err != nil {
				tb.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			folder, kept, before, after := mustLeave(t)
			spoil(t, filepath.Join(folder, outboxName))
			if err := PutBack(kept, folder, quiet()); err != nil {
				t.Fatal(err)
			}
			o := mustOpenOutbox(t, folder, OutboxOptions{})
			mustRun(t, o)
			if got := inStream(t, o, Late); !slices.Equal(got, []uint64{before}) {
				t.Errorf("%d wait, want %d", got, before)
			}
			gaps := gapsOf(o)
			if len(gaps) != Classes {
				t.Fatalf("gaps %+v, want one of each class", gaps)
			}
			for _, g := range gaps {
				if g.Records != 0 || !g.Mixed || g.First <= before || g.First > after || g.Last < after {
					t.Errorf("gap %+v, want what may have come behind %d", g, before)
				}
			}
			if next := mustAppendTo(t, o, 9, Late)[0]; next <= gaps[0].Last {
				t.Errorf("number %d is given out again, up to %d may have been", next, gaps[0].Last)
			}
		})
	}
}

func TestAStateIsPutBackAgainAfterACut(t *testing.T) {
	folder, kept, before, after := mustLeave(t)
	if err := os.Remove(filepath.Join(folder, outboxName)); err != nil {
		t.Fatal(err)
	}
	if err := PutBack(kept, folder, quiet()); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{outboxName, journalName} { // as if it had not been copied yet
		if err := os.Remove(filepath.Join(folder, name)); err != nil {
			t.Fatal(err)
		}
		if err := PutBack(kept, folder, quiet()); err != nil {
			t.Fatal(err)
		}
	}
	o := mustOpenOutbox(t, folder, OutboxOptions{})
	mustRun(t, o)
	if got := inStream(t, o, Late); !slices.Equal(got, []uint64{before}) {
		t.Errorf("%d wait, want %d", got, before)
	}
	if next := mustAppendTo(t, o, 9, Late)[0]; next <= after || len(o.Damage()) > 0 {
		t.Errorf("number %d after %d, damage %q", next, after, o.Damage())
	}
}

func TestAStateIsPutBackAgainAfterACutThatLeftTheJournalOfAnotherVersion(t *testing.T) {
	folder, kept, before, after := mustLeave(t)
	journal, err := os.ReadFile(filepath.Join(folder, journalName))
	if err == nil {
		err = os.WriteFile(filepath.Join(folder, outboxName), bytes.Repeat([]byte("x"), 1<<16), 0o600)
	}
	if err == nil {
		err = PutBack(kept, folder, quiet())
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(folder, journalName), journal, 0o600)
	}
	if err == nil {
		err = PutBack(kept, folder, quiet())
	}
	if err != nil {
		t.Fatal(err)
	}
	o := mustOpenOutbox(t, folder, OutboxOptions{})
	mustRun(t, o)
	if got := inStream(t, o, Late); !slices.Contains(got, before) {
		t.Errorf("%d wait, want %d among them", got, before)
	}
	if next := mustAppendTo(t, o, 9, Late)[0]; next <= after || len(o.Damage()) > 0 {
		t.Errorf("number %d after %d, damage %q", next, after, o.Damage())
	}
}
