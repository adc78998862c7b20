package slot

import (
	"encoding/json"
	"errors"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestAReleaseThatProvesItselfIsConfirmedAndToldOnce(t *testing.T) {
	d := newDevice(t)
	d.wants(Idle, Package, Package)
	d.tried(sample("2"))
	d.wants(Trial, A, Package)
	d.must(d.agent.Confirm())
	d.wants(Confirmed, A, Package)
	last, c, ok := d.agent.Untold()
	if !ok || c.ID != "c-2" || last.Version != "2" || last.Outcome != Confirmed || last.Reason != "" {
		t.Errorf("got %+v of %+v, %v; want 2 confirmed, for c-2", last, c, ok)
	}
	d.must(d.agent.Told())
	if _, _, again := d.agent.Untold(); again || d.phase().Command != nil {
		t.Error("it is told again")
	}
	d.tried(sample("3"))
	d.wants(Trial, B, A)
	d.must(d.agent.Confirm())
	d.staged(sample("4")) // over the one before: nothing may go back to that any more
	d.wants(Stage, B, Package)
}

func TestAReleaseThatFailsIsRefusedUntilItIsAllowed(t *testing.T) {
	for _, r := range []Reason{Crash, Hang, Canary, Inference, State} {
		t.Run(string(r), func(t *testing.T) {
			d := newDevice(t)
			m := sample("2")
			d.tried(m)
			d.back(r, "boom\n\xff")
			d.wants(RolledBack, Package, Package)
			last, _, ok := d.agent.Untold()
			if !ok || last.Outcome != RolledBack || last.Reason != r || last.Tail != "boom\n\uFFFD" {
				t.Errorf("got %+v, %v; want %s rolled back with its last words", last, ok, r)
			}
			if err := d.agent.Fetch("2", m.Digest, nil); !errors.Is(err, ErrRefused) {
				t.Errorf("fetched again: %v, want %v", err, ErrRefused)
			}
			d.must(d.agent.Allow(m.Digest))
			d.tried(m)
			d.must(d.agent.Confirm())
		})
	}
}

func TestWithoutALinkTheOneBeforeDecides(t *testing.T) {
	m := sample("2")
	t.Run("it has one", func(t *testing.T) {
		d := newDevice(t)
		d.tried(m)
		d.must(d.agent.Fail(NoLink))
		d.back(NoLink, "")
		if _, _, ok := d.agent.Untold(); ok || d.phase().IsRefused(m.Digest) {
			t.Error("a verdict that is provisional is told, or refused")
		}
		d.must(d.agent.Stand())
		if _, _, ok := d.agent.Untold(); !ok || !d.phase().IsRefused(m.Digest) {
			t.Error("a verdict that stands is not told, or not refused")
		}
	})
	t.Run("it has none", func(t *testing.T) {
		d := newDevice(t)
		d.tried(m)
		for trial := 1; ; trial++ {
			d.back(NoLink, "")
			d.must(d.agent.Withdraw())
			d.wants(Undecided, Package, Package)
			if last, _, ok := d.agent.Untold(); !ok || last.Outcome != Undecided || last.Reason != NoLink {
				t.Errorf("got %+v, %v; want it told as undecided", last, ok)
			}
			if trial == 3 {
				break
			}
			d.switched() // there is a link
		}
		if err := d.agent.Switch(time.Minute); !errors.Is(err, ErrRefused) {
			t.Errorf("a fourth trial: %v, want %v", err, ErrRefused)
		}
	})
}

func TestOnlyWhoIsOnTrialGivesAVerdict(t *testing.T) {
	d := newDevice(t)
	d.staged(sample("2"))
	for n := range map[Name]bool{Package: true, B: true} {
		d.runs(n)
		if d.agent.Confirm() == nil || d.agent.Fail(Canary) == nil {
			t.Errorf("%s gave a verdict", n)
		}
	}
	d.runs(Package)
	d.switched()
	d.must(d.agent.Fail(Canary))
	if d.agent.Confirm() == nil {
		t.Error("one that failed confirmed itself")
	}
	d.runs(Package)
	if err := d.agent.Fetch("3", digestOf("3"), nil); err == nil || !strings.Contains(err.Error(), "not judged") {
		t.Errorf("another was fetched during a trial: %v", err)
	}
}

func TestStepsOutOfTurnAreRefused(t *testing.T) {
	d := newDevice(t)
	m := sample("2")
	for name, err := range map[string]error{
		"stage what was not fetched": d.agent.Stage(t.Context(), m.Release, m.open),
		"switch to an empty slot":    d.agent.Switch(time.Minute),
		"stand":                      d.agent.Stand(),
		"withdraw":                   d.agent.Withdraw(),
		"drop":                       d.agent.Drop(),
		"told":                       d.agent.Told(),
		"count":                      d.slots.Launcher().Count(),
	} {
		if err == nil {
			t.Errorf("%s: want an error", name)
		}
	}
	if _, err := os.Stat(d.slots.path("phase.json")); err == nil {
		t.Error("a step that was refused was recorded")
	}
	d.staged(m)
	d.must(d.agent.Drop())
	d.wants(Idle, Package, Package)
	if d.agent.Switch(time.Minute) == nil {
		t.Error("what was dropped was switched to")
	}
}

func TestAStartThatWasStoppedDoesNotCount(t *testing.T) {
	d := newDevice(t)
	d.tried(sample("2"))
	d.must(d.slots.Launcher().Uncount())
	for range 3 {
		if p := d.phase(); p.Spent() {
			t.Errorf("%d starts are all it has", p.Starts)
		}
		d.must(d.slots.Launcher().Count())
	}
	if p := d.phase(); !p.Spent() {
		t.Errorf("%d starts are not all it has", p.Starts)
	}
}

func TestAFullTailOfAnyBytesCanBeRead(t *testing.T) {
	d := newDevice(t)
	d.tried(sample("2"))
	d.back(Crash, strings.Repeat("\xff", 20<<10)+"\x00<end")
	if tail := d.phase().Last.Tail; !strings.HasSuffix(tail, "\x00<end") || len(tail) > 3*MaxTail {
		t.Errorf("got %d bytes of tail, ending in %.10q", len(tail), tail[len(tail)-10:])
	}
}

func TestACommandOfAnyJSONCanBeRead(t *testing.T) {
	for name, payload := range map[string]string{
		"many elements": "[1" + strings.Repeat(",1", maxPayload/2-2) + "]",
		"deep":          strings.Repeat("[", 5000) + strings.Repeat("]", 5000),
		"of HTML":       `"` + strings.Repeat("<", maxPayload-2) + `"`,
		"spaced":        "{" + strings.Repeat("\n ", 1000) + "}",
	} {
		t.Run(name, func(t *testing.T) {
			d := newDevice(t)
			d.must(d.agent.Fetch("1", digestOf("1"), &Command{"c1", []byte(payload)}))
			d.must(d.agent.Drop())
			d.must(d.agent.Fetch("2", digestOf("2"), &Command{"c2", []byte(payload)}))
			d.must(d.agent.Allow(digestOf("2"))) // reads and writes it again
			if p := d.phase(); p.Command == nil || p.Command.ID != "c2" {
				t.Errorf("got %+v", p.Command)
			}
		})
	}
}

func TestTheOldestRefusalsAreForgotten(t *testing.T) {
	var p Phase
	for i := range 100 {
		p.refuse(digestOf(time.Duration(i).String()))
	}
	if len(p.Refused) != maxRefused || !p.IsRefused(digestOf("99ns")) || p.IsRefused(digestOf("0s")) {
		t.Errorf("got %d refusals", len(p.Refused))
	}
}

func TestCurrentFollowsThePhase(t *testing.T) {
	d := newDevice(t)
	l := d.slots.Launcher()
	for _, n := range []Name{Package, A, A, B, Package, B} {
		d.must(os.MkdirAll(d.slots.dir, 0o700))
		d.must(l.Point(Phase{Slot: n}))
		want := string(n)
		if n == Package {
			want = ""
		}
		if to, _ := os.Readlink(d.slots.path("current")); to != want {
			t.Errorf("current leads to %q, want %q", to, want)
		}
	}
}

func TestPhasesThatMakeNoSenseAreDamaged(t *testing.T) {
	d := newDevice(t)
	d.tried(sample("2"))
	b, err := os.ReadFile(d.slots.path("phase.json"))
	d.must(err)
	for _, change := range [][2]string{
		{`"schema":1`, `"schema":2`}, {`"trial"`, `"try"`}, {`"a"`, `"c"`}, {`"package"`, `"a"`}, {`"package"`, `""`},
		{`sha256`, `sha1`}, {`"trial_s":300`, `"trial_s":0`}, {`"trial_s":300`, `"trial_s":1e5`},
		{`"starts":1`, `"starts":-1`}, {`"starts":1`, `"verdict":"mood"`}, {`"starts":1`, `"provisional":true`},
		{`"starts":1`, `"last":{"outcome":"won"}`}, {`"starts":1`, `"last":{"outcome":"confirmed", "reason":"mood"}`},
		{`"starts":1`, `"refused":["x"]`}, {`"c-2"`, `""`}, {`{}`, ``}, {`}`, ``},
		{`"version":"2"`, `"version":"` + strings.Repeat("2", 200) + `"`},
	} {
		changed := strings.Replace(string(b), change[0], change[1], 1)
		if _, err := Parse([]byte(changed)); err == nil || changed == string(b) {
			t.Errorf("%s for %s is taken", change[1], change[0])
		}
	}
	if _, err := Parse([]byte(strings.Replace(string(b), `"schema"`, `"new":{}, "schema"`, 1))); err != nil {
		t.Errorf("what a newer release adds: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"schema":1,"phase":"idle","slot":"package","previous":"package"}`))
	f.Add([]byte(`{"schema":1,"phase":"trial","slot":"b","previous":"a","digest":"` + digestOf("") + `","trial_s":300,` +
		`"verdict":"no_link","command":{"id":"1","payload":{"a":1}}}`))
	f.Add([]byte(`{"schema":1,"phase":"undecided","slot":"a","previous":"b","refused":["` + digestOf("") + `"],` +
		`"last":{"outcome":"undecided","reason":"no_link","tail":"x\ud800","ts":"2026-11-28T20:00:00Z"}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := Parse(b)
		if err != nil {
			return
		}
		again, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		if len(again) > maxPhase {
			return
		}
		q, err := Parse(again)
		if err != nil || !reflect.DeepEqual(p.Candidates(), q.Candidates()) || p.Phase != q.Phase {
			t.Errorf("%s is read again as %+v, %v", again, q, err)
		}
		if all := p.Candidates(); all[0] != p.Slot || !slices.Contains(all, Package) {
			t.Errorf("candidates are %v", all)
		}
	})
}
