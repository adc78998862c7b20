package main

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/family/ort/orttest"
)

// The frames are small, as a decoder under the race detector is slow.
func TestBenchE2EPrintsWhatTheContractSays(t *testing.T) {
	t.Setenv("ONNXRUNTIME_LIB", orttest.Path(t))
	var out bytes.Buffer
	b := e2eBench{printer: printer{w: &out, asJSON: true}, progress: newProgress(io.Discard), stderr: t.Output(), dir: t.TempDir(),
		rounds: 1, slot: 100 * time.Millisecond, spell: time.Millisecond, least: 2 * turns,
		sizes: [2]cameraSize{{"vga", 64, 48}, {"hd", 128, 96}}}
	if err := b.run(t.Context()); err != nil {
		t.Fatal(err)
	}
	got := mustFigures(t, out.String())
	mustAgree(t, got, "e2e", [][3]string{
		{"request tiny", "ms", lower}, {"request vga", "ms", lower}, {"request hd", "ms", lower},
		{"jpeg hd", "ms", lower}, {"decode_allocs hd", "1", lower},
		{"throughput vga", "1/s", higher}, {"throughput hd", "1/s", higher},
	})
	for _, f := range got {
		if !(f.Ours >= 0 && f.Ratio >= 0) {
			t.Errorf("got %+v, want a measurement", f)
		}
	}
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
		{"refused", wire.Result{Status: wire.Refused, Reason: wire.Busy, Detail: "too late"}, "a frame was refused, busy: too late"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := b.answered(&tt.result); (err == nil) != (tt.says == "") || err != nil && !strings.Contains(err.Error(), tt.says) {
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
