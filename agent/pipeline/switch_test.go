package pipeline

import (
	"fmt"
	"math/rand/v2"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent/frame"
	"github.com/limber-edge/limber/agent/governor"
	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/family/ort"
	"github.com/limber-edge/limber/family/ort/orttest"
	"github.com/limber-edge/limber/family/resident"
	"github.com/limber-edge/limber/family/stock"
)

// fleet is the stock family on ONNX Runtime, at work.
type fleet struct {
	*bench
	shelf  *resident.Shelf
	real   []family.Session
	frames [][]byte
	want   [][]int // class of each frame by each member
}

const switchFrames = 8

// M16: requests are in flight while modes change and members are taken out,
// closed and loaded again.
func TestM16_SwitchingUnderLoadLosesNothing(t *testing.T) {
	f := mustFleet(t)
	f.start()
	for i, s := range f.real {
		f.use(i, s)
	}
	stop := make(chan bool)
	var sent, answered atomic.Int64
	var senders sync.WaitGroup
	for i := range 2 {
		senders.Go(func() { f.send(stop, i, &sent, &answered) })
	}
	f.switchAbout(changes * 3 / 10) // buffers, caches and arenas grow to their size
	before := residentBytes(t)
	f.switchAbout(changes)
	after := residentBytes(t)
	f.reload(changes / 10)
	close(stop)
	senders.Wait()
	f.Drain(t.Context())
	f.stop()
	if s, a := sent.Load(), answered.Load(); s != a || s < changes/10 {
		t.Errorf("%d jobs in, %d answers out; want as many, and at least %d", s, a, changes/10)
	}
	t.Logf("%d jobs; memory %d MiB, after %d switches %d MiB", sent.Load(), before>>20, changes, after>>20)
	// The race detector and the allocator move the figure by a few MiB.
	if growth := after - before; growth > before/100+8<<20 {
		t.Errorf("%d switches took %d bytes beside %d", changes, growth, before)
	}
}

// send keeps a few jobs in flight until stop, and checks every answer.
func (f *fleet) send(stop <-chan bool, seed int, sent, answered *atomic.Int64) {
	rng, inFlight := rand.New(rand.NewPCG(uint64(seed), 16)), make(chan bool, 4)
	for {
		select {
		case <-stop:
			return
		case inFlight <- true:
		}
		i := rng.IntN(len(f.frames))
		sent.Add(1)
		var once atomic.Bool
		f.Submit(Job{Body: f.frames[i], Received: time.Now(), Deadline: 10 * time.Minute, Answer: func(a *Answer) {
			if once.Swap(true) {
				f.t.Errorf("frame %d was answered twice", i)
				return
			}
			if a.Reason != "" || a.Top[0].Index != f.want[i][a.Member] {
				f.t.Errorf("frame %d: got %+v, want class %v by member", i, a, f.want[i])
			}
			answered.Add(1)
			<-inFlight
		}})
	}
}

// switchAbout changes modes n times; every tenth time it takes a member out of
// use and puts it back instead.
func (f *fleet) switchAbout(n int) {
	f.t.Helper()
	rng := rand.New(rand.NewPCG(uint64(n), 16))
	modes := []string{"balanced", "max-accuracy", "low-latency"}
	for _, m := range f.cfg.Members {
		modes = append(modes, "fixed:"+m.Name)
	}
	for at := range n {
		if at%10 > 0 || len(f.real) < 2 {
			f.mode(modes[rng.IntN(len(modes))])
			continue
		}
		i := rng.IntN(len(f.real))
		f.use(i, nil)
		f.use(i, f.real[i])
	}
}

// reload takes members out of use n times, frees them and loads them again.
func (f *fleet) reload(n int) {
	f.t.Helper()
	for at := range n {
		i := at % len(f.real)
		if len(f.real) > 1 {
			f.use(i, nil)
			if err := f.real[i].Close(); err != nil {
				f.t.Fatal(err)
			}
			f.load(i)
			f.use(i, f.real[i])
		}
	}
}

func (f *fleet) load(i int) {
	f.t.Helper()
	s, err := f.shelf.Session(i)
	if err != nil {
		f.t.Fatal(err)
	}
	f.real[i] = s
}

func mustFleet(t *testing.T) *fleet {
	t.Helper()
	rt := orttest.Open(t)
	fam, err := stock.Family()
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{Classes: len(fam.Classes), Preprocess: mustPreprocess(t, fam), QueueJobs: 100, QueueBytes: 1 << 20}
	for i, m := range fam.Members {
		cfg.Members = append(cfg.Members, Member{R: m.Arch.R, Member: governor.Member{
			Name: m.Name, Top1: m.Top1, Latency: time.Duration(i+1) * ms}})
	}
	f := &fleet{bench: mustBench(t, cfg), real: make([]family.Session, len(fam.Members))}
	f.shelf = resident.New(rt, &fam.Family, fam, t.TempDir(), ort.DefaultOptions(), nil)
	for i := range f.real {
		f.load(i)
	}
	t.Cleanup(func() {
		for _, s := range f.real {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}
	})
	f.prepare(t)
	return f
}

func mustPreprocess(t *testing.T, fam *family.Folder) family.Preprocess {
	t.Helper()
	how, err := fam.Preprocessing()
	if err != nil {
		t.Fatal(err)
	}
	return how
}

// prepare takes frames from the stock sheet and runs each member on each,
// without the pipeline.
func (f *fleet) prepare(t *testing.T) {
	t.Helper()
	sheet, err := stock.Sheet(frame.OpenSheet)
	if err != nil {
		t.Fatal(err)
	}
	scaler, err := frame.NewScaler(f.cfg.Preprocess)
	if err != nil {
		t.Fatal(err)
	}
	for i := range switchFrames {
		b, err := sheet.PNG(i)
		if err != nil {
			t.Fatal(err)
		}
		var classes []int
		for j, s := range f.real {
			in, out := make([]float32, 3*f.cfg.Members[j].R*f.cfg.Members[j].R), make([]float32, f.cfg.Classes)
			scaler.Tensor(in, sheet.Picture(i), f.cfg.Members[j].R)
			if err := s.Run(out, in); err != nil {
				t.Fatal(err)
			}
			var room [5]Class
			top, err := new(Member).best(room[:0], out)
			if err != nil {
				t.Fatal(err)
			}
			classes = append(classes, top[0].Index)
		}
		f.frames, f.want = append(f.frames, b), append(f.want, classes)
	}
}

// residentBytes is the memory of this process that is in use.
func residentBytes(t *testing.T) int64 {
	t.Helper()
	debug.FreeOSMemory()
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Skip("no /proc/self/statm to read the memory in use from")
	}
	var size, pages int64
	if _, err := fmt.Sscan(string(b), &size, &pages); err != nil {
		t.Fatal(err)
	}
	return pages * int64(os.Getpagesize())
}
