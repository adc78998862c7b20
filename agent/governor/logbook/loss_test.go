package logbook

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/limber-edge/limber/agent/governor"
)

// lossy checks what is left of a log some of which was lost.
func lossy(t *testing.T, log []byte, d *desk, jobs int) {
	t.Helper()
	got, err := Replay(bytes.NewReader(log), ignore)
	if err != nil {
		t.Errorf("what was written cannot be repeated: %v", err)
	}
	lost, _ := d.log.Lost()
	if got.Decisions == 0 || got.Decisions == jobs || lost == 0 || lost < uint64(jobs-got.Decisions) {
		t.Errorf("%d calls lost, %d of %d decisions written", lost, got.Decisions, jobs)
	}
}

func TestADiskThatBlocksLosesLinesAndStallsNobody(t *testing.T) {
	stuck, entered := make(chan struct{}), make(chan struct{}, 1)
	out := &memory{enter: func() {
		select {
		case entered <- struct{}{}:
		default:
		}
		<-stuck
	}}
	d := newDesk(t, newLog(out, 64<<10, about()))
	r := rand.New(rand.NewPCG(7, 7))
	for range 3000 { // returns although nothing is ever written
		d.job(r)
	}
	<-entered
	if lost, _ := d.log.Lost(); lost == 0 {
		t.Error("nothing was lost while the disk was stuck")
	}
	close(stuck)
	for len(d.log.free) < 2 {
		d.log.free <- <-d.log.free
	}
	d.now += pause
	for range 100 {
		d.job(r)
	}
	d.shut()
	lossy(t, out.Bytes(), d, 3100)
}

func TestAFullDiskIsACountedLoss(t *testing.T) {
	out := &memory{full: true}
	d := newDesk(t, newLog(out, 64<<10, about()))
	r := rand.New(rand.NewPCG(8, 8))
	for range 1000 {
		d.job(r)
	}
	for len(d.log.full) > 0 || len(d.log.free) < buffers-1 { // until the writer has tried
	}
	if _, err := d.log.Lost(); !errors.Is(err, errFull) {
		t.Errorf("got %v, want %v", err, errFull)
	}
	out.full = false
	d.now += pause
	for range 500 {
		d.job(r)
	}
	d.shut()
	lossy(t, out.Bytes(), d, 1500)
	if _, err := d.log.Lost(); err != nil {
		t.Errorf("with room again: got %v", err)
	}
}

func TestAFolderThatCannotBeWrittenIsACountedLoss(t *testing.T) {
	d := newDesk(t, To(filepath.Join(t.TempDir(), "none", "decisions.log"), 1<<20, about()))
	r := rand.New(rand.NewPCG(9, 9))
	for range 500 {
		d.job(r)
	}
	d.shut()
	if lost, err := d.log.Lost(); lost == 0 || !errors.Is(err, os.ErrNotExist) || !strings.HasPrefix(err.Error(),
		"decision log: ") {
		t.Errorf("got %d calls lost, %v", lost, err)
	}
}

func TestTwoFilesOfABoundedSizeHoldTheNewestDecisions(t *testing.T) {
	const limit = 1 << 20
	path := filepath.Join(t.TempDir(), "decisions.log")
	d := newDesk(t, To(path, limit, about()))
	r := rand.New(rand.NewPCG(10, 10))
	for range 15_000 {
		d.job(r)
		for len(d.log.free) == 0 {
			d.log.free <- <-d.log.free
		}
	}
	d.shut()
	size, last := int64(0), Entry{}
	for _, name := range []string{path + ".1", path} {
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		if size += info.Size(); info.Mode().Perm() != 0o600 || info.Size() > limit/2 || info.Size() < limit/8 {
			t.Errorf("%s: %v, %d bytes", name, info.Mode(), info.Size())
		}
		if err := repeatFile(name, func(e *Entry) { last = *e }); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if age := about().Epoch.Add(d.now).Sub(last.At); age > 1000*ms {
		t.Errorf("the newest decision is %v old", age)
	}
}

func repeatFile(name string, report func(*Entry)) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = Replay(f, report)
	return err
}

func TestALogGoesOnAfterAPowerCut(t *testing.T) {
	path := filepath.Join(t.TempDir(), "decisions.log")
	first := written(t, 11, 200)
	for _, cut := range []int{0, 1, 30, 5000} {
		if err := os.WriteFile(path, first[:len(first)-cut], 0o600); err != nil {
			t.Fatal(err)
		}
		d := newDesk(t, To(path, 1<<20, about()))
		d.Decide(ms, governor.Queue{Deadline: 40 * ms})
		d.shut()
		decisions := 0
		if err := repeatFile(path, func(*Entry) { decisions++ }); err != nil || decisions < 100 {
			t.Errorf("without %d bytes: got %d decisions, %v", cut, decisions, err)
		}
	}
}

func TestADeviceThatFallsSilentLeavesNothingInTheBuffer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := new(memory)
		d := newDesk(t, newLog(out, 1<<20, about()))
		decided := func() int {
			got, err := Replay(bytes.NewReader(out.Bytes()), ignore)
			if err != nil {
				t.Error(err)
			}
			return got.Decisions
		}
		for jobs := 1; jobs <= 3; jobs++ {
			asked := time.Now()
			round(d.Book, d.now, nil)
			<-d.Due()
			d.Flush()
			synctest.Wait()
			if waited := time.Since(asked); decided() != jobs || waited != chunkAge {
				t.Errorf("job %d: got %d decisions written after %v, want all after %v", jobs, decided(), waited, chunkAge)
			}
			d.now += 10 * time.Second
		}
		d.Flush() // nothing is left to hand over
		d.shut()
		if d.Due() != nil || decided() != 3 {
			t.Errorf("closed: got %v and %d decisions, want nothing due and 3", d.Due(), decided())
		}
	})
}

func TestADueBufferWaitsForAWriterThatIsBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := newLog(new(memory), 1<<20, about())
		b := New(mustGovernor(t), log)
		var taken [][]byte
		for len(log.free) > 0 {
			taken = append(taken, <-log.free)
		}
		round(b, 0, nil)
		<-b.Due()
		b.Flush()
		if lost, _ := log.Lost(); lost != 0 || len(log.full) != 0 {
			t.Errorf("no buffer free: got %d calls lost and %d chunks handed over, want none", lost, len(log.full))
		}
		log.free <- taken[0]
		<-b.Due()
		b.Flush()
		if len(log.full) != 1 {
			t.Errorf("got %d chunks handed over, want 1", len(log.full))
		}
	})
}
