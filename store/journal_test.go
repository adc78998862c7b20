package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

func mustJournal(tb testing.TB, path string) *journal {
	tb.Helper()
	j := &journal{path: path, size: journalSize}
	if err := j.open(group{generation: 7}); err != nil {
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
	b = bytes.Clone(b)
	clear(b[max(0, len(b)-journalBlock):]) // the mark
	got, _ := frames(b, generation)
	if !slices.EqualFunc(got, want, bytes.Equal) {
		tb.Errorf("generation %d: got %d frames %.40q, want %d: %.40q", generation, len(got), got, len(want), want)
	}
}

func TestAJournalGivesBackWhatWasAppended(t *testing.T) {
	path := filepath.Join(t.TempDir(), "outbox.log")
	j := mustJournal(t, path)
	var want [][]byte
	for i, size := range []int{0, 1, 100, 7 * sectorBody, 7*sectorBody + 1, 100_000} {
		want = append(want, body(i, size))
		mustLog(t, j, want[i])
	}
	b := mustReadJournal(t, path)
	wantFrames(t, b, 7, want...)
	if frame, mark := lastGeneration(b); frame != 7 || mark != 7 || len(b) != journalSize {
		t.Errorf("generation %d, %d in %d bytes, want 7 in %d", frame, mark, len(b), journalSize)
	}
	if want := int64(4*journalBlock + 2*journalBlock + 26*journalBlock); j.end != want {
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
	if got, _ := frames(mustReadJournal(t, path), 7); n != journalSize/journalBlock-1 || len(got) != n+1 {
		t.Errorf("wrote %d frames, found %d; want %d of a block each, and the mark", n, len(got), journalSize/journalBlock-1)
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
	if got, _ := lastGeneration(b); got != 8 {
		t.Errorf("the newest generation is %d, want 8", got)
	}
}

// A disk writes sectors of 512 bytes, in any order, and a power cut keeps some: nobody
// was told of that frame, so it is nothing to tell of. One that lacks a sector is whole.
func TestS2_AFrameTornAtAnySectorTakesNothingElse(t *testing.T) {
	path := filepath.Join(t.TempDir(), "outbox.log")
	j := mustJournal(t, path)
	for i := range 9 {
		mustLog(t, j, body(10+i, 2000)) // void, and not all zeros
	}
	j.restart(8)
	first, last := body(1, 700), body(2, 9000)
	mustLog(t, j, first)
	before := mustReadJournal(t, path)
	mustLog(t, j, last)
	after := mustReadJournal(t, path)
	for at := int(journalBlock); at < 4*journalBlock; at += journalSector {
		front, back, hole := bytes.Clone(before), bytes.Clone(after), bytes.Clone(after)
		copy(front[:at], after)
		copy(back[:at], before)
		copy(hole[at:at+journalSector], before[at:])
		for name, b := range map[string][]byte{"front": front, "back": back, "hole": hole} {
			missing := 0
			for p := journalBlock; p < 4*journalBlock; p += journalSector {
				if !bytes.Equal(b[p:p+journalSector], after[p:p+journalSector]) {
					missing++
				}
			}
			want := [][]byte{first}
			if missing < 2 {
				want = append(want, last)
			}
			t.Run(fmt.Sprintf("S2 %s at %d", name, at), func(t *testing.T) {
				wantFrames(t, b, 8, want...)
				if _, lost := frames(b, 8); lost {
					t.Error("a torn frame is said to be lost")
				}
			})
		}
	}
}

func TestS6_ADamagedSectorIsHadAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "outbox.log")
	j := mustJournal(t, path)
	var all [][]byte
	for i, size := range []int{100, 9000, 3000} {
		all = append(all, body(i, size))
		mustLog(t, j, all[i])
	}
	whole := mustReadJournal(t, path)
	for at := 0; at < 5*journalBlock; at += 61 {
		b := bytes.Clone(whole)
		b[at] ^= 1 << (at % 8)
		wantFrames(t, b, 7, all...)
	}
	for at := int64(0); at < 5*journalBlock; at += journalSector {
		b := bytes.Clone(whole)
		clear(b[at : at+journalSector])
		wantFrames(t, b, 7, all...)
	}
}

func TestS6_FramesBehindALostOneAreTaken(t *testing.T) {
	path := filepath.Join(t.TempDir(), "outbox.log")
	j := mustJournal(t, path)
	var all [][]byte
	for i, size := range []int{100, 9000, 100, 100} {
		all = append(all, body(i, size))
		mustLog(t, j, all[i])
	}
	whole := mustReadJournal(t, path)
	const block = journalBlock
	for _, tt := range []struct {
		name string
		at   []int // of bytes that are wrong
		want [][]byte
		lost bool // and not told by a frame behind it
	}{
		{"S6 two sectors of the first", []int{0, 600}, all[1:], false},
		{"S6 begin and end of the second", []int{block, 4*block - 1}, slices.Concat(all[:1], all[2:]), false},
		{"S6 two blocks of the second", []int{block + 5, 3 * block}, slices.Concat(all[:1], all[2:]), false},
		{"S6 two bytes of one sector", []int{block + 5, block + 99}, all, false},
		{"S6 a sector of each", []int{0, block, 4 * block, 5 * block}, all, false},
		{"S6 third", []int{4*block + 20, 5*block - 1}, slices.Concat(all[:2], all[3:]), false},
		{"S6 last", []int{5*block + 20, 6*block - 1}, all[:3], true},
		{"S6 third and last", []int{4 * block, 4*block + 600, 5 * block, 5*block + 600}, all[:2], true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := bytes.Clone(whole)
			for _, at := range tt.at {
				b[at] ^= 0x10
			}
			wantFrames(t, b, 7, tt.want...)
			if _, lost := frames(b, 7); lost != tt.lost {
				t.Errorf("lost %v, want %v", lost, tt.lost)
			}
		})
	}
}

