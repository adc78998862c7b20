package search

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/store"
)

// Entry is what was measured of an architecture.
type Entry struct {
	Arch       family.Arch `json:"arch"`
	Calibrated int         `json:"calibrated"` // images that its BN statistics are of
	Images     int         `json:"images"`     // validation images
	Top1       float64     `json:"top1"`       // fraction of them
	Top5       float64     `json:"top5"`
	MMACs      float64     `json:"mmacs"`
	Latency    float64     `json:"latency_ms,omitempty"` // of one inference; none where nobody asked for it
	// blob with the BN statistics of this architecture and resolution
	Stats family.Digest `json:"stats"`
}

// Begun is what a journal's entries depend on. Entries of another supernet or
// of other images would be worth nothing.
type Begun struct {
	Supernet    family.Digest `json:"supernet"`
	Description family.Digest `json:"description"`
	Calibration family.Digest `json:"calibration"` // of the images, as Fingerprint has it
	Validation  family.Digest `json:"validation"`
	Revision    string        `json:"revision"` // of what cuts and measures
	Batch       int           `json:"batch"`    // images of a batch of calibration
	Cost        string        `json:"cost"`     // what is measured of it
	Threads     int           `json:"threads"`  // of an inference whose latency is measured
}

// Journal keeps measurements in a folder while a search goes on, so that one
// that was cut off loses at most the measurement it was at.
//
//	journal.jsonl    Begun, then an Entry a line, each synced before it counts
//	blobs/           BN statistics by their digests
//
// An Entry whose statistics are missing or damaged counts for nothing, and is
// measured anew. It belongs to one goroutine.
type Journal struct {
	dir     string
	file    *os.File
	entries map[string]Entry // by key
}

const journalFile = "journal.jsonl"

// OpenJournal goes on with the journal in dir, or begins one. A journal that
// was begun for something else is an error: whose work it is nobody here knows.
func OpenJournal(dir string, begun Begun) (*Journal, error) {
	if err := os.MkdirAll(filepath.Join(dir, family.BlobFolder), 0o755); err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	path := filepath.Join(dir, journalFile)
	b, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("journal: %w", err)
	}
	j := &Journal{dir: dir, entries: map[string]Entry{}}
	whole, err := j.read(b, begun)
	if err != nil {
		return nil, fmt.Errorf("journal %s: %w", path, err)
	}
	if j.file, err = os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o644); err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	// A line that a power cut left half written is written over.
	_, seek := j.file.Seek(int64(whole), 0)
	if err := errors.Join(j.file.Truncate(int64(whole)), seek); err != nil {
		return nil, errors.Join(fmt.Errorf("journal: %w", err), j.file.Close())
	}
	if whole == 0 {
		err = appendLine(j.file, begun)
	}
	if err = errors.Join(err, store.SyncFolder(dir), store.SyncFolder(filepath.Dir(dir))); err != nil {
		return nil, errors.Join(fmt.Errorf("journal: %w", err), j.file.Close())
	}
	return j, nil
}

// read takes in the whole lines and returns how many bytes they have.
func (j *Journal) read(b []byte, begun Begun) (whole int, err error) {
	for {
		end := bytes.IndexByte(b[whole:], '\n')
		if end < 0 {
			return whole, nil
		}
		line := b[whole : whole+end]
		if whole == 0 {
			err = same(line, begun)
		} else {
			err = j.take(line)
		}
		if err != nil {
			return 0, err
		}
		whole += end + 1
	}
}

// same tells whether a journal's first line is what this search would write.
func same(line []byte, begun Begun) error {
	var was Begun
	if err := json.Unmarshal(line, &was); err != nil || was != begun {
		return errors.New("it was begun with another supernet, other images, another batch, cost or other threads; name " +
			"another file to write, or delete the folder")
	}
	return nil
}

func (j *Journal) take(line []byte) error {
	var e Entry
	if err := json.Unmarshal(line, &e); err != nil {
		return fmt.Errorf("%w; delete the folder", err)
	}
	if _, err := j.Blob(e.Stats); err != nil {
		return nil // without them a member cannot be made of it, which shows only at the end of the search
	}
	j.entries[e.key()] = e
	return nil
}

// key names what was measured: the same architecture on other images is
// another measurement.
func (e Entry) key() string { return fmt.Sprint(e.Arch, e.Calibrated, e.Images) }

// Len is how many measurements there are.
func (j *Journal) Len() int { return len(j.entries) }

// find returns what was measured of an architecture on the whole of these sets.
func (j *Journal) find(a family.Arch, sets Sets) (Entry, bool) {
	e, ok := j.entries[Entry{Arch: a, Calibrated: sets.Calibration.Len(), Images: sets.Validation.Len()}.key()]
	return e, ok
}

// keep writes a measurement and its statistics down; once it returns nil they
// survive a power cut.
func (j *Journal) keep(e Entry, stats []byte) error {
	e.Stats = family.DigestOf(stats)
	err := store.WriteFile(filepath.Join(j.dir, family.BlobFile(e.Stats)), stats) // visible when it is whole, and stays
	if err == nil {
		err = appendLine(j.file, e)
	}
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	j.entries[e.key()] = e
	return nil
}

// appendLine writes a line and syncs it.
func appendLine[Line Begun | Entry](f *os.File, line Line) error {
	b, err := json.Marshal(line)
	if err == nil {
		_, err = f.Write(append(b, '\n'))
	}
	if err == nil {
		err = f.Sync()
	}
	return err
}

// Blob returns statistics that were kept, checked against their digest.
func (j *Journal) Blob(d family.Digest) ([]byte, error) {
	b, err := os.ReadFile(filepath.Join(j.dir, family.BlobFile(d)))
	if err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	if got := family.DigestOf(b); got != d {
		return nil, fmt.Errorf("journal: blob %s holds other bytes (%s); delete %s", d.Short(), got.Short(), j.dir)
	}
	return b, nil
}

// Close ends the journal; what it keeps stays.
func (j *Journal) Close() error { return j.file.Close() }
