package main

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent/governor"
	"github.com/limber-edge/limber/agent/governor/logbook"
	"github.com/limber-edge/limber/agent/wire"
)

// mustLog writes a decision log of so many jobs under a load that comes and
// goes, and returns where it is.
func mustLog(t *testing.T, jobs int) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "decisions.log")
	g, err := governor.New([]governor.Member{
		{Name: "5.0M", Top1: 0.70, Latency: 4 * time.Millisecond}, {Name: "12.3M", Top1: 0.76, Latency: 9 * time.Millisecond},
	}, governor.Mode{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for now, r := time.Duration(0), rand.New(rand.NewPCG(5, 5)); jobs > 0; jobs -= 300 {
		log := logbook.To(path, 8<<20, logbook.About{Version: "v9", Epoch: time.Unix(1_767_225_600, 0), Members: []string{"5.0M", "12.3M"}})
		b := logbook.New(g, log)
		for i := range min(jobs, 300) { // fit into the buffers: nothing can be lost
			now += logJob(b, r, now, 1+i/100)
		}
		b.Close()
		log.Run()
		if lost, err := log.Lost(); lost > 0 || err != nil {
			t.Fatalf("%d calls lost, %v", lost, err)
		}
	}
	return path
}

// logJob is one job under a load.
func logJob(b *logbook.Book, r *rand.Rand, now time.Duration, load int) (took time.Duration) {
	b.Arrive(now)
	d := b.Decide(now, governor.Queue{Deadline: now + 30*time.Millisecond, Waiting: []time.Duration{now + 50*time.Millisecond}})
	took = time.Duration((2 + float64(load)*8*r.Float64()) * float64(time.Millisecond))
	if !d.Shed {
		b.Observe(now+took, d.Member, d.Batch, took)
	}
	b.Ended(!d.Shed && took <= 30*time.Millisecond)
	return took + 3*time.Millisecond
}

// program runs `limber` in a process of its own.
func program(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	c := exec.CommandContext(t.Context(), exe, args...)
	c.Stdout, c.Stderr = &out, &errs
	if err := c.Run(); c.ProcessState == nil {
		t.Fatal(err)
	}
	return out.String(), errs.String(), c.ProcessState.ExitCode()
}

func TestADecisionLogIsReplayedBitForBitInAnotherProcess(t *testing.T) {
	path := mustLog(t, 3000)
	out, errs, code := program(t, "explain", path, "--last", "2")
	for _, want := range []string{"3000 decisions in ", "replayed with the same outcome\n", "mode balanced, 30.0 ms left, 1 waiting", "MEMBER  EXPECTED MS  IN TIME %  WORTH  SCORE", "12.3M"} {
		if code != exitDone || !strings.Contains(out, want) {
			t.Errorf("exit %d, %q, %q; want %q", code, out, errs, want)
		}
	}
	if n := strings.Count(out, "  line "); n != 2 {
		t.Errorf("got %d decisions, want 2:\n%s", n, out)
	}
}

func TestExplainPrintsAnObjectADecision(t *testing.T) {
	out, errs, code := program(t, "explain", mustLog(t, 30), "--json", "--last", "7")
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if code != exitDone || len(lines) != 7 {
		t.Fatalf("exit %d, %q, %q; want 7 lines", code, out, errs)
	}
	for _, line := range lines {
		var x explained
		err := json.Unmarshal([]byte(line), &x)
		if err != nil || x.Line == 0 || x.Version != "v9" || x.SlackMS != 30 || len(x.Waiting) != 1 || len(x.Options) != 2 || x.Met == nil || x.Why == "" || x.Options[1].Worth == 0 || !x.Options[1].InUse {
			t.Errorf("got %s, %v", line, err)
		}
	}
}

func TestExplainNamesTheLineOfADifference(t *testing.T) {
	path := mustLog(t, 60)
	log, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := bytes.SplitAfter(log, []byte("\n"))
	for i, line := range lines {
		if at := bytes.Index(line, []byte(" = ")); at > 0 && i > 100 {
			line[at+3] ^= 1 // the member
			break
		}
	}
	mustWrite(t, path, bytes.Join(lines, nil))
	out, errs, code := program(t, "explain", path, "--last", "1")
	if code != exitFailed || strings.Contains(out, "same outcome") || !strings.Contains(errs, "decisions.log: line 10") || !strings.Contains(errs, "written by version v9") {
		t.Errorf("exit %d, %q, %q; want 1 and the line", code, out, errs)
	}
	mustWrite(t, path, []byte("not a log\n"))
	if _, errs, code := program(t, "explain", path); code != exitFailed || !strings.Contains(errs, "line 1: not a decision log") {
		t.Errorf("exit %d, %q; want 1 and that it is no log", code, errs)
	}
	if _, errs, code := program(t, "explain", path, "--last", "0"); code != exitUsage {
		t.Errorf("exit %d, %q; want 2", code, errs)
	}
}

func TestExplainSaysWhatIsMissingAtTheEnd(t *testing.T) {
	log, err := os.ReadFile(mustLog(t, 30))
	if err != nil {
		t.Fatal(err)
	}
	const torn, none = "the last line is incomplete and was left out", "there is no decision in it"
	for _, tt := range []struct {
		name       string
		log        []byte
		code       int
		says, hush string
	}{
		{"whole", log, exitDone, "30 decisions in 1 segment, replayed", torn},
		{"half a line", log[:len(log)-3], exitDone, torn, none},
		{"inside the snapshot", log[:bytes.Index(log, []byte("\nS "))+30], exitFailed, torn, "replayed"},
		{"no decision", log[:bytes.Index(log, []byte("\nA "))+1], exitFailed, none, torn},
		{"empty", nil, exitFailed, none, "replayed"},
	} {
		path := filepath.Join(t.TempDir(), "cut.log")
		mustWrite(t, path, tt.log)
		out, errs, code := program(t, "explain", path)
		if all := out + errs; code != tt.code || !strings.Contains(all, tt.says) || strings.Contains(all, tt.hush) {
			t.Errorf("%s: exit %d, %q, %q; want %d and %q, not %q", tt.name, code, out, errs, tt.code, tt.says, tt.hush)
		}
	}
}

func TestAMemberThatIsNotInUseIsShownAsSuch(t *testing.T) {
	x := explained{Member: "5.0M", Options: []scoredOption{
		{wire.Option{Member: "5.0M", PredictedMS: 4, Chance: 1, Worth: 70}, 70, true},
		{wire.Option{Member: "12.3M", PredictedMS: 9, Chance: 1, Worth: 76}, 76, false},
	}}
	var b bytes.Buffer
	if err := x.decision().print(&b, "", ""); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(b.String(), "\n")
	for i, want := range map[int]string{2: "> 5.0M 4.00 100.0 70.00 70.00", 3: "12.3M not in use - - -"} {
		if got := strings.Join(strings.Fields(lines[i]), " "); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestWhatBecameOfADecisionIsSaid(t *testing.T) {
	infer := 12.0
	for _, tt := range []struct {
		decision wire.Decision
		want     string
	}{
		{wire.Decision{SlackMS: 20}, "no inference"},
		{wire.Decision{SlackMS: 20, InferMS: &infer}, "within"},
		{wire.Decision{SlackMS: 10, InferMS: &infer}, "more than"},
	} {
		if got := took(&tt.decision); !strings.Contains(got, tt.want) {
			t.Errorf("%+v: got %q, want %q", tt.decision, got, tt.want)
		}
	}
	yes, no := true, false
	for _, tt := range []struct {
		x    explained
		want string
	}{
		{explained{Refused: true, Reason: "busy", Met: &no}, "refused: busy"},
		{explained{}, "not known"},
		{explained{Met: &yes, InferMS: &infer}, "in time, 12.0 ms"},
		{explained{Met: &no, InferMS: &infer}, "not in time, 12.0 ms"},
		{explained{Met: &no}, "failed"},
	} {
		if got := tt.x.outcome(); !strings.HasPrefix(got, tt.want) && !strings.HasSuffix(got, tt.want) {
			t.Errorf("%+v: got %q, want %q", tt.x, got, tt.want)
		}
	}
	top1 := 0.8
	if got := pursued("goal", &wire.Goal{MinTop1: &top1}); got != "goal a top-1 of 0.8" {
		t.Errorf("got %q", got)
	}
	var b bytes.Buffer
	if err := printDecisions(&b, "desk", &wire.Telemetry{Mode: "balanced", Decisions: make([]wire.Decision, 2)}); err != nil ||
		strings.Count(b.String(), "balanced") != 1 || !strings.HasPrefix(b.String(), "in force now: mode balanced\n") {
		t.Errorf("got %q, %v; want the mode once", b.String(), err)
	}
	b.Reset()
	if err := printDecisions(&b, "desk", &wire.Telemetry{}); err != nil || b.String() != "desk has decided on no job since it started\n" {
		t.Errorf("got %q, %v", b.String(), err)
	}
}
