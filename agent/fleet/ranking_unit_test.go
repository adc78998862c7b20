package fleet

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/limber-edge/limber/agent/wire"
)

// TestARankingIsWhatSortingAllWouldGive tells a registry much about few, and compares what
// is kept by what changes with what is worked out anew.
func TestARankingIsWhatSortingAllWouldGive(t *testing.T) {
	t.Parallel()
	c := newClient()
	where := mustWhere(t, "label.site=berlin")
	k := c.Registry().Ranking(where)
	defer k.Close()
	chance := rand.New(rand.NewPCG(1, 2))
	topics := []func(wire.Address) (string, []string){
		func(a wire.Address) (string, []string) {
			return a.State(), []string{"", `{"state":"online"}`, `{"state":"offline"}`, `{"state":"lost"}`, `{"state":"online","detail":"x"}`}
		},
		func(a wire.Address) (string, []string) {
			return a.Caps(), []string{"", `{"members":[]}`, `{"update":{"step":"locked"}}`}
		},
		func(a wire.Address) (string, []string) {
			return a.Labels(), []string{"", `{"labels":{"site":"berlin"}}`, `{"labels":{"site":"berlin","a":"b"}}`, `{"labels":{"site":"rome"}}`}
		},
		func(a wire.Address) (string, []string) { return a.Telemetry(), []string{`{"jobs":1}`, `{"jobs":2}`} },
	}
	changes := map[string]uint64{}
	for n := range 4000 {
		topic, payloads := topics[chance.IntN(len(topics))](yard(fmt.Sprintf("cam-%d", chance.IntN(12))))
		receive(c, topic, payloads[chance.IntN(len(payloads))])
		if chance.IntN(3) > 0 {
			continue
		}
		k.Update()
		var want []Device
		counts := map[Look]int{}
		all := c.Registry().Devices()
		for _, d := range all {
			if where.Fits(d) {
				want = append(want, d)
				counts[d.Look()]++
			}
		}
		slices.SortStableFunc(want, func(a, b Device) int { return cmp.Compare(a.Look().rank(), b.Look().rank()) })
		got := k.Devices()
		if k.All() != len(all) || len(got) != len(want) {
			t.Fatalf("after %d: got %d of %d, want %d of %d", n, len(got), k.All(), len(want), len(all))
		}
		for i, d := range got {
			if d.Name != want[i].Name || d.State != want[i].State || d.Telemetry != want[i].Telemetry || d.Change == 0 {
				t.Fatalf("after %d: got %s at %d, want %s", n, d.Name, i, want[i].Name)
			}
			changes[d.Name] = max(changes[d.Name], d.Change)
		}
		for _, l := range Looks() {
			if k.Count(l) != counts[l] {
				t.Fatalf("after %d: got %d that are %s, want %d", n, k.Count(l), l, counts[l])
			}
		}
	}
	if len(changes) != 12 || changes["cam-0"] < 2 {
		t.Errorf("changes were counted to %v", changes)
	}
}

func TestADeviceThatComesBackIntoARankingHasChanged(t *testing.T) {
	t.Parallel()
	k := newClient().Registry().Ranking(Where{})
	defer k.Close()
	is := Device{Name: "cam-1", State: &wire.State{State: wire.Online}}
	k.put(is)
	before := k.Devices()[0].Change
	k.put(Device{Name: "cam-1"})
	k.put(is)
	if now := k.Devices()[0].Change; now <= before {
		t.Errorf("the change is %d after %d", now, before)
	}
}
