package store

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	bolt "go.etcd.io/bbolt"
)

func mustOpen(tb testing.TB, dir string) *Store {
	tb.Helper()
	s, err := Open(dir, Options{}, quiet())
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { s.Close() })
	return s
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

func TestBlobsAreCheckedWhenRead(t *testing.T) {
	s := mustOpen(t, t.TempDir())
	want := randomBytes(3 << 20)
	d, err := s.PutBlob(want)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := s.Blob(d); err != nil || !bytes.Equal(got, want) {
		t.Errorf("got %d bytes, %v; want the %d stored", len(got), err, len(want))
	}
	if _, err := s.Blob(DigestOf(nil)); !errors.Is(err, ErrNotFound) {
		t.Errorf("unknown blob: %v, want ErrNotFound", err)
	}
	if err := s.put(bucketBlobs, string(d[:]), want[1:]); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Blob(d); err == nil || errors.Is(err, ErrNotFound) {
		t.Errorf("damaged blob: %v, want an error that names it", err)
	}
	if _, err := s.PutBlob(want); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Blob(d); err != nil {
		t.Errorf("blob stored again over the damage: %v", err)
	}
}

func TestPruneKeepsWhatIsNeeded(t *testing.T) {
	s := mustOpen(t, t.TempDir())
	var blobs []Digest
	for i := range 100 {
		d, err := s.PutBlob([]byte{byte(i)})
		if err != nil {
			t.Fatal(err)
		}
		blobs = append(blobs, d)
	}
	removed, err := s.Prune(func(d Digest) bool { return slices.Contains(blobs[:10], d) })
	if err != nil || removed != 90 {
		t.Errorf("removed %d, %v; want 90", removed, err)
	}
	for i, d := range blobs {
		if _, err := s.Blob(d); (err == nil) != (i < 10) {
			t.Errorf("blob %d: %v", i, err)
		}
	}
}

// Devices in the field have profiles under such keys.
func TestAProfileIsFoundUnderTheKeyOfEarlierVersions(t *testing.T) {
	const family = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
	key := ProfileKey{Family: family, Provider: "cpu", Threads: 2}
	if got, want := key.String(), family+"/2/cpu"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestRecordsOutliveARestart(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir)
	profile := ProfileKey{Family: DigestOf([]byte("f")).String(), Provider: "cpu", Threads: 2}
	if _, err := s.Family(); !errors.Is(err, ErrNotFound) {
		t.Errorf("family of an empty store: %v, want ErrNotFound", err)
	}
	if err := errors.Join(s.SetFamily([]byte("old")), s.SetFamily([]byte("manifest")), s.SetProfile(profile, []byte("ms")),
		s.SetCell("mode", nil)); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = mustOpen(t, dir)
	if s.Quarantined() != "" {
		t.Errorf("intact file set aside as %s", s.Quarantined())
	}
	for _, tt := range []struct {
		name string
		read func() ([]byte, error)
		want string
		err  error
	}{
		{"family", s.Family, "manifest", nil},
		{"profile", func() ([]byte, error) { return s.Profile(profile) }, "ms", nil},
		{"profile with other threads", func() ([]byte, error) {
			return s.Profile(ProfileKey{profile.Family, profile.Provider, 4})
		}, "", ErrNotFound},
		{"empty cell", func() ([]byte, error) { return s.Cell("mode") }, "", nil},
		{"unknown cell", func() ([]byte, error) { return s.Cell("desired") }, "", ErrNotFound},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got, err := tt.read(); string(got) != tt.want || !errors.Is(err, tt.err) {
				t.Errorf("got %q, %v; want %q, %v", got, err, tt.want, tt.err)
			}
		})
	}
}

