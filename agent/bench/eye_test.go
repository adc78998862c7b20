package bench

import (
	"math"
	"testing"

	"github.com/limber-edge/limber/agent/bench/camera"
	"github.com/limber-edge/limber/family"
)

// A camera's frame, seen by the eye of the benchmark, is nearly the test image.
func TestTheEyeSeesTheTestImageInACamerasFrame(t *testing.T) {
	pngs, _, err := camera.Images(1)
	if err != nil {
		t.Fatal(err)
	}
	frames, err := camera.Frames(pngs, camera.Size{Name: "small", Width: 160, Side: 120})
	if err != nil {
		t.Fatal(err)
	}
	plain, err := newEye(family.Preprocess{Std: [3]float32{1, 1, 1}, Resize: "bilinear", Crop: "none", Antialias: true},
		32)
	if err != nil {
		t.Fatal(err)
	}
	if err := plain.look(pngs[0]); err != nil {
		t.Fatal(err)
	}
	want := append([]float32(nil), plain.tensor...)
	if err := plain.look(frames[0]); err != nil {
		t.Fatal(err)
	}
	sum := 0.0
	for i := range want {
		sum += math.Abs(float64(plain.tensor[i] - want[i]))
	}
	if mean := sum / float64(len(want)); mean > 0.05 {
		t.Errorf("got a mean difference of %.3f of the full range, want at most 0.05", mean)
	}
}

func TestAllocationsAreCountedByTheCall(t *testing.T) {
	var kept [][]byte
	got, err := allocations(50, func() error {
		kept = [][]byte{make([]byte, 100), make([]byte, 100)} // three with the slice itself
		return nil
	})
	if err != nil || got < 3 || got > 4 || len(kept) != 2 {
		t.Errorf("got %v, %v; want 3, or little more where others allocate", got, err)
	}
}
