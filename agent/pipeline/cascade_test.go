package pipeline

import (
	"math"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent/governor"
)

func TestCascadeAsksTheLargerMemberOnlyWhenTheSmallOneIsNotSure(t *testing.T) {
	cfg := testConfig()
	cfg.Cascade = 0.8
	for _, tt := range []struct {
		name     string
		small    []float32 // logits
		deadline time.Duration
		mode     string
		floor    float64
		member   int
		first    int
		firstP   float64
	}{
		{"sure", []float32{9, 0, 0, 0}, time.Second, "max-accuracy", 0, 0, 0, 0.9996},
		{"not sure", []float32{1, 0, 0, 0}, time.Second, "max-accuracy", 0, 2, 0, 0.475},
		{"no time for both", []float32{1, 0, 0, 0}, 10 * ms, "max-accuracy", 0, 2, 0, 0},
		{"no time for more than the small one", []float32{1, 0, 0, 0}, 4 * ms, "max-accuracy", 0, 0, 0, 0},
		{"the floor of the job", []float32{9, 0, 0, 0}, time.Second, "max-accuracy", 0.75, 1, 1, 0.9996},
		{"another mode", []float32{9, 0, 0, 0}, time.Second, "fixed:large", 0, 2, 0, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, cfg, func(b *bench) {
				b.mode(tt.mode)
				for range 30 { // until it is sure to be alone
					b.answer(Job{Body: picture(t, 8), Deadline: tt.deadline})
				}
				b.sessions[0].logits = tt.small
				b.sessions[1].logits = []float32{9, 0, 0, 0}
				got := b.answer(Job{Body: picture(t, 8), Deadline: tt.deadline, Floor: tt.floor})
				if got.Member != tt.member || got.First != tt.first || math.Abs(got.FirstP-tt.firstP) > 1e-3 || !got.Met {
					t.Errorf("got %+v, want member %d after %d with %v", got, tt.member, tt.first, tt.firstP)
				}
				if want := cfg.Members[tt.member].Latency; tt.firstP > 0 && tt.member != tt.first &&
					got.Infer != want+cfg.Members[0].Latency {
					t.Errorf("got %v of inference, want both members' time", got.Infer)
				}
			})
		})
	}
}

func TestCascadeTakesTheProbabilityThatTheSmallMemberGives(t *testing.T) {
	cfg := testConfig()
	cfg.Cascade = 0.8
	cfg.Members[0].Probabilities = true
	for given, member := range map[float32]int{0.9: 0, 0.7: 2} { // whose softmax would be under 0.5
		inBubble(t, cfg, func(b *bench) {
			b.mode("max-accuracy")
			for range 30 { // until it is sure to be alone
				b.answer(Job{Body: picture(t, 8), Deadline: time.Second})
			}
			b.sessions[0].logits = []float32{given, 1 - given, 0, 0}
			got := b.answer(Job{Body: picture(t, 8), Deadline: time.Second})
			if got.Member != member || got.First != 0 || got.FirstP != float64(given) {
				t.Errorf("got %+v, want member %d after member 0 with %v", got, member, given)
			}
		})
	}
}

func TestWithoutACascadeOneMemberRuns(t *testing.T) {
	inBubble(t, testConfig(), func(b *bench) {
		if got := b.answer(Job{Body: picture(t, 8), Deadline: time.Second}); got.FirstP > 0 || got.Choice == governor.Fixed {
			t.Errorf("got %+v", got)
		}
	})
}
