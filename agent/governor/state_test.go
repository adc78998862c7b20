package governor

import (
	"encoding/json"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"
)

// busy drives a device through loads, queues, hints and changes of mode.
func busy(t *testing.T, d *device, seed uint64, jobs int) (all []Decision) {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, 1))
	for range jobs {
		switch r.IntN(200) {
		case 0:
			d.load(1 + 8*r.Float64())
		case 1:
			if err := d.g.SetMode(mustMode(t, []string{"balanced", "max-accuracy", "fixed:s2",
				"power-save"}[r.IntN(4)])); err != nil {
				t.Fatal(err)
			}
		case 2:
			d.g.Hint(r.IntN(4))
		case 3:
			d.now += time.Second
		case 4:
			if j := r.IntN(len(d.g.members)); d.g.SetBatch(j, 3*d.g.members[j].Latency) != nil {
				t.Fatalf("member %d takes no batches", j)
			}
		}
		waiting := make([]time.Duration, r.IntN(8))
		for i := range waiting {
			waiting[i] = d.now + ms(20*float64(i))
		}
		d.g.Arrive(d.now)
		got := d.g.Decide(d.now, Queue{Deadline: d.now + ms(48), Waiting: waiting, Ready: len(waiting) / 2})
		all = append(all, got)
		took := d.latency(got.Member)
		d.now += took
		d.g.Observe(d.now, got.Member, got.Batch, took)
	}
	return all
}

func TestARestoredGovernorDecidesTheSame(t *testing.T) {
	d := newDevice(mustGovernor(t, six(), Mode{}), ms(10), ms(48))
	for seed := range uint64(4) {
		busy(t, d, seed, 500)
		b, err := d.g.Snapshot()
		if err != nil {
			t.Fatal(err)
		}
		g, err := Restore(b)
		if err != nil {
			t.Fatal(err)
		}
		twin := *d
		twin.g = g
		twin.load(2)
		d.load(2)
		if want, got := busy(t, d, seed, 300), busy(t, &twin, seed, 300); !reflect.DeepEqual(got, want) {
			for i := range want {
				if got[i] != want[i] {
					t.Fatalf("seed %d, decision %d: got %+v, want %+v", seed, i, got[i], want[i])
				}
			}
		}
	}
}

func TestExperienceOutlivesARestart(t *testing.T) {
	d := newDevice(mustGovernor(t, six(), Mode{}), ms(10), ms(48))
	d.g.Hint(2)
	busy(t, d, 1, 2000)
	b, err := json.Marshal(d.g.Experience())
	if err != nil {
		t.Fatal(err)
	}
	var e Experience
	if err := json.Unmarshal(b, &e); err != nil {
		t.Fatal(err)
	}
	anew := mustGovernor(t, six(), Mode{})
	if err := anew.Remember(e); err != nil {
		t.Fatal(err)
	}
	again := anew.Experience()
	for k := range e.Met { // normalised anew
		if diff := again.Met[k] - e.Met[k]; diff > 1e-12 || diff < -1e-12 {
			t.Errorf("load %d: got %v, want %v", k, again.Met[k], e.Met[k])
		}
	}
	again.Met = e.Met
	if !reflect.DeepEqual(again, e) {
		t.Errorf("got %+v, want %+v", again, e)
	}
	members := six()
	members[3].Latency++
	profiledAnew := mustGovernor(t, members, Mode{})
	if err := profiledAnew.Remember(e); err != nil || profiledAnew.Experience().Bias["s3"].Log != 0 {
		t.Errorf("a correction outlived its profile: %v", err)
	}
}

func TestDamagedExperienceIsRefused(t *testing.T) {
	g := mustGovernor(t, six(), Mode{})
	good := g.Experience()
	for name, damage := range map[string]func(*Experience){
		"other loads":       func(e *Experience) { e.Met = e.Met[1:] },
		"negative weight":   func(e *Experience) { e.Met = append([]float64{-1}, e.Met[1:]...) },
		"no hints":          func(e *Experience) { e.Hints = nil },
		"a hint of nothing": func(e *Experience) { e.Hints = append([][]float64{make([]float64, levels)}, e.Hints[1:]...) },
		"a hint of more loads": func(e *Experience) {
			e.Hints = append([][]float64{make([]float64, levels+1)}, e.Hints[1:]...)
			e.Hints[0][0] = 1
		},
		"no trust": func(e *Experience) { e.Trust = 0 },
		"jumps":    func(e *Experience) { e.Jump = 2 },
	} {
		e := good
		damage(&e)
		if err := g.Remember(e); err == nil {
			t.Errorf("%s: got no error", name)
		}
	}
	if !reflect.DeepEqual(g.Experience(), good) {
		t.Error("damaged experience changed something")
	}
}

