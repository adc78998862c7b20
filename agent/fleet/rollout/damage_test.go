package rollout_test

import (
	"encoding/json"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent/fleet/rollout"
	"github.com/limber-edge/limber/agent/wire"
)

func TestADamagedRecordIsRefusedOrGoesOn(t *testing.T) {
	g := newRig(t, 4)
	g.begin(wire.RolloutSpec{Phases: []string{"1", "100%"}, Rollback: true, Follow: true})
	whole := []string{mustJSON(t, g.r)}
	g.pass()
	whole = append(whole, mustJSON(t, g.r))
	g.succeed(g.order()[1])
	g.fail(g.order()[2], wire.Internal)
	whole = append(whole, mustJSON(t, g.r))
	read := 0
	for seed := range uint64(1000) {
		d := damager{rand.New(rand.NewPCG(seed, 0))}
		var tree any
		if err := json.Unmarshal([]byte(whole[seed%3]), &tree); err != nil {
			t.Fatal(err)
		}
		for range 1 + d.rand.IntN(3) {
			tree = d.damage(tree)
		}
		b, err := json.Marshal(tree)
		if err != nil {
			t.Fatal(err)
		}
		r := new(rollout.Record)
		if json.Unmarshal(b, r) == nil {
			read++
			goOn(t, r)
		}
	}
	if read < 100 {
		t.Errorf("%d of 1000 were read: the test damages too much", read)
	}
}

// goOn has a record meet all that may happen to it.
func goOn(t *testing.T, r *rollout.Record) {
	t.Helper()
	g := newRig(t, 4)
	g.r = r
	g.step()
	mustDocuments(t, g.r)
	for _, c := range g.r.Commands() {
		g.r.Families(c.Device)
		g.r.Ack(c.Device, wire.Ack{ID: c.ID, Verb: c.Verb, State: wire.CommandSucceeded}, g.now)
	}
	g.step()
	_ = g.do(wire.RolloutCommand{Action: wire.RolloutAbort, Rollback: true})
	_ = g.do(wire.RolloutCommand{Action: wire.RolloutRetry})
	g.after(time.Minute)
	mustDocuments(t, g.r)
}

// damager changes one value of a JSON document at random.
type damager struct{ rand *rand.Rand }

func (d damager) damage(v any) any {
	switch v := v.(type) {
	case map[string]any:
		return d.damageObject(v)
	case []any:
		if len(v) > 0 && d.rand.IntN(8) > 0 {
			i := d.rand.IntN(len(v))
			v[i] = d.damage(v[i])
			return v
		}
		return v[:len(v)/2]
	case float64:
		return []any{0, -1, v + 1, 1 << 40, "1"}[d.rand.IntN(5)]
	case string:
		return []any{"", "x", v + ".1", 7}[d.rand.IntN(4)]
	}
	return nil
}

func (d damager) damageObject(v map[string]any) any {
	keys := slices.Sorted(maps.Keys(v))
	if len(keys) == 0 {
		return nil
	}
	key := keys[d.rand.IntN(len(keys))]
	if d.rand.IntN(8) == 0 {
		delete(v, key)
	} else {
		v[key] = d.damage(v[key])
	}
	return v
}