func TestLedgerRemembersTheLastState(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir)
	c := Command{ID: "c1", Request: DigestOf([]byte("request")), Expires: time.Now().Add(time.Minute).UTC()}
	for _, c.State = range []string{"accepted", "executing", "succeeded"} {
		if err := s.SetCommand(c); err != nil {
			t.Fatal(err)
		}
	}
	c.Answer = []byte(`{"state":"succeeded"}`)
	if err := s.SetCommand(c); err != nil {
		t.Fatal(err)
	}
	s.Close()
	s = mustOpen(t, dir)
	got, err := s.Command("c1")
	if err != nil || got.State != "succeeded" || got.Request != c.Request || !bytes.Equal(got.Answer, c.Answer) ||
		!got.Expires.Equal(c.Expires) {
		t.Errorf("got %+v, %v; want %+v", got, err, c)
	}
	if got := remembered(t, s); !slices.Equal(got, []string{"c1"}) {
		t.Errorf("got commands %q, want c1 alone", got)
	}
	if _, err := s.Command("c2"); !errors.Is(err, ErrNotFound) {
		t.Errorf("unknown command: %v, want ErrNotFound", err)
	}
}

func TestACommandAndTheCellsItChangedAreOneCommit(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir)
	mode, set := Cell{"mode", []byte("balanced")}, Cell{"set", []byte("now")}
	c := Command{ID: "mode/1", State: "succeeded", Expires: time.Now().Add(time.Minute)}
	before := lastCommit(t, s)
	if err := s.SetCommand(c, mode, set); err != nil {
		t.Fatal(err)
	}
	if n := lastCommit(t, s) - before; n != 1 {
		t.Errorf("got %d commits, want one", n)
	}
	refused := Command{ID: "mode/2", Expires: c.Expires}
	if err := s.SetCommand(refused, Cell{"mode", []byte("power-save")}, Cell{}); err == nil {
		t.Error("a cell without a name: got no error")
	}
	s.Close()
	s = mustOpen(t, dir)
	if got, err := s.Command(c.ID); err != nil || got.State != c.State {
		t.Errorf("got command %+v, %v; want %s", got, err, c.State)
	}
	for _, want := range []Cell{mode, set} {
		if got, err := s.Cell(want.Name); err != nil || !bytes.Equal(got, want.Value) {
			t.Errorf("cell %s: got %q, %v; want %q", want.Name, got, err, want.Value)
		}
	}
	if _, err := s.Command(refused.ID); !errors.Is(err, ErrNotFound) {
		t.Errorf("command whose cells were refused: got %v, want ErrNotFound", err)
	}
}

func TestCellsAreStoredTogetherOrNotAtAll(t *testing.T) {
	s := mustOpen(t, t.TempDir())
	before := lastCommit(t, s)
	if err := s.SetCells(Cell{"mode", []byte("balanced")}, Cell{"desired", []byte("{}")}); err != nil {
		t.Fatal(err)
	}
	if n := lastCommit(t, s) - before; n != 1 {
		t.Errorf("got %d commits, want one", n)
	}
	if err := s.SetCells(Cell{"mode", []byte("power-save")}, Cell{}); err == nil {
		t.Error("a cell without a name: got no error")
	}
	for name, want := range map[string]string{"mode": "balanced", "desired": "{}"} {
		if got, err := s.Cell(name); err != nil || string(got) != want {
			t.Errorf("cell %s: got %q, %v; want %q", name, got, err, want)
		}
	}
}