func TestASnapshotThatDoesNotFitIsRefused(t *testing.T) {
	b, err := mustGovernor(t, six(), Mode{}).Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ name, from, to string }{
		{"member below none", `"Member":-1`, `"Member":-2`},
		{"member that is not there", `"Told":-1`, `"Told":6`},
		{"unknown mode", `"Kind":0`, `"Kind":9`},
		{"unknown preference", `"Prefer":0`, `"Prefer":7`},
		{"nobody eligible", `"Eligible":63`, `"Eligible":0`},
	} {
		damaged := strings.Replace(string(b), tt.from, tt.to, 1)
		if _, err := Restore([]byte(damaged)); err == nil || damaged == string(b) {
			t.Errorf("%s: got %v", tt.name, err)
		}
	}
}

func FuzzRestore(f *testing.F) {
	g, err := New(six(), Mode{}, nil)
	if err != nil {
		f.Fatal(err)
	}
	b, err := g.Snapshot()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(`{}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if g, err := Restore(b); err == nil {
			g.Decide(0, Queue{Deadline: ms(10)})
			g.Observe(ms(3), 0, 1, ms(3))
		}
	})
}

func TestAMemberThatIsNotEligibleIsNoAlternative(t *testing.T) {
	g := mustGovernor(t, six(), Mode{})
	for _, tt := range []struct {
		eligible []bool
		want     string
	}{
		{[]bool{true, true, true, true, true, true}, "s5 is the best expected accuracy, with"},
		{[]bool{false, true, false, true, false, false}, "s3 is the best expected accuracy of the members in use, with"},
	} {
		if err := g.SetEligible(tt.eligible); err != nil {
			t.Fatal(err)
		}
		d := g.Decide(0, Queue{Deadline: time.Minute})
		if why := g.Explain(d); !strings.HasPrefix(why, tt.want) {
			t.Errorf("got %q, want %q", why, tt.want)
		}
		for j, o := range g.Options(nil) {
			if o.Eligible != tt.eligible[j] || o.Chance > 1 {
				t.Errorf("%v: got %+v", tt.eligible, o)
			}
		}
	}
}

func TestAMemberThatStandsInForTheFixedOneIsNamedAsSuch(t *testing.T) {
	g := mustGovernor(t, six(), mustMode(t, "fixed:s4"))
	if err := g.SetEligible([]bool{true, true, false, false, false, false}); err != nil {
		t.Fatal(err)
	}
	const want = "s1 stands in for s4, which is not in use, with"
	if why := g.Explain(g.Decide(0, Queue{Deadline: time.Minute})); !strings.HasPrefix(why, want) {
		t.Errorf("got %q, want %q", why, want)
	}
}

func TestOptionsAndBeliefExplainADecision(t *testing.T) {
	d := newDevice(mustGovernor(t, six(), Mode{}), ms(10), ms(48))
	d.jobs(100)
	got := d.job()
	options := d.g.Options(nil)
	if o := options[got.Member]; len(options) != 6 || o.Chance != got.Chance || o.Worth > 79.03 || o.Predicted < 20 {
		t.Errorf("decision %+v, options %+v", got, options)
	}
	if b := d.g.Belief(); b.Quiet < 0.9 || b.Every != 0 || !strings.Contains(b.String(), "alone on the processor") {
		t.Errorf("got %+v", b)
	}
	d.load(4)
	d.jobs(20)
	if b := d.g.Belief(); b.Quiet > 0.1 || b.Stolen == 0 || !strings.Contains(b.String(), "interruption") {
		t.Errorf("under a load: got %+v", b)
	}
}
