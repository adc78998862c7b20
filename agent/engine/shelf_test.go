package engine

import (
	"bytes"
	"errors"
	"image"
	"image/png"
	"maps"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent/governor"
	"github.com/limber-edge/limber/agent/pipeline"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/family/familytest"
	"github.com/limber-edge/limber/family/ort"
	"github.com/limber-edge/limber/family/ort/orttest"
	"github.com/limber-edge/limber/family/resident"
)

func TestMain(m *testing.M) { familytest.Main(m) }

// realRig is an engine with real members: the stock family's at first.
type realRig struct {
	*rig
	rt    *ort.Runtime
	cache *resident.Cache
	frame []byte // a picture
}

func mustRealRig(t *testing.T) *realRig {
	t.Helper()
	r := &realRig{rig: mustRig(t, mustStore(t)), rt: orttest.Open(t)}
	r.cache = resident.NewCache(r.rt, t.TempDir(), familytest.Trial(t))
	carried := familytest.Stock(t)
	r.loaders = nil
	r.cfg.QueueBytes = 8 << 20
	r.deps.Source = r.source(&carried.Family, carried)
	r.deps.Runtime, r.deps.Tables = r.rt.Version(), new(governor.Tables)
	var picture bytes.Buffer
	if err := png.Encode(&picture, image.NewGray(image.Rect(0, 0, 32, 32))); err != nil {
		t.Fatal(err)
	}
	r.frame = picture.Bytes()
	r.start()
	<-r.Ready()
	return r
}

// source makes members of a family as a device does.
func (r *realRig) source(f *family.Family, blobs family.Blobs) Source {
	r.Helper()
	pre, err := f.Preprocessing()
	if err != nil {
		r.Fatal(err)
	}
	shelf, err := r.cache.Open(f, blobs)
	if err != nil {
		r.Fatal(err)
	}
	return Source{Family: f, Preprocess: pre, Open: func(v family.Variant) (Loader, error) { return shelf(v) }}
}

func (r *realRig) job() pipeline.Job {
	return pipeline.Job{Body: r.frame, Received: time.Now(), Deadline: time.Minute}
}

func TestTheStockFamilyAnswersAFrame(t *testing.T) {
	r := mustRealRig(t)
	defer r.end()
	got := r.ask(r.job())
	if got.Reason != "" || len(got.Top) != 5 || got.member == "" {
		t.Errorf("got %+v, want an answer", got)
	}
	if _, err := r.Feasible(t.Context(), governor.Mode{}); err != nil || r.Status().State == Unavailable {
		t.Errorf("got %+v, %v", r.Status(), err)
	}
	shelf, err := r.deps.Open(single)
	if err != nil {
		t.Fatal(err)
	}
	if p, err := StoredProfile(&r.deps, shelf); p == nil || err != nil {
		t.Errorf("stored profile: %v, %v", p, err)
	}
}

// traffic submits frames until it is stopped: each some milliseconds after the one
// before, whatever becomes of that.
type traffic struct {
	*realRig
	stop     chan struct{}
	senders  sync.WaitGroup
	sent     atomic.Int64
	mu       sync.Mutex
	families map[int64]string // that answered, by the number of the frame
}

func (r *realRig) traffic(every time.Duration) *traffic {
	w := &traffic{realRig: r, stop: make(chan struct{}), families: map[int64]string{}}
	w.senders.Go(func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-w.stop:
				return
			case <-tick.C:
				n := w.sent.Add(1)
				r.Submit(r.job(), func(a *Answer) { w.answer(n, a) })
			}
		}
	})
	return w
}

func (w *traffic) answer(n int64, a *Answer) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if a.Reason != "" || a.Family.Index(a.Member.Name) < 0 {
		w.Errorf("got %s %s by %v", a.Reason, a.Detail, a.Member)
	}
	w.families[n] = a.Family.Name
}

// end stops it, and returns who answered, in the order in which the frames were submitted:
// the last ones of a family may be answered while the next one is at it already.
func (w *traffic) end() []string {
	w.Helper()
	close(w.stop)
	w.senders.Wait()
	w.Drain(w.Context())
	if s := w.Snapshot(); s.Jobs != uint64(w.sent.Load()) || s.Total.Count() != s.Jobs {
		w.Errorf("%d jobs, counted %+v with %d answers", w.sent.Load(), s.Counts, s.Total.Count())
	}
	var families []string
	for _, n := range slices.Sorted(maps.Keys(w.families)) {
		families = append(families, w.families[n])
	}
	return slices.Compact(families)
}

func TestRealFamiliesTakeOverUnderLoad(t *testing.T) {
	r := mustRealRig(t)
	defer r.end()
	other, blobs := familytest.Recut(t, r.rt, "recut", 0, 2, 4)
	w := r.traffic(4 * ms)
	r.mustReplace(r.source(other, blobs))
	if r.wants(Ready, ""); len(r.Status().Members) == 0 || r.Status().Profile.Family != other.Digest() {
		t.Errorf("got %+v", r.Status())
	}
	for r.Tally().Answered < 50 {
		<-time.After(ms)
	}
	if got := r.Tally(); got.Family != other || got.Refused != 0 || got.P95 == 0 {
		t.Errorf("got %+v", got)
	}
	r.mustReplace(r.deps.Source)
	if got, want := w.end(), []string{"cifar10", "recut", "cifar10"}; !slices.Equal(got, want) &&
		!slices.Equal(got, want[:2]) {
		t.Errorf("got answers by %v, want %v", got, want)
	}
}

func TestARealFamilyWhoseCanaryIsWrongIsRefused(t *testing.T) {
	r := mustRealRig(t)
	defer r.end()
	other, blobs := familytest.Recut(t, r.rt, "recut", 0)
	numbers, err := family.Floats(blobs[other.Members[0].Canary])
	if err != nil {
		t.Fatal(err)
	}
	numbers[len(numbers)-1] += 1
	other.Members[0].Canary = blobs.Add(family.FloatBytes(numbers))
	w := r.traffic(10 * ms)
	err = r.Replace(t.Context(), r.source(other, blobs))
	if refusal, _ := errors.AsType[*wire.Refusal](err); refusal == nil || refusal.Reason != wire.Unsupported ||
		!errorSays(err, "standard deviations from the stored one") {
		t.Errorf("got %v", err)
	}
	if got := w.end(); len(got) != 1 || r.Status().Family != r.deps.Family {
		t.Errorf("got answers by %v", got)
	}
}

func TestForeignModelsPassATrialBeforeTheyTakeOver(t *testing.T) {
	r := mustRealRig(t)
	defer r.end()
	image, logits := make([]float32, 3*24*24), make([]float32, 10)
	for i := range image {
		image[i] = float32(i / (24 * 24)) // the mean of each channel
	}
	for i := range 30 {
		logits[i%10] += float32(i/10) * float32(i%7-3)
	}
	theirs := func(models ...[]byte) Source {
		path := filepath.Join(t.TempDir(), "theirs.family")
		familytest.Foreign(t, path, resident.Canary(image, logits), models...)
		b := familytest.Read(t, path)
		f, err := family.OpenPack(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			t.Fatal(err)
		}
		return r.source(&f.Family, f)
	}
	r.refused(theirs(familytest.Bomb(t)), wire.Unsupported, "MiB of memory")
	r.mustReplace(theirs(familytest.Model(t, "Identity"), familytest.Bomb(t)))
	if got := r.ask(r.job()); got.member != "a" {
		t.Errorf("got %+v", got)
	}
	r.wants(Degraded, "a member cannot be used: member b: trial")
}
