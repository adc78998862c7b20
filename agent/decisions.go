package agent

import (
	"cmp"
	"encoding/json"
	"math"
	"slices"
	"time"

	"github.com/limber-edge/limber/agent/engine"
	"github.com/limber-edge/limber/agent/pipeline"
	"github.com/limber-edge/limber/agent/wire"
)

// What telemetry tells of the last decisions.
const (
	decisionsTold = 3
	decisionsSize = 2 << 10 // bytes of JSON at most
)

// wireDecisions is the newest decisions that fit, newest first; nil if there
// are none.
func wireDecisions(last []pipeline.Explained, members []engine.Member) []wire.Decision {
	var told []wire.Decision
	for _, d := range last[:min(len(last), decisionsTold)] {
		told = append(told, wireDecision(&d, members))
	}
	for !fits(told) {
		if n := len(told); n > 1 {
			told = told[:n-1]
			continue
		}
		options := told[0].Options
		least := slices.MinFunc(options, func(a, b wire.Option) int { return cmp.Compare(a.Worth, b.Worth) })
		at := slices.Index(options, least)
		told[0].Options = slices.Delete(options, at, at+1)
	}
	return told
}

func fits(told []wire.Decision) bool {
	b, err := json.Marshal(told)
	return err == nil && len(b) <= decisionsSize || len(told) == 1 && len(told[0].Options) == 0
}

func wireDecision(d *pipeline.Explained, members []engine.Member) wire.Decision {
	w := wire.Decision{
		TS: wire.At(d.At), Member: members[d.Member].Name, Reason: d.Reason.String(), SlackMS: wire.Millis(d.Slack),
		Waiting: d.Waiting, PredictedMS: wire.Millis(d.Predicted), Chance: digits(d.Chance, 3),
		Belief: d.Belief.String(), Options: []wire.Option{},
	}
	if d.Infer > 0 {
		w.InferMS = new(wire.Millis(d.Infer))
	}
	for _, o := range d.Options {
		if !o.Eligible {
			continue // it would take the room of those that could be chosen
		}
		predicted := time.Duration(o.Predicted * float64(time.Millisecond))
		w.Options = append(w.Options, wire.Option{Member: members[o.Member].Name, PredictedMS: wire.Millis(predicted),
			Chance: digits(o.Chance, 3), Worth: digits(o.Worth, 2)})
	}
	return w
}

func digits(f float64, n int) float64 {
	shift := math.Pow10(n)
	return math.Round(f*shift) / shift
}
