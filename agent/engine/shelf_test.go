package engine

import (
	"bytes"
	"image"
	"image/png"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent/governor"
	"github.com/limber-edge/limber/agent/pipeline"
	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/family/ort"
	"github.com/limber-edge/limber/family/ort/orttest"
	"github.com/limber-edge/limber/family/resident"
	"github.com/limber-edge/limber/family/stock"
)

func TestTheStockFamilyAnswersAFrame(t *testing.T) {
	carried, err := stock.Family()
	if err != nil {
		t.Fatal(err)
	}
	pre, err := carried.Preprocessing()
	if err != nil {
		t.Fatal(err)
	}
	rt := orttest.Open(t)
	shelf := resident.New(rt, &carried.Family, carried, t.TempDir(), ort.DefaultOptions(), nil)
	r := mustRig(t, mustStore(t))
	r.loaders = nil
	r.deps.Preprocess, r.cfg.QueueBytes = pre, 8<<20
	r.deps.Family, r.deps.Runtime, r.deps.Tables = &carried.Family, rt.Version(), new(governor.Tables)
	r.deps.Open = func(family.Variant) (Loader, error) { return shelf, nil }
	r.start()
	defer r.end()
	<-r.Ready()
	var picture bytes.Buffer
	if err := png.Encode(&picture, image.NewGray(image.Rect(0, 0, 32, 32))); err != nil {
		t.Fatal(err)
	}
	got := r.ask(pipeline.Job{Body: picture.Bytes(), Received: time.Now(), Deadline: time.Minute})
	if got.Reason != "" || len(got.Top) != 5 || got.member == "" {
		t.Errorf("got %+v, want an answer", got)
	}
	if _, err := r.Feasible(t.Context(), governor.Mode{}); err != nil || r.Status().State == Unavailable {
		t.Errorf("got %+v, %v", r.Status(), err)
	}
	if p, err := StoredProfile(&r.deps, shelf); p == nil || err != nil {
		t.Errorf("stored profile: %v, %v", p, err)
	}
}
