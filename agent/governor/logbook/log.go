package logbook

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"
	"time"
)

// buffers is how many chunks a log has: one that is written into, one that is
// written to the disk, and as many as bridge a slow disk.
const buffers = 4

// About is what a log says of itself in each header.
type About struct {
	Version string    // of the program
	Epoch   time.Time // zero of the governor's clock
	Members []string  // names, in the governor's order
}

// Log is where a Book is written to: two files of a bounded size.
type Log struct {
	about   About
	out     output
	segment int        // bytes after which a new one begins
	full    chan chunk // to be written
	free    chan []byte
	lost    atomic.Uint64 // calls that were not written
	broken  atomic.Bool   // a chunk could not be written, the book does not know yet
	fault   atomic.Pointer[error]
}

// chunk is some whole lines of one segment.
type chunk struct {
	text   []byte
	begins bool // a segment
	calls  int
}

// output is where chunks go.
type output interface {
	// write writes lines; where they begin a segment they may begin a new file.
	// An error means that none of them can be read.
	write(lines []byte, begins bool) error
	close() error
}

// To makes a log in the file at path and, for what is older, in path.1, which
// have limit bytes together at most; of at least 1 MiB. It touches neither
// before Run.
func To(path string, limit int64, about About) *Log {
	generation := limit / 2
	segment := min(generation/4, maxSegment)
	return newLog(&files{path: path, bound: generation - segment - segmentRoom}, int(segment), about)
}

const (
	maxSegment  = 1 << 20                 // bytes: what damage may cost
	segmentRoom = 2*chunkSize + chunkRoom // by which a segment may exceed its bound
)

func newLog(out output, segment int, about About) *Log {
	l := &Log{about: about, out: out, segment: segment, full: make(chan chunk, buffers), free: make(chan []byte, buffers)}
	for range buffers {
		l.free <- make([]byte, 0, chunkSize+chunkRoom)
	}
	return l
}

// Run writes until the book is closed. What cannot be written is lost and
// counted.
func (l *Log) Run() {
	whole := false // the segment is, up to here
	for c := range l.full {
		if c.begins || whole {
			whole = l.put(c)
		} else {
			l.lost.Add(uint64(c.calls))
		}
		l.free <- c.text[:0]
	}
	if err := l.out.close(); err != nil {
		l.fault.Store(&err)
	}
}

func (l *Log) put(c chunk) bool {
	if err := l.out.write(c.text, c.begins); err != nil {
		l.lost.Add(uint64(c.calls))
		l.fault.Store(&err)
		l.broken.Store(true)
		return false
	}
	l.fault.Store(nil)
	return true
}

// Lost is how many calls were not written, and why the last chunk was not, if
// it was not. It may be called from any goroutine.
func (l *Log) Lost() (calls uint64, err error) {
	if fault := l.fault.Load(); fault != nil {
		err = *fault
	}
	return l.lost.Load(), err
}

// files is a log's file and the one before it.
type files struct {
	path  string
	bound int64 // bytes from which on a segment begins a new file
	file  *os.File
	size  int64
}

func (f *files) write(lines []byte, begins bool) error {
	if err := f.place(begins); err != nil {
		return fmt.Errorf("decision log: %w", err)
	}
	if _, err := f.file.Write(lines); err != nil {
		// Whole lines that got there would be of no harm; half of one is cut off
		// when the file is opened again, if that fails here.
		_ = f.file.Truncate(f.size)
		return fmt.Errorf("decision log: %w", errors.Join(err, f.close()))
	}
	f.size += int64(len(lines))
	return nil
}

// place has a file open that has room.
func (f *files) place(begins bool) error {
	if f.file == nil {
		if err := f.open(); err != nil {
			return err
		}
	}
	if !begins || f.size <= f.bound {
		return nil
	}
	if err := errors.Join(f.close(), os.Rename(f.path, f.path+".1")); err != nil {
		return err
	}
	return f.open()
}

// open opens the file to go on after its last whole line: a power cut may have
// left half of one.
func (f *files) open() error {
	file, err := os.OpenFile(f.path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	size, err := wholeLines(file)
	if err == nil {
		err = file.Truncate(size)
	}
	if err != nil {
		return errors.Join(err, file.Close())
	}
	f.file, f.size = file, size
	return nil
}

// wholeLines is the size of a file up to the end of its last line that has one.
func wholeLines(file *os.File) (int64, error) {
	end, err := file.Seek(0, io.SeekEnd)
	if err != nil {
		return 0, err
	}
	block := make([]byte, 64<<10)
	for end > 0 {
		from := max(0, end-int64(len(block)))
		n, err := file.ReadAt(block[:end-from], from)
		if err != nil {
			return 0, err
		}
		if at := bytes.LastIndexByte(block[:n], '\n'); at >= 0 {
			return from + int64(at) + 1, nil
		}
		end = from
	}
	return 0, nil
}

func (f *files) close() error {
	if f.file == nil {
		return nil
	}
	err := f.file.Close()
	f.file = nil
	return err
}
