package engine

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent/governor"
	"github.com/limber-edge/limber/agent/governor/logbook"
	"github.com/limber-edge/limber/agent/pipeline"
	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/store"
)

// saved is what an engine that has stopped learned.
func saved(tb testing.TB, st *store.Store) (l learned) {
	tb.Helper()
	b, err := st.Cell("experience-cpu")
	if err == nil {
		err = json.Unmarshal(b, &l)
	}
	if err != nil {
		tb.Fatal(err)
	}
	return l
}

func TestWhatWasLearnedOutlivesARestart(t *testing.T) {
	st := mustStore(t)
	again(t, st, nil, func(t *testing.T, r *rig) {
		for range 40 {
			r.ask(job(0, time.Minute))
		}
	})
	before := saved(t, st)
	if before.Family != string(testFamily().Digest()) || before.Provider != "cpu" || before.Learned.Jump == 0.03 {
		t.Fatalf("got %+v, want something learned", before)
	}
	again(t, st, nil, func(*testing.T, *rig) {}) // answers nothing, so what it saves at the end it must have remembered
	if got := saved(t, st).Learned; got.Jump != before.Learned.Jump || got.Trust != before.Learned.Trust ||
		len(got.Bias) != len(before.Learned.Bias) {
		t.Errorf("after a restart: got %+v, want %+v", got, before.Learned)
	}
}

func TestWhatIsLearnedIsSavedNowAndThen(t *testing.T) {
	st := mustStore(t)
	again(t, st, nil, func(t *testing.T, r *rig) {
		r.ask(job(0, time.Minute))
		pass(learnedPace + time.Second)
		saved(t, st)
	})
}

func TestDamagedAndForeignExperienceIsIgnored(t *testing.T) {
	for _, tt := range []struct{ name, cell, level, says string }{
		{"damaged", `{"family":`, "WARN", "unexpected end"},
		{"empty", ``, "WARN", "unexpected end"},
		{"of another family", `{"family":"f00d","provider":"cpu"}`, "INFO", "experience of family f00d"},
		{"of another version", fmt.Sprintf(`{"family":%q,"provider":"cpu","learned":{"met":[1]}}`, testFamily().Digest()),
			"WARN", "this version knows"},
		{"too large", strings.Repeat(" ", 64<<10) + "{}", "WARN", "at most 65536"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			st := mustStore(t)
			if err := st.SetCell("experience-cpu", []byte(tt.cell)); err != nil {
				t.Fatal(err)
			}
			again(t, st, nil, func(t *testing.T, r *rig) {
				start := "level=" + tt.level + ` msg="experience not usable`
				if log := r.log.String(); !strings.Contains(log, start) || !strings.Contains(log, tt.says) {
					t.Errorf("got the log %s, want it to say %s, %q", log, start, tt.says)
				}
				r.wants(Ready, "")
			})
			if l := saved(t, st); l.Provider != "cpu" || len(l.Learned.Met) < 2 {
				t.Errorf("learned anew: got %+v", l)
			}
		})
	}
}

func TestEachProviderHasItsOwnExperienceAndLog(t *testing.T) {
	st, dir := mustStore(t), t.TempDir()
	again(t, st, func(r *rig) {
		withGPU(r)
		r.cfg.LogFolder, r.cfg.LogMiB = dir, 1
	}, func(t *testing.T, r *rig) { r.ask(job(0, time.Minute)) })
	if _, err := st.Cell("experience-cuda"); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "decisions-cuda.log")); err != nil {
		t.Error(err)
	}
}

func TestDecisionsAreLoggedAndTold(t *testing.T) {
	dir := t.TempDir()
	var told []pipeline.Explained
	simulate(t, func(r *rig) { r.cfg.LogFolder, r.cfg.LogMiB = dir, 1 }, func(t *testing.T, r *rig) {
		if got := r.Snapshot().Decisions; got != nil {
			t.Errorf("before the first job: got %+v", got)
		}
		for range 12 {
			r.ask(job(0, time.Minute))
		}
		pass(time.Second)
		s := r.Snapshot()
		if told = s.Decisions; len(told) != 8 || s.LogLost != 0 || s.LogFault != nil || s.Jobs != 12 ||
			s.Members[s.Operating].Name != "large" {
			t.Errorf("got %d decisions of %d jobs, %d lost, %v", len(told), s.Jobs, s.LogLost, s.LogFault)
		}
	})
	for _, d := range told {
		chosen := slices.IndexFunc(d.Options, func(o governor.Option) bool { return o.Member == d.Member })
		if d.Infer == 0 || chosen < 0 {
			t.Errorf("got %+v", d)
		}
	}
	f, err := os.Open(filepath.Join(dir, "decisions.log"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	sum, err := logbook.Replay(f, func(*logbook.Entry) {})
	if err != nil || sum.Decisions != 12 || sum.Lost != 0 {
		t.Fatalf("the saved log: got %+v, %v", sum, err)
	}
}

func TestTwoBackendsHaveNoLogInCommon(t *testing.T) {
	e := &Engine{cfg: Config{LogFolder: "state", LogMiB: 2, Version: "1"}}
	for _, tt := range []struct {
		provider string
		threads  int
		again    bool
		want     string
	}{
		{"cpu", 1, false, "decisions.log"}, {"cpu", 1, true, "decisions-again.log"},
		{"cpu", 3, false, "decisions-3.log"}, {"cuda", 1, false, "decisions-cuda.log"},
	} {
		b := &backend{loader: &fakeLoader{}, again: tt.again}
		b.loader.(*fakeLoader).variant.Provider, b.loader.(*fakeLoader).variant.Threads = tt.provider, tt.threads
		if got := e.decisionLog(b); got.Path != filepath.Join("state", tt.want) || got.Bytes != 2<<20 || got.Version != "1" {
			t.Errorf("got %+v, want %s", got, tt.want)
		}
	}
	e.cfg.LogMiB = 0
	if got := e.decisionLog(&backend{}); got.Path != "" {
		t.Errorf("got %+v, want none", got)
	}
}

func FuzzLearned(f *testing.F) {
	r := mustRig(f, mustStore(f))
	r.Engine = New(r.cfg, r.deps, slog.New(slog.DiscardHandler))
	l := newLoader(r.Engine, r.deps.Source)
	profile, err := r.cpu.Profile(f.Context(), make([]family.Session, 3), func() {})
	if err != nil {
		f.Fatal(err)
	}
	for i := range profile.Members {
		profile.Members[i].P50ms = float64(i + 1)
	}
	b, err := l.backend(r.cpu, prepared{profile: profile}, nil)
	if err != nil {
		f.Fatal(err)
	}
	for _, cell := range []string{"", "{}", "null", `{"family":1}`} {
		f.Add([]byte(cell))
	}
	f.Add(fmt.Appendf(nil, `{"family":%q,"provider":"cpu","learned":{"met":[1]}}`, testFamily().Digest()))
	f.Fuzz(func(t *testing.T, cell []byte) {
		if err := b.remember(cell); err != nil && err.Error() == "" {
			t.Error("an error without a word")
		}
	})
}
