package workshop

import (
	"context"
	"strings"
	"sync"
	"testing"

	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/family/familytest"
	"github.com/limber-edge/limber/family/ort"
	"github.com/limber-edge/limber/family/ort/orttest"
	"github.com/limber-edge/limber/family/trial"
)

func TestMain(m *testing.M) { familytest.Main(m) }

// heard is what a workshop told.
type heard struct {
	mu              sync.Mutex
	notes, warnings []string
	told            func(what string, done, of int) // nil: nobody listens
}

func (h *heard) Tell(what string, done, of int) {
	if h.told != nil {
		h.told(what, done, of)
	}
}

func (h *heard) Say(string) {}

func (h *heard) Note(line string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.notes = append(h.notes, line)
}

func (h *heard) Warn(line string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.warnings = append(h.warnings, line)
}

// guard tries each model once, in a process.
type guard struct {
	*trial.Trial
	tried map[family.Digest][]float32
}

func (g *guard) Try(ctx context.Context, model []byte, shape ort.Shape, input []float32) ([]float32, error) {
	d := family.DigestOf(model)
	if numbers, ok := g.tried[d]; ok {
		return numbers, nil
	}
	numbers, err := g.Trial.Try(ctx, model, shape, input)
	if err == nil {
		g.tried[d] = numbers
	}
	return numbers, err
}

// mustShop is a workshop with a runtime and a guard, and what it tells.
func mustShop(t *testing.T) (Shop, *heard) {
	t.Helper()
	t.Setenv("ONNXRUNTIME_LIB", orttest.Path(t))
	h := &heard{}
	return Shop{Guard: &guard{familytest.Trial(t), map[family.Digest][]float32{}}, Progress: h}, h
}

// wantSaid checks that an error, "" for none, or lines say each part.
func wantSaid(tb testing.TB, got string, parts ...string) {
	tb.Helper()
	for _, part := range parts {
		if !strings.Contains(got, part) || part == "" && got != "" {
			tb.Errorf("got %q, want it to say %q", got, part)
		}
	}
}

func wantError(tb testing.TB, err error, parts ...string) {
	tb.Helper()
	if err == nil {
		tb.Errorf("got no error, want %q", parts)
		return
	}
	wantSaid(tb, err.Error(), parts...)
}

func mustOpen(tb testing.TB, path string) *family.Folder {
	tb.Helper()
	f, err := family.Open(path)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { f.Close() })
	return f
}

func TestNoiseIsFixedAndVaries(t *testing.T) {
	v := Noise(2000)
	if v[0] != -1 || v[1] == v[2] || v[1000] != v[0] {
		t.Errorf("got %v, %v, %v ... %v", v[0], v[1], v[2], v[1000])
	}
}
