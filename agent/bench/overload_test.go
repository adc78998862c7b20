package bench

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent/bench/camera"
	"github.com/limber-edge/limber/agent/bench/desk"
	"github.com/limber-edge/limber/agent/bench/figure"
	"github.com/limber-edge/limber/agent/fleet"
	"github.com/limber-edge/limber/agent/wire"
)

func overloadFigures() [][3]string {
	return [][3]string{
		{"goodput at 0.8 times", "1/s", figure.Higher}, {"goodput at 1.2 times", "1/s", figure.Higher},
		{"goodput at 1.5 times", "1/s", figure.Higher},
		{"goodput at 2 times", "1/s", figure.Higher}, {"goodput at 4 times", "1/s", figure.Higher},
		{"recovery", "s", figure.Lower}, {"fairness", "1", figure.Higher},
	}
}

// smallOverload has a deadline that no machine misses, and small frames: what is
// tested is the account.
func smallOverload(t *testing.T, out io.Writer, slot time.Duration) *overloadBench {
	return &overloadBench{Bench: testBench(t, out), rounds: 1, slot: slot, deadline: time.Minute,
		size: camera.Size{Name: "vga", Width: 64, Side: 48}}
}

func mustAccount(t *testing.T, out string) {
	t.Helper()
	got := mustFigures(t, out, "expected_top1")
	mustAgree(t, got, "overload", overloadFigures())
	for _, f := range got {
		if f.ExpectedTop1 == nil || !(*f.ExpectedTop1 > 0.5 && *f.ExpectedTop1 < 1) {
			t.Errorf("got %+v, want the mean expected top-1 of its answers", f)
		}
	}
}

// With a real agent: TestOverloadMeasuresARealAgent.
func TestOverloadAccountsForEveryFrame(t *testing.T) {
	var out bytes.Buffer
	b := smallOverload(t, &out, 50*time.Millisecond)
	if err := b.expose(); err != nil {
		t.Fatal(err)
	}
	s, top1 := mustSite(t), 0.75
	ok := func(string) wire.Result { return wire.Result{Status: wire.OK, ExpectedTop1: &top1, Met: true} }
	mustAnswer(t, s, ok, func(ctx context.Context, c *desk.Client) error {
		b.client = c
		return connectAll(ctx, s.url, b.Stderr, sources, func(ctx context.Context, cameras []*fleet.Mailbox) error {
			b.cameras = cameras
			return b.measure(ctx, b.plan())
		})
	})
	mustAccount(t, out.String())
}

const ms = time.Millisecond

// mustLedger is of two cameras and a deadline of 100 ms: of four frames of the
// first one two are in time, of four of the second one one.
func mustLedger() *ledger {
	ok, refused := wire.OK, wire.Refused
	return &ledger{deadline: 100 * ms, fates: []fate{
		{0, 0, ms, 10 * ms, ok, "", true, 0.8},
		{0, 100 * ms, ms, 100 * ms, ok, "", true, 0.9},
		{0, 200 * ms, ms, 101 * ms, ok, "", true, 0.5}, // on its way back when its time was over
		{0, 300 * ms, ms, 5 * ms, refused, wire.Busy, false, 0},
		{1, 0, ms, 20 * ms, ok, "", true, 0.7},
		{1, 100 * ms, ms, 500 * ms, ok, "", false, 0.5},
		{1, 200 * ms, ms, 5 * ms, refused, wire.Busy, false, 0},
		{1, 300 * ms, ms, 5 * ms, refused, wire.Invalid, false, 0},
	}}
}

func TestALedgerCountsWhatIsBackInTime(t *testing.T) {
	l := mustLedger()
	if got := l.goodput(500 * ms); got != 6 {
		t.Errorf("got %v in time a second, want 3 in half a second", got)
	}
	if got := l.top1(); math.Abs(got-0.8) > 1e-12 {
		t.Errorf("got a mean top-1 of %v, want 0.8, of those in time", got)
	}
	if got := [3]float64{l.of(0).share(), l.of(1).share(), l.share()}; got != [3]float64{0.5, 0.25, 0.375} {
		t.Errorf("got shares %v, want a half, a quarter, three of eight", got)
	}
	if got := [2]float64{l.worst(1), l.worst(2)}; got != [2]float64{0.5, 0.25} {
		t.Errorf("got the worst of one and of two %v, want 0.5 and 0.25", got)
	}
	want := "8 frames: 37.5 % in time (50.0 % by the agent's clock), 25.0 % late, 25.0 % refused, busy, 12.5 % " +
		"refused, invalid; they left 1.0 ms late (95th percentile)"
	if got := l.String(); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if err := l.check(); err != nil {
		t.Errorf("got %v, want a ledger that is complete", err)
	}
}

func TestALedgerMissesFramesWithoutAnAnswerOrAReason(t *testing.T) {
	for _, tt := range []struct {
		name string
		fate fate
		says string
	}{
		{"no answer", fate{}, "1 of 9 frames were neither answered nor refused"},
		{"no reason", fate{status: wire.Refused}, "1 of 9 frames were refused without a reason"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := mustLedger()
			l.fates = append(l.fates, tt.fate)
			if err := l.check(); err == nil || err.Error() != tt.says {
				t.Errorf("got %v, want %q", err, tt.says)
			}
		})
	}
}

