package engine

import (
	"bytes"
	"image"
	"image/jpeg"
	"image/png"
	"sync/atomic"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent/frame"
	"github.com/limber-edge/limber/agent/pipeline"
	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/family/familytest"
	"github.com/limber-edge/limber/family/stock"
)

// photos are JPEGs of the test images that come with the stock family.
func photos(tb testing.TB, n int) (all [][]byte) {
	tb.Helper()
	sheet, err := stock.Sheet(frame.OpenSheet)
	if err != nil {
		tb.Fatal(err)
	}
	for i := range n {
		b, err := sheet.PNG(i)
		var m image.Image
		if err == nil {
			m, err = png.Decode(bytes.NewReader(b))
		}
		var photo bytes.Buffer
		if err == nil {
			err = jpeg.Encode(&photo, m, &jpeg.Options{Quality: 90})
		}
		if err != nil {
			tb.Fatal(err)
		}
		all = append(all, photo.Bytes())
	}
	return all
}

// labels are those of the first class of each frame as a member sees it, by nothing of the
// engine's and the pipeline's.
func labels(tb testing.TB, s Source, member int, frames [][]byte) (all []string) {
	tb.Helper()
	loader, err := s.Open(single)
	if err != nil {
		tb.Fatal(err)
	}
	session, err := loader.Session(member)
	if err != nil {
		tb.Fatal(err)
	}
	defer session.Close()
	scaler, err := frame.NewScaler(s.Preprocess)
	if err != nil {
		tb.Fatal(err)
	}
	r, d := s.Family.Members[member].Arch.R, frame.Decoder{MaxPixels: frame.DefaultPixels}
	tensor, logits := make([]float32, 3*r*r), make([]float32, len(s.Family.Classes))
	for _, body := range frames {
		var picture frame.Picture
		h, err := d.Inspect(body, frame.Claim{})
		if err == nil {
			err = d.Decode(&picture, body, h, 1)
		}
		if err == nil {
			scaler.Tensor(tensor, &picture, r)
			err = session.Run(logits, tensor)
		}
		if err != nil {
			tb.Fatal(err)
		}
		first := 0
		for i, l := range logits {
			if l > logits[first] {
				first = i
			}
		}
		all = append(all, s.Family.Classes[first])
	}
	return all
}

// alone is a family of one member of another.
func alone(f *family.Family, name string, member int) *family.Family {
	one := *f
	one.Name, one.Members = name, f.Members[member:member+1]
	return &one
}

func TestTheAgreementOfRealFramesIsThatOfTheAnswersOfBothFamilies(t *testing.T) {
	const incumbent, candidate = 0, 1
	r := mustRealRig(t)
	defer r.end()
	carried := familytest.Stock(t)
	next := r.source(alone(&carried.Family, "next", candidate), carried)
	for s := r.Status(); s.Loading; s = r.Status() {
		<-time.After(ms)
	}
	if err := r.SetMode(t.Context(), mode(t, "fixed:"+carried.Members[incumbent].Name)); err != nil {
		t.Fatal(err)
	}
	frames := photos(t, comparedFrames)
	type result struct {
		so  Compared
		err error
	}
	ended, compared := make(chan result, 1), new(atomic.Int64)
	go func() {
		so, err := r.Shadow(t.Context(), next, Comparison{Percent: 100, Frames: len(frames)}, func(so Compared) {
			compared.Store(int64(so.Frames))
		})
		ended <- result{so, err}
	}()
	for i, body := range frames {
		for s := r.shadow.Load(); compared.Load() < int64(i) || s == nil || !s.wanted.Load(); s = r.shadow.Load() {
			<-time.After(ms / 10)
		}
		got := r.ask(pipeline.Job{Body: body, Received: time.Now(), Deadline: time.Minute})
		if got.member != carried.Members[incumbent].Name {
			t.Fatalf("frame %d: got %+v by %s", i, got.Answer, got.member)
		}
	}
	got := <-ended
	want := 0
	before, after := labels(t, r.deps.Source, incumbent, frames), labels(t, next, 0, frames)
	for i := range frames {
		if before[i] == after[i] {
			want++
		}
	}
	if got.err != nil || got.so.Frames != len(frames) || got.so.Agreed != want || want < len(frames)*4/5 ||
		want == len(frames) {
		t.Errorf("got %+v, %v; both families agree on %d of %d frames", got.so, got.err, want, len(frames))
	}
	if s := r.Snapshot(); s.Jobs != uint64(len(frames)) {
		t.Errorf("counted %+v", s.Counts)
	}
	t.Logf("%d of %d frames agree, p95 %v", want, len(frames), got.so.P95)
}
