package engine

import (
	"errors"
	"testing"

	"github.com/limber-edge/limber/family"
)

// countedSession writes a number, or fails.
type countedSession struct {
	says                float32
	err                 error
	runs, stops, closes int
}

func (s *countedSession) Run(out []float32, _ ...[]float32) error {
	s.runs++
	out[0] = s.says
	return s.err
}

func (s *countedSession) Interrupt() { s.stops++ }

func (s *countedSession) Close() error {
	s.closes++
	return nil
}

// oneLoader hands out one session, or none.
type oneLoader struct {
	Loader
	session *countedSession
	err     error
	asked   []int
}

func (l *oneLoader) Session(i int) (family.Session, error) {
	l.asked = append(l.asked, i)
	return l.session, l.err
}

func TestR11_TheFrameThatMeetsTheFailureIsInferredOnTheCPU(t *testing.T) {
	gpu, other, cpu := &countedSession{says: 1}, &countedSession{says: 1}, &countedSession{says: 2}
	loader := &oneLoader{session: cpu}
	f := newFallback(loader)
	a, b := f.hold(gpu, 3), f.hold(other, 4)
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
	if err := <-f.failed; !errors.Is(err, gpu.err) || len(f.failed) > 0 {
		t.Errorf("got %v, want the first failure, once", err)
	}
	if len(loader.asked) != 2 || loader.asked[0] != 3 || loader.asked[1] != 4 {
		t.Errorf("the CPU's members %v were asked for, want 3 and 4, each once", loader.asked)
	}
	a.Interrupt()
	if err := a.Close(); err != nil || gpu.stops != 1 || cpu.stops != 1 || gpu.closes != 1 || cpu.closes != 1 {
		t.Errorf("got %+v and %+v, %v; want both interrupted and closed", gpu, cpu, err)
	}
}

func TestR11_WithoutASessionOnTheCPUTheErrorSaysWhy(t *testing.T) {
	gone := errors.New("member small: cache: disk full")
	f := newFallback(&oneLoader{err: gone})
	s := f.hold(&countedSession{err: errors.New("CUDA failure 999")}, 0)
	if err := s.Run(make([]float32, 1), nil); !errors.Is(err, gone) {
		t.Errorf("got %v, want %v", err, gone)
	}
	s.Interrupt()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}
