package resident_test

import (
	"path/filepath"
	"testing"

	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/family/ort/orttest"
	"github.com/limber-edge/limber/family/resident"
)

// mustAlone makes the session of a family of one member of another one.
func mustAlone(t *testing.T, c *resident.Cache, of *family.Folder, member int) {
	t.Helper()
	one := of.Family
	one.Members = one.Members[member : member+1]
	shelf, err := c.Open(&one, of)
	if err != nil {
		t.Fatal(err)
	}
	s, err := shelf(family.Variant{Provider: family.CPU, Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	mustSession(t, s, 0)
}

func TestTheFilesOfTheFamiliesThatCameLastStay(t *testing.T) {
	rt, f, dir := orttest.Open(t), mustStock(t), t.TempDir()
	c := resident.NewCache(rt, dir, nil)
	folder := map[string]int{} // which member it is of
	for _, tt := range []struct {
		member int
		left   []int // members with files
	}{{0, []int{0}}, {1, []int{0, 1}}, {2, []int{0, 1, 2}}, {0, []int{0, 1, 2}}, {3, []int{0, 2, 3}}} {
		mustAlone(t, c, f, tt.member)
		var left int
		for _, name := range mustNames(t, filepath.Join(dir, "cache")) {
			if _, known := folder[name]; !known {
				folder[name] = tt.member
			}
			left |= 1 << folder[name]
		}
		var want int
		for _, member := range tt.left {
			want |= 1 << member
		}
		if left != want {
			t.Errorf("after member %d: got files of %05b, want %05b", tt.member, left, want)
		}
	}
	mustAlone(t, resident.NewCache(rt, dir, nil), f, 3)
	if got := mustNames(t, filepath.Join(dir, "cache")); len(got) != 1 {
		t.Errorf("at the next start: got %v, want the files of its family alone", got)
	}
}
