package resident_test

import (
	"bytes"
	"slices"
	"testing"

	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/family/ort"
	"github.com/limber-edge/limber/family/ort/orttest"
	"github.com/limber-edge/limber/family/resident"
)

// Parts that are sound by themselves make no member when they are of different
// ones. No digest tells, since the manifest names the wrong part; the sizes do,
// or the canary.
func TestM6_PartsOfDifferentMembersAreNotHandedOut(t *testing.T) {
	rt, f, cache := orttest.Open(t), mustStock(t), t.TempDir()
	// members; the second takes images of the same size as member 1, the one that is mixed
	const otherSide, sameSide = 0, 2
	for _, tt := range []struct {
		name  string
		other int
		mix   func(f *family.Family, m *family.Member, other family.Member)
		says  string
	}{
		{"architecture", sameSide, func(_ *family.Family, m *family.Member, other family.Member) { m.Arch = other.Arch },
			"BN statistics"},
		{"statistics", sameSide, func(_ *family.Family, m *family.Member, other family.Member) { m.Stats = other.Stats },
			"BN statistics"},
		{"architecture of the same widths", sameSide, func(_ *family.Family, m *family.Member,
			other family.Member) {
			m.Arch.KS = other.Arch.KS
		}, "standard deviations"},
		{"canary", sameSide, func(_ *family.Family, m *family.Member, other family.Member) { m.Canary = other.Canary },
			"standard deviations"},
		{"canary of another size", otherSide, func(_ *family.Family, m *family.Member,
			other family.Member) {
			m.Canary = other.Canary
		}, "are not an input of"},
		{"network", sameSide, func(_ *family.Family, m *family.Member, other family.Member) {
			m.Arch, m.Stats = other.Arch, other.Stats
		}, "standard deviations"},
		{"description", sameSide, func(f *family.Family, _ *family.Member, _ family.Member) {
			f.Describe = bytes.Replace(f.Describe, []byte("h_swish"), []byte("relu"), 1)
		}, "standard deviations"},
		{"number of labels", sameSide, func(f *family.Family, _ *family.Member,
			_ family.Member) {
			f.Classes = f.Classes[:9]
		}, "are not an input of"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			mixed := f.Family
			mixed.Members = slices.Clone(f.Members[1:])
			tt.mix(&mixed, &mixed.Members[0], f.Members[tt.other])
			refused(t, resident.New(rt, &mixed, f, cache, ort.DefaultOptions(), nil), f.Members[1].Name, tt.says)
		})
	}
}
