package agent_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/limber-edge/limber/agent"
	"github.com/limber-edge/limber/agent/governor"
	"github.com/limber-edge/limber/agent/governor/logbook"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/family/stock"
	"github.com/limber-edge/limber/store"
)

const cellExperience = "experience-cpu"

// saved is the experience that a device which does not run has saved.
func saved(tb testing.TB, cfg agent.Config) (e struct {
	Family, Provider string
	Learned          governor.Experience
}) {
	tb.Helper()
	mustEdit(tb, cfg, func(st *store.Store) error {
		b, err := st.Cell(cellExperience)
		if err != nil {
			return err
		}
		return json.Unmarshal(b, &e)
	})
	return e
}

// ask has a device answer so many jobs.
func ask(t *testing.T, o *operator, cfg agent.Config, run string, jobs int) {
	t.Helper()
	for i := range jobs {
		id := fmt.Sprintf("%s-%d", run, i)
		o.publish(self(cfg).Job(id), job(t, patient, pngFrame(t, i%10)))
		o.await(self(cfg).Result(id), 1)
	}
}

func TestWhatWasLearnedOutlivesARestart(t *testing.T) {
	t.Parallel()
	o, cfg, d := online(t, serve(t))
	ask(t, o, cfg, "a", 40)
	d.stop()
	learned := saved(t, cfg)
	carried, err := stock.Family()
	if err != nil {
		t.Fatal(err)
	}
	if learned.Family != string(carried.Digest()) || learned.Provider != "cpu" || learned.Learned.Jump == 0.03 {
		t.Fatalf("got %+v, want something learned", learned)
	}

	d = start(t, cfg) // answers nothing, so what it saves at the end it must have remembered
	d.awaitLog("msg=ready", 1)
	d.stop()
	if got := saved(t, cfg).Learned; got.Jump != learned.Learned.Jump || got.Trust != learned.Learned.Trust || len(got.Bias) != len(learned.Learned.Bias) {
		t.Errorf("after a restart: got %+v, want %+v", got, learned.Learned)
	}
}

func TestDamagedAndForeignExperienceIsIgnored(t *testing.T) {
	t.Parallel()
	addr := serve(t)
	for _, tt := range []struct{ name, cell, says string }{
		{"damaged", `{"family":`, "unexpected end"},
		{"empty", ``, "unexpected end"},
		{"of another family", `{"family":"f00d","provider":"cpu"}`, "experience of family f00d"},
		{"of another version", "", "this version knows"},
		{"too large", strings.Repeat(" ", 64<<10) + "{}", "at most 65536"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg := newConfig(t, addr)
			cfg.Device = strings.ReplaceAll(tt.name, " ", "-")
			cell := tt.cell
			if tt.name == "of another version" {
				carried, err := stock.Family()
				if err != nil {
					t.Fatal(err)
				}
				cell = fmt.Sprintf(`{"family":%q,"provider":"cpu","learned":{"met":[1]}}`, carried.Digest())
			}
			mustEdit(t, cfg, func(st *store.Store) error { return st.SetCell(cellExperience, []byte(cell)) })
			d := start(t, cfg)
			d.awaitLog("experience not usable", 1)
			d.awaitLog(tt.says, 1)
			d.awaitLog("msg=ready", 1)
			d.stop()
			if e := saved(t, cfg); e.Provider != "cpu" || len(e.Learned.Met) < 2 {
				t.Errorf("learned anew: got %+v", e)
			}
		})
	}
}

func TestTelemetryExplainsTheLastDecisions(t *testing.T) {
	t.Parallel()
	addr := serve(t)
	cfg, o := newConfig(t, addr), operate(t, addr)
	cfg.Governor.LogMiB = 1
	d := start(t, cfg)
	d.awaitLog("msg=ready", 1)
	if got := decoded[wire.Telemetry](t, o.await(self(cfg).Telemetry(), 1)); got.Decisions != nil {
		t.Errorf("before the first job: got %+v", got.Decisions)
	}
	ask(t, o, cfg, "a", 12)
	got := o.telemetry(cfg, func(t wire.Telemetry) bool { return t.Jobs == 12 && t.Decisions[0].InferMS != nil }, "twelve jobs are answered").Decisions
	b, err := json.Marshal(got)
	if err != nil || len(b) > 2<<10 || len(got) == 0 || len(got) > 3 {
		t.Fatalf("got %d decisions in %d bytes, %v", len(got), len(b), err)
	}
	for _, d := range got {
		chosen := slices.IndexFunc(d.Options, func(o wire.Option) bool { return o.Member == d.Member })
		if d.InferMS == nil || d.Reason == "" || d.SlackMS <= 0 || d.Belief == "" || chosen < 0 || d.Options[chosen].PredictedMS != d.PredictedMS {
			t.Errorf("got %+v", d)
		}
	}
	d.stop()
	f, err := os.Open(filepath.Join(cfg.State, "decisions.log"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var last *logbook.Entry
	sum, err := logbook.Replay(f, func(e *logbook.Entry) { last = e })
	if err != nil || sum.Decisions != 12 || sum.Lost != 0 {
		t.Fatalf("the saved log: got %+v, %v", sum, err)
	}
	if told := got[0]; last.Members[last.Decision.Member] != told.Member || last.Decision.Reason.String() != told.Reason || !wire.At(last.At).Equal(told.TS.Time) || !last.Met {
		t.Errorf("logged %+v, told %+v", last, told)
	}
}
