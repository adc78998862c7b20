package search_test

import (
	"math"
	"path/filepath"
	"testing"

	"github.com/limber-edge/limber/family/ofa"
	"github.com/limber-edge/limber/family/search"
)

// A table of multiply-accumulates adds up what a sub-network has, exactly: so it
// has its rows. An OFA-ProxylessNASNet's block 0 has no shortcut, and its last stage has one
// block.
func TestTableHasTheRowsOfEveryKindOfSupernet(t *testing.T) {
	// narrow fixtures of every structure that a table can be of
	for _, name := range []string{"imagenet", "cifar", "proxyless"} {
		t.Run(name, func(t *testing.T) {
			net, err := ofa.Load(filepath.Join("..", "ofa", "testdata", name, "supernet.pth"))
			if err != nil {
				t.Fatal(err)
			}
			d := net.Description()
			table, err := search.MACTable(net, d.Resolutions)
			if err != nil {
				t.Fatal(err)
			}
			for i, a := range search.Candidates(d, search.Plan{Samples: 8, Seed: 2}) {
				sub, err := net.Cut(a)
				if err != nil {
					t.Fatal(err)
				}
				if got, err := table.Latency(a); err != nil || math.Abs(got-sub.MMACs()) > 1e-9 {
					t.Errorf("architecture %d: got %v MMACs, %v; want %v", i, got, err, sub.MMACs())
				}
			}
		})
	}
}
