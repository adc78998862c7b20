package store

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func mustJournal(tb testing.TB, path string) *journal {
	tb.Helper()
	j := &journal{path: path, size: journalSize}
	if err := j.open(7); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(j.abandon)
	return j
}

// body returns n bytes that tell which frame they are of.
func body(frame, n int) []byte {
	return bytes.Repeat(fmt.Appendf(nil, "frame %d.", frame), n/7+1)[:n]
}

func mustLog(tb testing.TB, j *journal, body []byte) {
	tb.Helper()
	if err := j.append(body); err != nil {
		tb.Fatal(err)
	}
}

// mustReadJournal returns the content of a journal's file.
func mustReadJournal(tb testing.TB, path string) []byte {
	tb.Helper()
	b, err := readJournal(path)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// wantFrames checks which frames of a generation there are, each named by its body.
func wantFrames(tb testing.TB, b []byte, generation uint64, want ...[]byte) {
	tb.Helper()
	if got := frames(b, generation); !slices.EqualFunc(got, want, bytes.Equal) {
		tb.Errorf("generation %d: got %d frames %.40q, want %d: %.40q", generation, len(got), got, len(want), want)
	}
}

func TestAJournalGivesBackWhatWasAppended(t *testing.T) {
	path := filepath.Join(t.TempDir(), "outbox.log")
	j := mustJournal(t, path)
	var want [][]byte
	for i, size := range []int{0, 1, 100, journalBlock - frameHead, journalBlock - frameHead + 1, 100_000} {
		want = append(want, body(i, size))
		mustLog(t, j, want[i])
	}
	b := mustReadJournal(t, path)
	wantFrames(t, b, 7, want...)
	if got := lastGeneration(b); got != 7 || len(b) != journalSize {
		t.Errorf("generation %d in %d bytes, want 7 in %d", got, len(b), journalSize)
	}
	if want := int64(4*journalBlock + 2*journalBlock + 25*journalBlock); j.end != want {
		t.Errorf("the frames take %d bytes, want %d: whole blocks", j.end, want)
	}
}

func TestAJournalTakesFramesToItsEnd(t *testing.T) {
	path := filepath.Join(t.TempDir(), "outbox.log")
	j := mustJournal(t, path)
	n := 0
	for ; j.fits(3000); n++ {
		mustLog(t, j, body(n, 3000))
	}
	if got := len(frames(mustReadJournal(t, path), 7)); n != journalSize/journalBlock || got != n {
		t.Errorf("wrote %d frames, found %d; want %d of a block each", n, got, journalSize/journalBlock)
	}
	if (&journal{}).fits(0) || j.fits(journalSize) {
		t.Error("a frame fits where there is no file, or no room")
	}
}

func TestFramesBeforeACheckpointAreVoid(t *testing.T) {
	path := filepath.Join(t.TempDir(), "outbox.log")
	j := mustJournal(t, path)
	for i := range 3 {
		mustLog(t, j, body(i, 100))
	}
	j.restart(8)
	wantFrames(t, mustReadJournal(t, path), 8)
	mustLog(t, j, body(9, 5000))
	b := mustReadJournal(t, path)
	wantFrames(t, b, 8, body(9, 5000))
	wantFrames(t, b, 7, body(2, 100))
	if got := lastGeneration(b); got != 8 {
		t.Errorf("the newest generation is %d, want 8", got)
	}
}

// A disk writes sectors of 512 bytes, in any order, and a power cut keeps some.
func TestS2_AFrameTornAtAnySectorTakesNothingElse(t *testing.T) {
	path := filepath.Join(t.TempDir(), "outbox.log")
	j := mustJournal(t, path)
	first, last := body(1, 700), body(2, 9000)
	mustLog(t, j, first)
	before := mustReadJournal(t, path)
	mustLog(t, j, last)
	after := mustReadJournal(t, path)
	const sector = 512
	for at := journalBlock; at < 4*journalBlock; at += sector {
		front, back, hole := bytes.Clone(before), bytes.Clone(after), bytes.Clone(after)
		copy(front[:at], after)
		copy(back[:at], before)
		copy(hole[at:at+sector], before[at:])
		for name, b := range map[string][]byte{"front": front, "back": back, "hole": hole} {
			want := [][]byte{first}
			if bytes.Equal(b, after) { // what was torn is zeros
				want = append(want, last)
			}
			t.Run(fmt.Sprintf("S2 %s at %d", name, at), func(t *testing.T) { wantFrames(t, b, 7, want...) })
		}
	}
}

func TestS6_FramesBehindADamagedOneAreTaken(t *testing.T) {
	path := filepath.Join(t.TempDir(), "outbox.log")
	j := mustJournal(t, path)
	var all [][]byte
	for i, size := range []int{100, 9000, 100, 100} {
		all = append(all, body(i, size))
		mustLog(t, j, all[i])
	}
	whole := mustReadJournal(t, path)
	for _, tt := range []struct {
		name string
		at   int // of the bit that is wrong
		want [][]byte
	}{
		{"S6 length of the first", 0, all[1:]},
		{"S6 length of the second", journalBlock, slices.Concat(all[:1], all[2:])},
		{"S6 generation", journalBlock + 5, slices.Concat(all[:1], all[2:])},
		{"S6 checksum", journalBlock + 13, slices.Concat(all[:1], all[2:])},
		{"S6 body", 3*journalBlock + 17, slices.Concat(all[:1], all[2:])},
		{"S6 padding", 4*journalBlock - 1, all},
		{"S6 third", 4*journalBlock + 20, slices.Concat(all[:2], all[3:])},
		{"S6 last", 5*journalBlock + 20, all[:3]},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := bytes.Clone(whole)
			b[tt.at] ^= 0x10
			wantFrames(t, b, 7, tt.want...)
		})
	}
}