func TestAnEmptyLedgerHasNoShares(t *testing.T) {
	l := &ledger{deadline: time.Second}
	if _, due := l.p95(0, time.Second); due || l.share() != 0 || l.top1() != 0 || l.goodput(time.Second) != 0 ||
		l.check() != nil {
		t.Errorf("got %v, share %v, top-1 %v, %v; want zeros and no complaint", l, l.share(), l.top1(), l.check())
	}
}

// N22: what is normal again must not be a lucky frame among refusals.
func TestN22_RecoveryIsWhenThePercentileIsNormalAgain(t *testing.T) {
	// A frame each 10 ms from 1 s on, for a second.
	after := func(kind func(at time.Duration) fate) *ledger {
		l := &ledger{deadline: 100 * ms}
		for at := time.Second; at < 2*time.Second; at += 10 * ms {
			f := kind(at - time.Second)
			f.due = at
			l.fates = append(l.fates, f)
		}
		return l
	}
	quick, slow := fate{took: 10 * ms, status: wire.OK}, fate{took: 50 * ms, status: wire.OK}
	for _, tt := range []struct {
		name string
		kind func(at time.Duration) fate
		want time.Duration
	}{
		{"never burdened", func(time.Duration) fate { return quick }, 0},
		{"slow for 300 ms", func(at time.Duration) fate {
			if at < 300*ms {
				return slow
			}
			return quick
		}, 300 * ms},
		{"refused every second time for 400 ms", func(at time.Duration) fate {
			if at < 400*ms && at%(20*ms) == 0 {
				return fate{took: ms, status: wire.Refused, reason: wire.Busy}
			}
			return quick
		}, 400 * ms},
		{"no answers", func(time.Duration) fate { return fate{} }, time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := after(tt.kind).back(time.Second, 2*time.Second, 10); got != tt.want {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

func TestCamerasTogetherSendAtEvenIntervals(t *testing.T) {
	for _, tt := range []struct {
		cameras int
		rate    float64 // frames a second
		want    int     // frames in the second from 500 ms on
	}{{1, 10, 10}, {8, 100, 100}, {8, 3, 3}, {7, 2.5, 3}} {
		t.Run(fmt.Sprintf("%d at %v", tt.cameras, tt.rate), func(t *testing.T) {
			var all []time.Duration
			for i := range tt.cameras {
				all = append(all, beats(i, tt.cameras, tt.rate, 500*ms, 1500*ms)...)
			}
			slices.Sort(all)
			if len(all) != tt.want {
				t.Fatalf("got %d frames, want %d", len(all), tt.want)
			}
			for i, at := range all {
				want := 500*ms + time.Duration(float64(i)/tt.rate*float64(time.Second))
				if at != want {
					t.Errorf("frame %d: due at %v, want %v", i, at, want)
				}
			}
		})
	}
}

func TestASourceIsNamedInTheEnvelope(t *testing.T) {
	for _, source := range []string{"", "cam-1"} {
		b := overloadBench{deadline: 100 * ms}
		jobs, err := camera.Jobs([][]byte{[]byte("frame")}, b.header(source))
		if err != nil {
			t.Fatal(err)
		}
		job := jobs[0]
		h, body, err := wire.SplitJob(job)
		if err != nil || string(body) != "frame" || h.Deadline() != 100*ms {
			t.Errorf("got %+v, %q, %v; want the frame, due in 100ms", h, body, err)
		}
		if said := bytes.Contains(job, []byte(`"source":"cam-1"`)); said != (source != "") {
			t.Errorf("got %q for source %q", job, source)
		}
	}
}

func TestEveryFrameThatWasDrivenIsInTheLedger(t *testing.T) {
	s, top1 := mustSite(t), 0.75
	first := func(id string) wire.Result { // answers the frames of camera 0 and refuses the others
		if strings.Contains(id, "-0-") {
			return wire.Result{Status: wire.OK, ExpectedTop1: &top1, Met: true}
		}
		return wire.Result{Status: wire.Refused, Reason: wire.Busy}
	}
	mustAnswer(t, s, first, func(ctx context.Context, c *desk.Client) error {
		return connectAll(ctx, s.url, t.Output(), 2, func(ctx context.Context, cameras []*fleet.Mailbox) error {
			return driven(ctx, t, c, cameras)
		})
	})
}

// driven checks the ledger of two cameras.
func driven(ctx context.Context, t *testing.T, c *desk.Client, stations []*fleet.Mailbox) error {
	var cameras []sender
	for i, st := range stations {
		cameras = append(cameras, sender{mailbox: st, jobs: [][]byte{[]byte("a"), []byte("b")}, beats: beats(i, 2,
			200, 0, 100*ms)})
	}
	l, err := drive(ctx, c, cameras, time.Minute)
	if err != nil {
		return err
	}
	if got := [2]float64{l.of(0).share(), l.of(1).share()}; len(l.fates) != 20 || got != [2]float64{1, 0} ||
		l.top1() != 0.75 || l.reasons()[wire.Busy] != 10 {
		t.Errorf("got %v, shares %v; want 20 frames, those of the first camera answered and of the second refused", l,
			got)
	}
	for i, f := range l.fates {
		if f.lag <= 0 || f.took <= 0 || f.took > time.Minute || f.due != time.Duration(2*(i%10)+i/10)*5*ms {
			t.Errorf("frame %d: due at %v, left %v late, back after %v; want the beat of its camera and times "+
				"since then", i, f.due, f.lag, f.took)
		}
	}
	return l.check()
}
