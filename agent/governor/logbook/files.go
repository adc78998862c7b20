package logbook

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
)

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