// A frame that was on the disk when the next was begun was complete, whatever is left of
// either.
func TestS6_AFrameThatIsGoneBeforeATornOneIsLost(t *testing.T) {
	path := filepath.Join(t.TempDir(), "outbox.log")
	j := mustJournal(t, path)
	for i := range 3 {
		mustLog(t, j, body(i, 100))
	}
	b := mustReadJournal(t, path)
	clear(b[journalBlock+journalSector : 2*journalBlock]) // one sector is left, as of a torn one
	clear(b[2*journalBlock+2*journalSector : 3*journalBlock])
	wantFrames(t, b, 7, body(0, 100))
	if _, lost := frames(b, 7); !lost {
		t.Error("nothing is said to be lost")
	}
}

func TestS6_ABlockThatCannotBeReadIsTold(t *testing.T) {
	b, err := readBlocks(unreadable{bytes.NewReader(body(0, 3*journalBlock))}, 3*journalBlock)
	want := body(0, 3*journalBlock)
	clear(want[journalBlock : 2*journalBlock])
	if !bytes.Equal(b, want) || err == nil {
		t.Errorf("got %v, want an error, and zeros for the block", err)
	}
}

// unreadable cannot be read where the second block is.
type unreadable struct{ *bytes.Reader }

func (u unreadable) ReadAt(b []byte, at int64) (int, error) {
	if at == journalBlock {
		return len(b) / 2, errors.New("input/output error")
	}
	return u.Reader.ReadAt(b, at)
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
	if _, got := lastGeneration(mustReadJournal(t, path)); got != 0 {
		t.Errorf("found a frame of generation %d, want none", got)
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
		if err := j.create(group{generation: 8}); err != nil {
			t.Fatal(err)
		}
		mustLog(t, j, body(2, 100))
		wantFrames(t, mustReadJournal(t, path), 8, body(2, 100))
	}
}

// Whatever stands in sectors whose checksums are right, a frame is no more than the file.
func FuzzFrames(f *testing.F) {
	for _, size := range []int{0, 1, 100, 4000} {
		f.Add(slices.Concat(appendFrame(nil, 7, body(1, size), 0), make([]byte, journalBlock)))
	}
	f.Add([]byte{})
	f.Add(appendFrame(nil, 7, body(1, 10), 0)[:1000])
	f.Fuzz(func(t *testing.T, b []byte) {
		b = bytes.Clone(b)
		for at := 0; at+journalSector <= len(b); at += journalSector {
			s := b[at : at+journalSector]
			sum := checksum(number(uint64(at)), s[:journalSector-4])
			binary.BigEndian.PutUint32(s[journalSector-4:], sum&^uint32(s[0]%2)) // of odd ones maybe not
		}
		_, generation := lastGeneration(b)
		bodies, _ := frames(b, generation)
		for _, body := range bodies {
			if len(body) > len(b) {
				t.Errorf("a body of %d bytes in %d", len(body), len(b))
			}
		}
		if len(bodies) > len(b)/journalBlock {
			t.Errorf("%d frames in %d bytes", len(bodies), len(b))
		}
	})
}

func TestASparseJournalTakesRoomAsItIsWritten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "outbox.log")
	j := &journal{path: path, size: journalSize, noSync: true, sparse: true}
	if err := j.open(group{generation: 7}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(j.abandon)
	mustLog(t, j, body(1, 100))
	wantFrames(t, mustReadJournal(t, path), 7, body(1, 100))
	var s syscall.Stat_t
	if err := syscall.Stat(path, &s); err != nil {
		t.Fatal(err)
	}
	if room := s.Blocks * 512; s.Size != journalSize || room > journalSize/8 {
		t.Errorf("got %d bytes that take %d, want %d that take hardly any", s.Size, room, journalSize)
	}
}
