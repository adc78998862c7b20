package store

import (
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
//	block 0                3       4                                       the last
//	├ frame ─────── zeros ─┼ frame ─┼ frames of earlier generations, or zeros ┼ mark ┤
//
// The file has its size from the start and is written over, so that a frame changes
// nothing but its own blocks. A frame begins at a block and is written with its
// padding in one synchronous write: no block that holds a frame is written again
// before outbox.db has what is in it, so a write torn by a power cut takes nothing
// else with it.
//
// Each frame bears the generation of the journal, which outbox.db counts up in the
// commit that takes everything over. From then on the frames are void, and the next
// one is written over the first. The mark, a frame with nothing in it, bears the new
// generation then, so that void frames stay void should outbox.db be removed.
//
// A frame is sectors, each with a checksum and the generation. One of them more than the
// body takes is the sum of the others, so that any one that is damaged is had again. Where
// two are, the frame is lost; what is done about it:
//
//   - A frame behind it tells how many records it had, and repeats its deletes.
//   - It is the last, and all of its sectors that are sound are new: it was complete, may
//     have been called durable, and is told as damage, without a count.
//   - It is the last, and one of its sectors is of an earlier generation, or zeros: it was
//     torn by a power cut, before anyone was told of it, which is nothing to tell of.
//
// What cannot be told from the last case is a disk that turns a sector of the last frame
// back into what it was, or spoils all sectors of a last frame: what rots in a void frame
// looks like that. Nor is it known what the last frame deleted: should it be lost, what
// was given up in it waits again, also if the gap was told in the two seconds before.
//
// The one rule: after an error nobody knows what is on the disk, so the file is not
// written again; another is made once outbox.db has what was in it.
type journal struct {
	path       string
	noSync     bool
	sparse     bool
	size       int64       // bytes of the file, whole blocks; 0: there is none
	file       journalFile // nil: cannot be written
	info       os.FileInfo
	generation uint64
	end        int64     // where the next frame goes
	counted    tallies   // what the frames have
	made       time.Time // when it was last tried to make the file
	body       []byte    // of the last frame, for its room
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
)

// create makes the file anew and empties it, to be written with the generation of the
// group. What was there is lost: outbox.db has to have it.
func (j *journal) create(taken group) error {
	j.abandon()
	j.restart(taken.generation)
	j.made = time.Now()
	if j.size == 0 {
		return nil
	}
	if err := removed(j.path); err != nil {
		return fmt.Errorf("replace %s: %w", j.path, err)
	}
	err := j.makeFile()
	if err == nil {
		err = SyncFolder(filepath.Dir(j.path))
	}
	if err == nil {
		err = j.use()
	}
	if err == nil {
		err = j.mark(taken)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("make %s: %w", j.path, err), removed(j.path))
	}
	return nil
}

// makeFile makes the file of its size: sparse, or with all its blocks.
func (j *journal) makeFile() error {
	if !j.sparse {
		return fillZeros(j.path, j.size, j.noSync)
	}
	h, err := os.OpenFile(j.path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(h.Truncate(j.size), h.Close())
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
func (j *journal) open(taken group) error {
	j.restart(taken.generation)
	err := j.use()
	if err == nil && j.info.Size() == j.size && j.info.Mode().IsRegular() && j.mark(taken) == nil {
		return nil
	}
	return j.create(taken)
}

// use opens the file to be written. A write returns when it is on the disk, as with
// fdatasync behind it.
func (j *journal) use() error {
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
	j.file, j.info = h, info
	return nil
}

// restart voids the frames: outbox.db has what is in them, and counts this generation.
func (j *journal) restart(generation uint64) {
	j.generation, j.end, j.counted = generation, 0, tallies{}
}

// mark notes in the file what outbox.db has taken over: from which generation on frames
// count, which numbers are used, and the running time.
func (j *journal) mark(taken group) error {
	body := appendGroup(nil, group{reserved: taken.reserved, age: taken.age}, tallies{})
	return j.write(appendFrame(nil, taken.generation, body, j.room()), j.room())
}

// room is how many bytes there are for frames.
func (j *journal) room() int64 { return j.size - journalBlock }

// fits tells whether a frame with a body of that many bytes has room.
func (j *journal) fits(body int) bool { return j.file != nil && j.end+frameSize(body) <= j.room() }

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
	frame := appendFrame(make([]byte, 0, frameSize(len(body))), j.generation, body, j.end)
	err := j.write(frame, j.end)
	if err == nil {
		j.end += int64(len(frame))
	}
	return err
}

// write writes whole blocks.
func (j *journal) write(frame []byte, at int64) error {
	err := j.inPlace()
	if err == nil {
		_, err = j.file.WriteAt(frame, at)
	}
	if err != nil {
		j.abandon()
		return fmt.Errorf("write %s: %w", j.path, err)
	}
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

// readJournal returns the content of the file at path, nothing if there is none. A
// block that cannot be read is zeros, and the error says so.
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
	return readBlocks(h, min(info.Size(), journalSize))
}

func readBlocks(from io.ReaderAt, size int64) (b []byte, err error) {
	b = make([]byte, size)
	for at := int64(0); at < size; at += journalBlock {
		block := b[at:min(at+journalBlock, size)]
		if _, failed := from.ReadAt(block, at); failed != nil {
			clear(block)
			err = fmt.Errorf("block at byte %d: %w", at, failed)
		}
	}
	return b, err
}
