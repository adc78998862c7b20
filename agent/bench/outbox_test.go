package bench

import (
	"bytes"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent/bench/figure"
)

func TestOutboxPrintsWhatKeepingTakes(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	b := outboxBench{Bench: testBench(t, &out), rounds: 1, groups: turns, few: 1, slow: 3, backlog: 2 * groupOf,
		spell: 100 * time.Millisecond, rate: 100, idle: time.Millisecond}
	if err := b.run(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := [][3]string{
		{"append", "1/s", figure.Higher}, {"p99", "ms", figure.Lower},
		{"append a transaction each", "1/s", figure.Higher}, {"append in the client's files", "1/s", figure.Higher},
		{"amplification at 20/s", "1", figure.Lower}, {"size", "MB", figure.Lower}, {"drain", "1/s", figure.Higher},
		{"window", "ms", figure.Lower},
	}
	got := mustFigures(t, out.String())
	if n, err := written(); err == nil && n == 0 { // it is in memory
		want = append(want[:4:4], want[5:]...)
	}
	mustAgree(t, got, "outbox", want)
}
