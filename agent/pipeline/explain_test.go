package pipeline

import (
	"context"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/limber-edge/limber/agent/governor"
	"github.com/limber-edge/limber/agent/governor/logbook"
)

func TestTheLastDecisionsAreKeptExplained(t *testing.T) {
	inBubble(t, testConfig(), func(b *bench) {
		if got := b.State().Decisions; len(got) != 0 {
			t.Errorf("before the first job: got %d decisions", len(got))
		}
		b.mode("fixed:middle")
		began := time.Now()
		for range recent + 2 {
			b.answer(Job{Body: picture(t, 8), Deadline: 50 * ms})
		}
		b.answer(Job{Body: picture(t, 8), Deadline: 50 * ms, Floor: 0.95}) // refused
		got := b.State().Decisions
		if len(got) != recent {
			t.Fatalf("got %d decisions, want %d", len(got), recent)
		}
		if d := got[0]; !d.Shed || d.Reason != governor.Infeasible || d.Infer != 0 {
			t.Errorf("the newest: got %+v, want a refusal", d)
		}
		d := got[1]
		if d.Member != 1 || d.Reason != governor.Fixed || d.Infer != 4*ms || d.Slack != 50*ms ||
			!d.At.Equal(began.Add((recent+1)*4*ms)) {
			t.Errorf("the one before: got %+v", d)
		}
		if len(d.Options) != 3 || d.Options[1].Chance != d.Chance || d.Belief.Slowdown == 0 {
			t.Errorf("its alternatives: got %+v, %+v", d.Options, d.Belief)
		}
	})
}

// logged is the replay of the log that a pipeline left.
func logged(t *testing.T, path string) []*logbook.Entry {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var all []*logbook.Entry
	if _, err := logbook.Replay(f, func(e *logbook.Entry) { all = append(all, e) }); err != nil {
		t.Error(err)
	}
	return all
}

func TestADecisionLogIsReplayedWithTheSameOutcome(t *testing.T) {
	cfg := testConfig()
	cfg.Log = Log{Path: filepath.Join(t.TempDir(), "decisions.log"), Bytes: 1 << 20, Version: "v1"}
	r := rand.New(rand.NewPCG(3, 3))
	met, sent, shed := 0, 400, 0
	body := picture(t, 8)
	inBubble(t, cfg, func(b *bench) {
		for i := range 200 {
			if i%50 == 10 {
				b.mode([]string{"max-accuracy", "fixed:small", "low-latency", "balanced"}[i/50])
			}
			b.sessions[r.IntN(3)].took = time.Duration(1+r.IntN(20)) * ms
			one := b.submit(Job{Body: body, Deadline: time.Duration(5+r.IntN(60)) * ms})
			other := b.submit(Job{Body: body, Deadline: 90 * ms})
			for _, a := range []Answer{<-one, <-other} {
				if a.Met {
					met++
				}
				if a.Reason != "" {
					shed++ // by the governor, or by the queue without asking it
				}
			}
		}
	})
	all := logged(t, cfg.Log.Path)
	for _, e := range all {
		if e.Met {
			met--
		}
	}
	if len(all) < sent-shed || len(all) > sent || met != 0 || all[len(all)-1].Version != "v1" ||
		all[len(all)-1].Members[2] != "large" {
		t.Errorf("got %d decisions, %d more met than logged, the last %+v", len(all), met, all[len(all)-1])
	}
}

func TestADecisionIsOnTheDiskASecondLaterThoughNoJobComes(t *testing.T) {
	cfg := testConfig()
	cfg.Log = Log{Path: filepath.Join(t.TempDir(), "decisions.log"), Bytes: 1 << 20}
	inBubble(t, cfg, func(b *bench) {
		b.answer(Job{Body: picture(t, 8), Deadline: 100 * ms})
		<-time.After(2 * time.Second)
		synctest.Wait()
		if all := logged(t, cfg.Log.Path); len(all) != 1 || !all[0].Ended {
			t.Errorf("got %d decisions, want the one of the job, with its end", len(all))
		}
	})
}

func TestALogThatCannotBeWrittenIsToldOf(t *testing.T) {
	cfg := testConfig()
	cfg.Log = Log{Path: filepath.Join(t.TempDir(), "none", "decisions.log"), Bytes: 1 << 20}
	body := picture(t, 8)
	inBubble(t, cfg, func(b *bench) {
		for range 200 {
			if a := b.answer(Job{Body: body, Deadline: 100 * ms}); a.Reason != "" {
				t.Fatalf("got %+v", a)
			}
			<-time.After(20 * ms)
		}
		if calls, err := b.LogLost(); calls == 0 || err == nil || !strings.Contains(err.Error(), "none/decisions.log") {
			t.Errorf("got %d calls lost, %v", calls, err)
		}
	})
}

func TestExperienceIsHandedToTheNextPipeline(t *testing.T) {
	var learned governor.Experience
	inBubble(t, testConfig(), func(b *bench) {
		for range 100 {
			b.answer(Job{Body: picture(t, 8), Deadline: 100 * ms})
		}
		var err error
		if learned, err = b.Experience(b.t.Context()); err != nil || learned.Jump == 0.03 {
			t.Fatalf("got %+v, %v; want something learned", learned, err)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		b := mustBench(t, testConfig())
		if err := b.Remember(governor.Experience{}); err == nil {
			t.Error("damaged experience: got no error")
		}
		if err := b.Remember(learned); err != nil {
			t.Fatal(err)
		}
		b.start()
		if got, err := b.Experience(t.Context()); err != nil || got.Jump != learned.Jump || got.Trust != learned.Trust {
			t.Errorf("got %+v, %v; want %+v", got, err, learned)
		}
		b.stop()
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := b.Experience(gone); err == nil {
			t.Error("of a pipeline that stands: got no error")
		}
	})
}