// lastCommit is its number.
func lastCommit(t *testing.T, s *Store) (n int) {
	t.Helper()
	if err := s.file.view(func(tx *bolt.Tx) error {
		n = tx.ID()
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestWithoutSyncWhatIsCommittedOutlivesItsProcess(t *testing.T) {
	for _, noSync := range []bool{false, true} {
		dir := t.TempDir()
		s, err := Open(dir, Options{NoSync: noSync}, quiet())
		if err != nil {
			t.Fatal(err)
		}
		o := mustOpenOutbox(t, dir, OutboxOptions{NoSync: noSync})
		if s.file.now.Load().NoSync != noSync || o.file.now.Load().NoSync != noSync {
			t.Errorf("got a store without sync %v, an outbox %v; want %v", s.file.now.Load().NoSync, o.file.now.Load().NoSync, noSync)
		}
		if err := s.SetCell("mode", []byte("balanced")); err != nil {
			t.Fatal(err)
		}
		if err := o.reopen(); err != nil || o.file.now.Load().NoSync != noSync {
			t.Errorf("outbox opened again: got %v, without sync %v; want %v", err, o.file.now.Load().NoSync, noSync)
		}
		s.Close()
		if got, err := mustOpen(t, dir).Cell("mode"); err != nil || string(got) != "balanced" {
			t.Errorf("got %q, %v; want balanced", got, err)
		}
	}
}

func TestNothingIsRememberedInAFileThatIsGoneOrDamaged(t *testing.T) {
	for _, tt := range []struct {
		name   string
		happen func(s *Store) error
		want   string
	}{
		{"S5 removed", func(s *Store) error { return os.Remove(s.file.path) }, "was removed while in use; restart the agent"},
		{"S5 replaced by a folder", func(s *Store) error {
			return errors.Join(os.Remove(s.file.path), os.Mkdir(s.file.path, 0o700))
		}, "a folder is in its place; move the folder away and restart the agent"},
		{"S6 damaged", func(s *Store) error { s.file.broken.Store(true); return nil }, "is damaged; restart the agent"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := mustOpen(t, t.TempDir())
			if err := s.Fault(); err != nil {
				t.Fatal(err)
			}
			if err := tt.happen(s); err != nil {
				t.Fatal(err)
			}
			for what, err := range map[string]error{"fault": s.Fault(), "command": s.SetCommand(Command{ID: "c"}),
				"cell": s.SetCell("mode", nil)} {
				if err == nil || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("%s: got %v, want %q", what, err, tt.want)
				}
			}
		})
	}
}

// remembered returns the ids in the ledger, sorted.
func remembered(tb testing.TB, s *Store) (ids []string) {
	tb.Helper()
	err := s.file.view(func(tx *bolt.Tx) error {
		return tx.Bucket([]byte(bucketLedger)).ForEach(func(id, _ []byte) error {
			ids = append(ids, string(id))
			return nil
		})
	})
	if err != nil {
		tb.Fatal(err)
	}
	return ids
}

func TestCommandsAreKeptUntilExpiryOrAnHour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := mustOpen(t, t.TempDir())
		set := func(id string, ttl time.Duration) {
			if err := s.SetCommand(Command{ID: id, Expires: time.Now().Add(ttl)}); err != nil {
				t.Fatal(err)
			}
		}
		set("forever", 1<<62)
		set("minute", time.Minute)
		set("two hours", 2*time.Hour)
		set("past", -time.Hour)
		pass(59 * time.Minute)
		set("a", time.Minute)
		if got, want := remembered(t, s), []string{"a", "forever", "minute", "past", "two hours"}; !slices.Equal(got, want) {
			t.Errorf("before the hour: %q, want %q", got, want)
		}
		pass(time.Minute)
		set("b", time.Minute)
		if got, want := remembered(t, s), []string{"a", "b", "forever", "two hours"}; !slices.Equal(got, want) {
			t.Errorf("after an hour: %q, want %q", got, want)
		}
		pass(time.Hour)
		set("c", time.Minute)
		if got, want := remembered(t, s), []string{"c", "forever"}; !slices.Equal(got, want) {
			t.Errorf("after two hours: %q, want %q", got, want)
		}
	})
}

func TestAFullLedgerDropsTheNextToExpire(t *testing.T) {
	s := mustOpen(t, t.TempDir())
	now := time.Now()
	err := s.file.update(func(tx *bolt.Tx) error {
		for i := range commandLimit {
			c := Command{ID: fmt.Sprint(i)}
			entry, err := makeEntry(time.Hour+time.Duration((i+7)%commandLimit), c)
			if err != nil {
				return err
			}
			if err := tx.Bucket([]byte(bucketLedger)).Put([]byte(c.ID), entry); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.SetCommand(Command{ID: "new", Expires: now.Add(time.Hour)}); err != nil {
		t.Fatal(err)
	}
	if got := len(remembered(t, s)); got != commandLimit {
		t.Errorf("%d commands, want %d", got, commandLimit)
	}
	if _, err := s.Command(fmt.Sprint(commandLimit - 7)); !errors.Is(err, ErrNotFound) {
		t.Errorf("the next to expire: %v, want ErrNotFound", err)
	}
}