// A frame is one only where it was written: what a payload brings along, or a disk
// puts elsewhere, is none.
func TestAFrameCountsOnlyInItsPlace(t *testing.T) {
	path := filepath.Join(t.TempDir(), "outbox.log")
	j := mustJournal(t, path)
	mustLog(t, j, body(0, 100))
	b := mustReadJournal(t, path)
	copy(b[2*journalBlock:], b[:journalBlock])
	wantFrames(t, b, 7, body(0, 100))
}

func TestS14_AJournalWhoseMakingWasCutOffIsMadeAnew(t *testing.T) {
	for _, size := range []int{-1, 0, 1, journalBlock, journalSize / 2, journalSize - 1, journalSize, journalSize + 1} {
		t.Run(fmt.Sprintf("S14 %d bytes", size), func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "outbox.log")
			if size >= 0 {
				mustPut(t, path, string(make([]byte, size)))
			}
			wantFrames(t, mustReadJournal(t, path), 7)
			j := mustJournal(t, path)
			mustLog(t, j, body(0, 100))
			b, err := os.ReadFile(path)
			if err != nil || len(b) != journalSize {
				t.Errorf("the file has %d bytes, %v; want %d", len(b), err, journalSize)
			}
			wantFrames(t, b, 7, body(0, 100))
		})
	}
}

func TestAForeignJournalIsWrittenOver(t *testing.T) {
	path := filepath.Join(t.TempDir(), "outbox.log")
	mustPut(t, path, strings.Repeat("not a journal. ", journalSize/10))
	if b := mustReadJournal(t, path); lastGeneration(b) != 0 {
		t.Errorf("found a frame of generation %d, want none", lastGeneration(b))
	}
	mustLog(t, mustJournal(t, path), body(0, 100))
	wantFrames(t, mustReadJournal(t, path), 7, body(0, 100))
}

func TestS5_ARemovedJournalIsNotWrittenAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "outbox.log")
	for _, remove := range []func() error{
		func() error { return os.Remove(path) },
		func() error { return os.Rename(path, path+".old") },
		func() error { return os.WriteFile(path+".new", nil, 0o600) },
	} {
		j := mustJournal(t, path)
		mustLog(t, j, body(0, 100))
		if err := remove(); err != nil {
			t.Fatal(err)
		}
		if exists(path + ".new") {
			if err := os.Rename(path+".new", path); err != nil {
				t.Fatal(err)
			}
		}
		if err := j.append(body(1, 100)); err == nil || j.fits(0) {
			t.Errorf("got %v, and room %v; want an error, and no room until it was made anew", err, j.fits(0))
		}
		if err := j.create(8); err != nil {
			t.Fatal(err)
		}
		mustLog(t, j, body(2, 100))
		wantFrames(t, mustReadJournal(t, path), 8, body(2, 100))
	}
}

// Whatever stands in the file, nothing is a frame but what is written as one.
func FuzzParseFrame(f *testing.F) {
	for _, size := range []int{0, 1, 100} {
		f.Add(appendFrame(nil, 7, body(1, size), 0)[:frameHead+size])
	}
	f.Add([]byte{})
	f.Add(make([]byte, 2*frameHead))
	f.Fuzz(func(t *testing.T, b []byte) {
		generation, body, ok := parseFrame(b, 0)
		if again := appendFrame(nil, generation, body, 0); ok && !bytes.HasPrefix(again, b[:frameHead+len(body)]) {
			t.Errorf("%q is read as a frame, which is written %q", b, again)
		}
		if found := frames(b, generation); ok != (len(found) == 1) {
			t.Errorf("%q: a frame %v, found %d", b, ok, len(found))
		}
	})
}
