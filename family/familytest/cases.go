package familytest

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/limber-edge/limber/family"
)

// Read reads a file.
func Read(tb testing.TB, path string) []byte {
	tb.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// Floats reads a file of little-endian float32.
func Floats(tb testing.TB, path string) []float32 {
	tb.Helper()
	v, err := family.Floats(Read(tb, path))
	if err != nil {
		tb.Fatalf("%s: %v", path, err)
	}
	return v
}

// A Case is one architecture of a fixture's cases.json, with what PyTorch computed.
type Case struct {
	Arch    json.RawMessage `json:"arch"`
	Batches []string        `json:"batches"` // files, of the calibration case
	Input   string          `json:"input"`   // file
	Logits  string          `json:"logits"`  // file
}

// Cases reads those of a fixture.
func Cases(tb testing.TB, dir string) (cases []Case, calibration Case) {
	tb.Helper()
	var all struct {
		Cases       []Case `json:"cases"`
		Calibration Case   `json:"calibration"`
	}
	if err := json.Unmarshal(Read(tb, filepath.Join(dir, "cases.json")), &all); err != nil {
		tb.Fatal(err)
	}
	if len(all.Cases) == 0 || len(all.Calibration.Batches) == 0 {
		tb.Fatalf("%s holds no cases", dir)
	}
	return all.Cases, all.Calibration
}
