package bench

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent/bench/camera"
	"github.com/limber-edge/limber/agent/bench/desk"
	"github.com/limber-edge/limber/agent/bench/figure"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/family"
)

// still is a session that gives the same answer at once.
type still struct{}

func (still) Run(out []float32, _ ...[]float32) error {
	clear(out)
	return nil
}

func (still) Interrupt()   {}
func (still) Close() error { return nil }

func e2eFigures() [][3]string {
	return [][3]string{
		{"request tiny", "ms", figure.Lower}, {"request vga", "ms", figure.Lower}, {"request hd", "ms", figure.Lower},
		{"jpeg hd", "ms", figure.Lower}, {"decode_allocs hd", "1", figure.Lower},
		{"throughput vga", "1/s", figure.Higher}, {"throughput hd", "1/s", figure.Higher},
	}
}

// The frames are small, as a decoder under the race detector is slow, and the device
// is a fake: with a real one, TestE2EMeasuresARealAgent.
func TestE2EPrintsWhatTheContractSays(t *testing.T) {
	var out bytes.Buffer
	b := e2eBench{Bench: testBench(t, &out), rounds: 1, slot: 50 * time.Millisecond, spell: time.Millisecond,
		least: 2 * turns, sizes: [2]camera.Size{{Name: "vga", Width: 64, Side: 48}, {Name: "hd", Width: 128, Side: 96}},
		member: &family.Member{Name: "large"}, session: still{}, logits: make([]float32, 10)}
	all, err := subjects(b.sizes)
	if err != nil {
		t.Fatal(err)
	}
	if b.eye, err = newEye(family.Preprocess{Std: [3]float32{1, 1, 1}, Resize: "bilinear", Crop: "none", Antialias: true},
		32); err != nil {
		t.Fatal(err)
	}
	large := func(string) wire.Result { return wire.Result{Status: wire.OK, Member: "large"} }
	mustAnswer(t, mustSite(t), large, func(ctx context.Context, c *desk.Client) error {
		b.client = c
		return b.figures(ctx, all)
	})
	mustAgree(t, mustFigures(t, out.String()), "e2e", e2eFigures())
}

func TestARefusedOrForeignAnswerIsNoMeasurement(t *testing.T) {
	b := e2eBench{member: &family.Member{Name: "large"}}
	for _, tt := range []struct {
		name   string
		result wire.Result
		says   string // empty: no error
	}{
		{"by the member", wire.Result{Status: wire.OK, Member: "large"}, ""},
		{"by another", wire.Result{Status: wire.OK, Member: "small"}, "member small answered instead of large"},
		{"refused", wire.Result{Status: wire.Refused, Reason: wire.Busy, Detail: "too late"},
			"a frame was refused, busy: too late"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := b.answered(&tt.result); (err == nil) != (tt.says == "") ||
				err != nil && !strings.Contains(err.Error(), tt.says) {
				t.Errorf("got %v, want %q", err, tt.says)
			}
		})
	}
}

func TestTheSlowerStageLimitsThroughput(t *testing.T) {
	s := stages{decode: []float64{3, 1, 2}, run: []float64{9, 5, 1}, echo: []float64{0.5}}
	if got, want := s.String(), "decoding 2 ms, inference 5 ms, echo 0.5 ms"; got != want || s.slower() != 5 {
		t.Errorf("got %q, slower %v; want %q, 5", got, s.slower(), want)
	}
}
