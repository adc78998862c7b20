package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// A journal is outbox.log: what is on the disk and not yet in outbox.db. A commit of
// bbolt writes five to seven pages, a frame of the journal mostly one, which is what
// lets a card live with twenty commits a second.
//
//	block 0                3       4
//	├ frame ─────── zeros ─┼ frame ─┼ frames of earlier generations, or zeros ┤
//
// The file has its size from the start and is written over, so that a frame changes
// nothing but its own blocks. A frame begins at a block and is written with its
// padding in one synchronous write: no block that holds a frame is written again
// before outbox.db has what is in it, so a write torn by a power cut takes nothing
// else with it.
//
// Each frame bears the generation of the journal, which outbox.db counts up in the
// commit that takes everything over. From then on the frames are void, and the next
// one is written over the first.
//
// The one rule: after an error nobody knows what is on the disk, so the file is not
// written again; another is made once outbox.db has what was in it.
type journal struct {
	path       string
	noSync     bool
	size       int64       // bytes of the file, whole blocks; 0: there is none
	file       journalFile // nil: cannot be written
	info       os.FileInfo
	generation uint64
	end        int64     // where the next frame goes
	counted    tallies   // what the frames have
	made       time.Time // when it was last tried to make the file
	body       []byte    // of the last frame, for its room
	frame      []byte    // the last one, for its room
}

// A journalFile is an *os.File, or a test's that stalls.
type journalFile interface {
	io.WriterAt
	io.Closer
}

// errNoRoom says that the frames take all the room that there is.
var errNoRoom = errors.New("the journal is full")

const (
	journalSize  = 1 << 20 // bytes at most
	journalBlock = 4 << 10 // bytes that a disk writes at least

	// frameHead is what a frame has before its body: length of the body, 4 bytes;
	// generation, 8; CRC32C, 4, over where the frame is and all of the others.
	frameHead = 4 + 8 + 4
)

// frameSize is what a frame takes in the file, with its padding.
func frameSize(body int) int64 {
	return (frameHead + int64(body) + journalBlock - 1) / journalBlock * journalBlock
}

// create makes the file anew and empties it, to be written with that generation. What
// was there is lost: outbox.db has to have it.
func (j *journal) create(generation uint64) error {
	j.abandon()
	j.restart(generation)
	j.made = time.Now()
	if j.size == 0 {
		return nil
	}
	if err := removed(j.path); err != nil {
		return fmt.Errorf("replace %s: %w", j.path, err)
	}
	err := fillZeros(j.path, j.size, j.noSync)
	if err == nil {
		err = SyncFolder(filepath.Dir(j.path))
	}
	if err == nil {
		err = j.use(generation)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("make %s: %w", j.path, err), removed(j.path))
	}
	return nil
}

// fillZeros makes a file without holes, so that its blocks are there when the disk is
// full. It is written block by block: the system keeps together what is written
// together, and would account for all of it with each block that changes.
func fillZeros(path string, size int64, noSync bool) error {
	h, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	for at := int64(0); err == nil && at < size; at += journalBlock {
		_, err = h.WriteAt(make([]byte, journalBlock), at)
	}
	if err == nil && !noSync {
		err = h.Sync()
	}
	return errors.Join(err, h.Close())
}

// open opens the file to be written from its start, or makes it if it is not there or
// not whole.
func (j *journal) open(generation uint64) error {
	if err := j.use(generation); err == nil && j.info.Size() == j.size && j.info.Mode().IsRegular() {
		return nil
	}
	return j.create(generation)
}

// use opens the file to be written from its start. A write returns when it is on the
// disk, as with fdatasync behind it.
func (j *journal) use(generation uint64) error {
	flag := os.O_RDWR
	if !j.noSync {
		flag |= syscall.O_DSYNC
	}
	h, err := os.OpenFile(j.path, flag, 0)
	if err != nil {
		return err
	}
	info, err := h.Stat()
	if err != nil {
		return errors.Join(err, h.Close())
	}
	j.restart(generation)
	j.file, j.info = h, info
	return nil
}

// restart voids the frames: outbox.db has what is in them, and counts this generation.
func (j *journal) restart(generation uint64) {
	j.generation, j.end, j.counted = generation, 0, tallies{}
}

