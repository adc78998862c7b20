package store

import (
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
)

// mustKilled returns the files of an outbox that was killed, as of a history of frames of
// one and of several blocks, with records and with deletes.
func mustKilled(t *testing.T, sizes ...int) (db, journal []byte) {
	t.Helper()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		o := mustOpenOutbox(t, t.TempDir(), OutboxOptions{})
		mustRun(t, o)
		for i, n := range sizes {
			if n == 0 {
				o.Delivered(uint64(i), uint64(i-1))
				pass(lazyEvery)
				continue
			}
			mustAppendTo(t, o, n, Late, Event, Control)
			pass(groupAge)
		}
		mustCopyFiles(t, o, dir)
	})
	return mustRead(t, filepath.Join(dir, "outbox.db")), mustRead(t, filepath.Join(dir, "outbox.log"))
}

// mustTakeOver opens an outbox of these files.
func mustTakeOver(tb testing.TB, db, journal []byte) (l look) {
	tb.Helper()
	dir := tb.TempDir()
	defer os.RemoveAll(dir)
	for name, content := range map[string][]byte{"outbox.db": db, "outbox.log": journal} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			tb.Fatal(err)
		}
	}
	o := mustOpenOutbox(tb, dir, OutboxOptions{NoSync: true, Memory: 1})
	defer o.Close()
	return look{content: stored(tb, o.file), told: len(o.Damage()) > 0 || o.Gaps(), next: o.numbers.next}
}

// Up to four bits are flipped in a frame, half of the time in the last.
func TestS6_FlippedBitsOfTheJournalAreNeverFatalNorSilent(t *testing.T) {
	for name, sizes := range map[string][]int{
		"S6 records last": {100, 3000, 0, 100, 6000, 0, 100, 100},
		"S6 deletes last": {100, 3000, 100, 6000, 100, 0},
	} {
		t.Run(name, func(t *testing.T) {
			db, journal := mustKilled(t, sizes...)
			_, generation := lastGeneration(journal)
			var all []frame
			for at := int64(0); ; at = all[len(all)-1].end {
				f, ok := findFrame(journal, at, generation)
				if !ok {
					break
				}
				all = append(all, f)
			}
			whole := mustTakeOver(t, db, journal)
			if whole.told || len(all) != len(sizes) {
				t.Fatalf("told %v, %d frames, want none told and %d", whole.told, len(all), len(sizes))
			}
			random := rand.New(rand.NewPCG(14, 1))
			var damaged []byte
			for range flipTimes / 2 {
				f := all[len(all)-1]
				if random.IntN(2) == 0 {
					f = all[random.IntN(len(all))]
				}
				damaged = append(damaged[:0], journal...) // new memory costs the race detector much
				sectors := map[int64]bool{}
				for range 1 + random.IntN(4) {
					at := f.at + random.Int64N(f.end-f.at)
					damaged[at] ^= 1 << random.IntN(8)
					sectors[at/journalSector] = true
				}
				got := mustTakeOver(t, db, damaged)
				same := maps.Equal(got.content, whole.content)
				if got.next < whole.next || !same && (!got.told || len(sectors) < 2) {
					t.Errorf("%d sectors of the frame at %d are damaged: the same %v, told %v, numbers from %d, before %d",
						len(sectors), f.at, same, got.told, got.next, whole.next)
				}
			}
		})
	}
}
