package workshop

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/limber-edge/limber/family/familytest"
	"github.com/limber-edge/limber/family/ort/orttest"
)

func TestProfileMeasuresEveryMemberInEveryWay(t *testing.T) {
	shop, h := mustShop(t)
	f := familytest.Stock(t)
	lines, err := shop.Profile(t.Context(), f, Ways{Providers: []string{"tensorrt", "cpu"}, Threads: []int{1, 2},
		Batches: []int{1, 3}, Rounds: 3})
	if err != nil {
		t.Fatal(err)
	}
	seen := map[[2]int]int{}
	for _, l := range lines {
		if l.Provider != "cpu" || l.Runs != 3 || !(l.P50 > 0 && l.P95 >= l.P50 && l.PerSecond > 0) || f.Index(l.Member) < 0 {
			t.Errorf("got %+v", l)
		}
		seen[[2]int{l.Threads, l.Batch}]++
	}
	if len(seen) != 4 || seen[[2]int{2, 3}] != len(f.Members) {
		t.Errorf("got lines for %v, want all members for each of four ways", seen)
	}
	wantSaid(t, strings.Join(h.notes, "\n"), "left out: ", "tensorrt")
	_, err = shop.Profile(t.Context(), f, Ways{Providers: []string{"tensorrt"}, Threads: []int{1}, Batches: []int{1},
		Rounds: 1})
	wantError(t, err, "none of the execution providers tensorrt is usable")
}

func TestAForeignModelIsProfiledOneImageAtATime(t *testing.T) {
	shop, _ := mustShop(t)
	f, dir := familytest.Stock(t), t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	familytest.Write(t, in("d.json"), f.Describe)
	familytest.Write(t, in("m.onnx"), familytest.Model(t, "Identity"))
	if _, err := shop.Import(t.Context(), "theirs", in("d.json"), []Model{{"m", in("m.onnx"), 0.5}},
		in("f.family")); err != nil {
		t.Fatal(err)
	}
	theirs := mustOpen(t, in("f.family"))
	_, err := shop.Profile(t.Context(), theirs, Ways{Providers: []string{"cpu"}, Threads: []int{1}, Batches: []int{2},
		Rounds: 1})
	wantError(t, err, "member m on cpu", "a foreign model takes one image at a time")
	lines, err := shop.Profile(t.Context(), theirs, Ways{Providers: []string{"cpu"}, Threads: []int{1},
		Batches: []int{1}, Rounds: 1})
	if err != nil || len(lines) != 1 {
		t.Errorf("got %+v, %v; want one line", lines, err)
	}
}

func TestATableGoesOnOnlyOnTheDeviceItWasBegunOn(t *testing.T) {
	shop, h := mustShop(t)
	o := TableOrder{Supernet: filepath.Join(familytest.Fixtures(t), "cifar", "supernet.pth"), Resolutions: []int{32},
		Threads: 1, Rounds: 2, Out: filepath.Join(t.TempDir(), "table")}
	rt := orttest.Open(t)
	if err := o.claim(rt); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(o.Out, "32_lookup_table.json")
	familytest.Write(t, file, []byte("measured"))
	if err := o.claim(rt); err != nil {
		t.Errorf("the same device: %v", err)
	}
	if err := shop.measureTable(t.Context(), nil, o, nil); err != nil {
		t.Fatal(err)
	}
	wantSaid(t, strings.Join(h.notes, "\n"), file+": kept")
	if after := familytest.Read(t, file); string(after) != "measured" {
		t.Error("the table changed")
	}
	o.Threads = 2
	wantError(t, o.claim(rt), "another supernet, device or number of threads")
}
