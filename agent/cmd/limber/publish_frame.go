package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// frameLimit is the size in bytes of a frame that no device takes whatever its
// configuration: with topic and header it would pass 16 MiB, and the device
// would close its connection.
const frameLimit = 16<<20 - 4<<10

// checkFrame says whether a file can be a frame, before anything is sent.
func checkFrame(name string) error {
	info, err := os.Stat(name)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("frame %s: there is no such file", name)
	case err != nil:
		return fmt.Errorf("frame: %w", err)
	case info.IsDir():
		return fmt.Errorf("frame %s: it is a folder; name the files in it, such as %s/*.jpg", name, filepath.Clean(name))
	case !info.Mode().IsRegular():
		return nil // a pipe can be opened once, and its size is known when it was read
	}
	f, err := os.Open(name)
	if err != nil {
		return fmt.Errorf("frame: %w", err)
	}
	defer f.Close()
	return checkSize(name, info.Size())
}

func checkSize(name string, bytes int64) error {
	switch {
	case bytes == 0:
		return fmt.Errorf("frame %s: the file is empty; a frame is a JPEG, PNG or WebP picture", name)
	case bytes > frameLimit:
		return fmt.Errorf("frame %s: more than the %.0f MiB that a device may take; send a smaller picture", name,
			float64(frameLimit)/(1<<20))
	}
	return nil
}

func readFrame(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("frame: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, frameLimit+1))
	if err != nil {
		return nil, fmt.Errorf("frame: %w", err)
	}
	return b, checkSize(name, int64(len(b)))
}
