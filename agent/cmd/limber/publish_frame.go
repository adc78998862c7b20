package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/limber-edge/limber/agent/fleet"
	"github.com/limber-edge/limber/agent/wire"
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

// answerPrinter prints answers to frames, and counts those that say no.
type answerPrinter struct {
	out      io.Writer
	asJSON   bool
	progress *progress
	refused  int
}

func (p *answerPrinter) print(name string, a fleet.Answer) error {
	p.progress.End()
	r := a.Result
	if r.Status != wire.OK {
		p.refused++
	}
	var err error
	switch {
	case p.asJSON:
		_, err = fmt.Fprintf(p.out, "%s\n", a.Payload)
	case r.Status != wire.OK:
		_, err = fmt.Fprintf(p.out, "%s: refused, %s: %s\n", name, r.Reason, r.Detail)
	default:
		_, err = fmt.Fprintf(p.out, "%s: %s\n", name, seen(r))
	}
	return err
}

// seen says what a device saw, and how well.
func seen(r wire.Result) string {
	if len(r.Classes) == 0 || r.MS == nil {
		return "answered, but without classes and times"
	}
	best, late := r.Classes[0], ""
	if !r.Met {
		late = ", late"
	}
	return fmt.Sprintf("%s %.0f %%  (member %s, %.2f ms of %.0f ms%s)", best.Label, 100*best.P, r.Member, r.MS.Total,
		r.DeadlineMS, late)
}
