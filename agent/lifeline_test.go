package agent

import (
	"context"
	"errors"
	"testing"

	"github.com/limber-edge/limber/family"
)

// fakeSession writes a number, or fails.
type fakeSession struct {
	says                float32
	err                 error
	runs, stops, closes int
}

func (s *fakeSession) Run(out []float32, _ ...[]float32) error {
	s.runs++
	out[0] = s.says
	return s.err
}

func (s *fakeSession) Interrupt() { s.stops++ }

func (s *fakeSession) Close() error {
	s.closes++
	return nil
}

// fakeShelf hands out one session, or none.
type fakeShelf struct {
	session *fakeSession
	err     error
	asked   []int
}

func (s *fakeShelf) Session(i int) (family.Session, error) {
	s.asked = append(s.asked, i)
	return s.session, s.err
}

func (s *fakeShelf) Profile(context.Context, []family.Session) (*family.Profile, error) {
	return nil, nil
}
func (s *fakeShelf) Pin(int) (func() error, error) { return nil, nil }
func (s *fakeShelf) Variant() family.Variant       { return family.Variant{} }

func TestR11_TheFrameThatMeetsTheFailureIsInferredOnTheCPU(t *testing.T) {
	gpu, other, cpu := &fakeSession{says: 1}, &fakeSession{says: 1}, &fakeSession{says: 2}
	shelf := &fakeShelf{session: cpu}
	line := newLifeline(shelf)
	a, b := line.hold(gpu, 3), line.hold(other, 4)
	images, out := [][]float32{nil}, make([]float32, 1)
	if n := testing.AllocsPerRun(10, func() { a.Run(out, images...) }); n > 0 || out[0] != 1 {
		t.Errorf("while it works: got %v with %v allocations, want the GPU's 1 without", out, n)
	}
	gpu.err = errors.New("CUDA failure 999")
	for range 2 {
		if err := a.Run(out, images...); err != nil || out[0] != 2 {
			t.Errorf("got %v, %v; want the CPU's 2", out, err)
		}
	}
	if err := b.Run(out, images...); err != nil || out[0] != 2 || other.runs > 0 {
		t.Errorf("another member: got %v, %v after %d runs; want the CPU's 2 at once", out, err, other.runs)
	}
	if err := <-line.failed; !errors.Is(err, gpu.err) || len(line.failed) > 0 {
		t.Errorf("got %v, want the first failure, once", err)
	}
	if len(shelf.asked) != 2 || shelf.asked[0] != 3 || shelf.asked[1] != 4 {
		t.Errorf("the CPU's members %v were asked for, want 3 and 4, each once", shelf.asked)
	}
	a.Interrupt()
	if err := a.Close(); err != nil || gpu.stops != 1 || cpu.stops != 1 || gpu.closes != 1 || cpu.closes != 1 {
		t.Errorf("got %+v and %+v, %v; want both interrupted and closed", gpu, cpu, err)
	}
}

func TestR11_WithoutASessionOnTheCPUTheErrorSaysWhy(t *testing.T) {
	gone := errors.New("member small: cache: disk full")
	line := newLifeline(&fakeShelf{err: gone})
	s := line.hold(&fakeSession{err: errors.New("CUDA failure 999")}, 0)
	if err := s.Run(make([]float32, 1), nil); !errors.Is(err, gone) {
		t.Errorf("got %v, want %v", err, gone)
	}
	s.Interrupt()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}
