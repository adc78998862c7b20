package bench

import (
	"bytes"
	"context"
	"testing"
	"testing/synctest"

	"github.com/limber-edge/limber/agent/bench/figure"
)

func TestCorePrintsEachPartOfEachMember(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := mustLive(t)
		var out bytes.Buffer
		b := testBench(t, &out)
		if err := b.parts(t.Context(), l.core, "stock"); err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, f := range mustFigures(t, out.String()) {
			names = append(names, f.Name)
			if f.Bench != "core" || f.Unit != "ms" || f.Better != figure.Lower || f.Rounds != Rounds ||
				!(f.Ours > 0 && f.Base > 0) {
				t.Errorf("got %+v, want a measurement of core", f)
			}
		}
		if len(names) != 9 || names[0] != "loop stock s0" || names[3] != "switch stock s0" ||
			names[8] != "batch stock s2" {
			t.Errorf("got figures %q, want loop, switch and batch of each member", names)
		}
		if err := l.close(); err != nil {
			t.Error(err)
		}
	})
}

func TestABenchmarkThatIsCancelledMeasuresNoMore(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := repeat(ctx, 3, func() (float64, error) { return 1, nil }); err == nil {
		t.Error("a cancelled benchmark went on")
	}
}