// fits tells whether a frame with a body of that many bytes has room.
func (j *journal) fits(body int) bool { return j.file != nil && j.end+frameSize(body) <= j.size }

// log writes a group if there is anything to write; the error is errNoRoom if it does
// not fit.
func (j *journal) log(g group) error {
	if g.nothing {
		return nil
	}
	if j.file == nil {
		return errNoRoom
	}
	j.body = appendGroup(j.body[:0], g, j.counted)
	if !j.fits(len(j.body)) {
		return errNoRoom
	}
	if err := j.append(j.body); err != nil {
		return err
	}
	j.counted.add(g)
	return nil
}

// append writes a frame, for which there has to be room. It is on the disk when this
// returns nil; after an error the journal is of no use until it was made anew.
func (j *journal) append(body []byte) error {
	j.frame = appendFrame(j.frame[:0], j.generation, body, j.end)
	err := j.inPlace()
	if err == nil {
		_, err = j.file.WriteAt(j.frame, j.end)
	}
	if err != nil {
		j.abandon()
		return fmt.Errorf("write %s: %w", j.path, err)
	}
	j.end += int64(len(j.frame))
	return nil
}

// inPlace is an error unless the file is still the one its path names. What is written
// to a removed file succeeds and is lost.
func (j *journal) inPlace() error {
	info, err := os.Stat(j.path)
	if err == nil && !os.SameFile(info, j.info) {
		err = errors.New("another file is in its place")
	}
	return err
}

// abandon lets go of a file that must not be written again.
func (j *journal) abandon() {
	if j.file != nil {
		j.file.Close() // what it has to say about its writes was said by them
		j.file = nil
	}
}

// appendFrame appends the frame that goes where at is in the file.
func appendFrame(b []byte, generation uint64, body []byte, at int64) []byte {
	head := binary.BigEndian.AppendUint32(make([]byte, 0, frameHead), uint32(len(body)))
	head = binary.BigEndian.AppendUint64(head, generation)
	head = binary.BigEndian.AppendUint32(head, frameSum(head, body, at))
	b = append(append(b, head...), body...)
	return append(b, make([]byte, frameSize(len(body))-frameHead-int64(len(body)))...)
}

// frameSum is the checksum of a frame by what its head says before it.
func frameSum(head, body []byte, at int64) uint32 {
	return checksum(number(uint64(at)), head, body)
}

// parseFrame reads the frame that begins where at is in the file b. ok is false if
// none does.
func parseFrame(b []byte, at int64) (generation uint64, body []byte, ok bool) {
	b = b[at:]
	if len(b) < frameHead {
		return 0, nil, false
	}
	size := int64(binary.BigEndian.Uint32(b))
	if size > int64(len(b))-frameHead {
		return 0, nil, false
	}
	body = b[frameHead : frameHead+size]
	if frameSum(b[:12], body, at) != binary.BigEndian.Uint32(b[12:]) {
		return 0, nil, false
	}
	return binary.BigEndian.Uint64(b[4:]), body, true
}

// readJournal returns the content of the file at path, nothing if there is none. A
// block that cannot be read is zeros.
func readJournal(path string) ([]byte, error) {
	h, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	defer h.Close()
	info, err := h.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return nil, err
	}
	b := make([]byte, min(info.Size(), journalSize))
	for at := 0; at < len(b); at += journalBlock {
		block := b[at:min(at+journalBlock, len(b))]
		if _, err := h.ReadAt(block, int64(at)); err != nil {
			clear(block)
		}
	}
	return b, nil
}

// frames returns the bodies of the frames of a generation. Behind a bad block it looks
// on: each frame was begun when the one before was on the disk, so one behind a bad
// one tells of damage, and is as good as before.
func frames(b []byte, generation uint64) (bodies [][]byte) {
	for at := int64(0); at < int64(len(b)); {
		g, body, ok := parseFrame(b, at)
		if !ok || g != generation {
			at += journalBlock
			continue
		}
		bodies = append(bodies, body)
		at += frameSize(len(body))
	}
	return bodies
}

// lastGeneration is the newest that a frame bears; 0 if there is no frame.
func lastGeneration(b []byte) (last uint64) {
	for at := int64(0); at < int64(len(b)); at += journalBlock {
		if g, _, ok := parseFrame(b, at); ok {
			last = max(last, g)
		}
	}
	return last
}
