package release

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/firmware/repo"
	"github.com/limber-edge/limber/firmware/slot"
	"github.com/limber-edge/limber/store"
)

// keeps has a start keep or put back what is to be, and wants the copy to be there or not.
func (d *device) keeps(want bool) {
	d.Helper()
	d.stop()
	if err := Keep(d.dir, slot.Open(d.dir).Agent(d.phase().Slot), discard()); err != nil {
		d.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(d.dir, "slots", kept, "limber.db")); (err == nil) != want {
		d.Errorf("the copy: %v, want one: %t", err, want)
	}
}

func TestTheStateBeforeAOneWayReleaseIsPutBackWithTheReleaseBefore(t *testing.T) {
	for name, tt := range map[string]struct {
		back bool
		want string // of the cell that the release changes
	}{"it goes back": {true, "old"}, "it is confirmed": {false, "new"}} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(d *device) {
				set := func(value string) {
					if err := d.st.SetCell("horizon", []byte(value)); err != nil {
						t.Fatal(err)
					}
				}
				set("old")
				m := d.offer("1.5.0", func(m *repo.Manifest) { m.State = repo.OneWay })
				d.send(wire.VerbRelease, "u1", asked(m, `,"one_way":true`))
				d.wants(slot.Trial, slot.A, 0)
				d.keeps(true)
				d.must(slot.Open(d.dir).Launcher().Count(""))
				d.starts(slot.A)
				set("new")
				d.keeps(true) // a second start of the trial leaves the copy as it is
				if tt.back {
					_, err := slot.Open(d.dir).Launcher().Back(slot.Crash, "")
					d.must(err)
				} else {
					d.starts(slot.A)
					pass(10 * time.Second)
					d.wants(slot.Confirmed, slot.A, 0)
					if _, err := os.Stat(keptIn(d.dir)); err == nil {
						t.Error("the copy is there though it would come back")
					}
				}
				d.keeps(false)
				d.starts(d.phase().Slot)
				if b, err := d.st.Cell("horizon"); string(b) != tt.want {
					t.Errorf("got %q, %v; want %q", b, err, tt.want)
				}
				if tt.back {
					d.ends("u1", wire.CommandFailed, wire.Internal, "crash", true)
				}
			})
		})
	}
}

func TestWhatAOneWayReleaseHadNotSentIsSentOrMissedByTheReleaseBefore(t *testing.T) {
	for name, spoiled := range map[string]bool{"its outbox can be read": false, "it cannot": true} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(d *device) {
				m := d.offer("1.5.0", func(m *repo.Manifest) { m.State = repo.OneWay })
				before := d.result()
				d.send(wire.VerbRelease, "u1", asked(m, `,"one_way":true`))
				d.keeps(true)
				d.must(slot.Open(d.dir).Launcher().Count(""))
				d.starts(slot.A)
				onTrial := d.result()
				pass(time.Second)
				_, err := slot.Open(d.dir).Launcher().Back(slot.Crash, "")
				d.must(err)
				d.stop()
				want := []uint64{before, onTrial}
				if spoiled {
					d.must(os.WriteFile(filepath.Join(d.dir, "outbox.db"), []byte("of another form"), 0o600))
					want = want[:1]
				}
				d.keeps(false)
				d.starts(d.phase().Slot)
				var got []uint64
				all, _ := d.box.Collect(store.Late, 0, 10)
				for _, r := range all {
					got = append(got, r.Seq)
				}
				if !slices.Equal(got, want) || d.box.Gaps() != spoiled {
					t.Errorf("results %d wait and a gap: %t; want %d, %t", got, d.box.Gaps(), want, spoiled)
				}
				if after := d.result(); after <= onTrial {
					t.Errorf("number %d is given out again, after %d", after, onTrial)
				}
			})
		})
	}
}

// result has a result wait.
func (d *device) result() uint64 {
	d.Helper()
	seq, err := d.box.Append(func(uint64) (store.Record, error) { return store.Record{Topic: "t", Stream: store.Late}, nil }, nil)
	d.must(err)
	return seq
}

func TestAReleaseIsRefusedBeforeItIsFetchedWhereTheStateCannotBeKept(t *testing.T) {
	bubble(t, func(d *device) {
		m := d.offer("1.5.0", func(m *repo.Manifest) { m.State = repo.OneWay })
		d.free = spare + 1000
		d.send(wire.VerbRelease, "u1", asked(m, `,"one_way":true`))
		d.ends("u1", wire.CommandFailed, wire.NoSpace, "and a copy of the state", false)
		if len(d.carrier.fetched) > 0 {
			t.Errorf("fetched %q", d.carrier.fetched)
		}
		d.wants(slot.Idle, slot.Package, 0)
		of, err := store.Size(d.dir)
		d.must(err)
		d.free += of
		d.send(wire.VerbRelease, "u2", asked(m, `,"one_way":true`))
		d.wants(slot.Trial, slot.A, 0)
	})
}

func TestAReleaseWhoseStateCannotBeKeptIsNotTried(t *testing.T) {
	bubble(t, func(d *device) {
		m := d.offer("1.5.0", func(m *repo.Manifest) { m.State = repo.OneWay })
		d.send(wire.VerbRelease, "u1", asked(m, `,"one_way":true`))
		d.stop()
		d.must(os.WriteFile(filepath.Join(d.dir, "slots", kept+".new"), nil, 0o600))
		d.must(os.Chmod(filepath.Join(d.dir, "limber.db"), 0o600))
		d.must(os.Remove(filepath.Join(d.dir, "outbox.db")))
		d.must(os.Mkdir(filepath.Join(d.dir, "outbox.db"), 0o700)) // which cannot be read as a file
		if err := Keep(d.dir, slot.Open(d.dir).Agent(slot.A), discard()); err == nil {
			t.Error("it goes on")
		}
		if p := d.phase(); p.Verdict != slot.State {
			t.Errorf("got %+v, want its verdict", p)
		}
		if _, err := os.Stat(filepath.Join(d.dir, "slots", kept+".new")); err == nil {
			t.Error("half a copy is left")
		}
	})
}

func (d *device) must(err error) {
	d.Helper()
	if err != nil {
		d.Fatal(err)
	}
}
