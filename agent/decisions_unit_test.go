package agent

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent/engine"
	"github.com/limber-edge/limber/agent/governor"
	"github.com/limber-edge/limber/agent/pipeline"
	"github.com/limber-edge/limber/family"
)

func TestToldDecisionsKeepTheirSize(t *testing.T) {
	for _, tt := range []struct{ members, name, decisions int }{
		{0, 0, 0}, {1, 5, 3}, {5, 5, 3}, {16, 5, 1}, {16, 64, 1}, {16, 1500, 1},
	} {
		d := pipeline.Explained{At: time.Now(), Infer: 12_345_678,
			Decision: governor.Decision{Slack: 47_123_456, Predicted: 12_345_678, Chance: 0.987654,
				Reason: governor.Infeasible},
			Belief: governor.Belief{Quiet: 0.5, Every: 16, Stolen: 34}}
		var members []engine.Member
		for i := range tt.members {
			m := &family.Member{Name: fmt.Sprintf("%d%s", i%10, strings.Repeat("M", tt.name-1))}
			members = append(members, engine.Member{Member: m})
			d.Options = append(d.Options, governor.Option{
				Member: i, Eligible: true, Predicted: 12.345678, Chance: 0.987654, Worth: 70.123456 - float64(i)})
		}
		var last []pipeline.Explained
		if tt.members > 0 {
			d.Options = append(d.Options, governor.Option{Worth: 99}) // not in use
			last = []pipeline.Explained{d, d, d, d}
		}
		got := wireDecisions(last, members)
		b, err := json.Marshal(got)
		if err != nil || len(got) != tt.decisions || len(b) > decisionsSize {
			t.Errorf("%d members with names of %d: got %d decisions in %d bytes, %v; want %d", tt.members, tt.name,
				len(got), len(b), err, tt.decisions)
		}
		if tt.members == 5 && len(got[2].Options) != 5 {
			t.Errorf("got %+v, want all options", got[2])
		}
		if tt.members == 16 && tt.name == 64 &&
			(len(got[0].Options) < 8 || !strings.HasPrefix(got[0].Options[0].Member, "0")) {
			t.Errorf("got %+v, want the options that are worth most", got[0].Options)
		}
	}
}
