package governor

import (
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestNewSaysWhatIsWrong(t *testing.T) {
	with := func(change func([]Member) []Member) []Member { return change(six()) }
	for _, tt := range []struct {
		name    string
		members []Member
		mode    string
		want    string
	}{
		{"no member", nil, "balanced", "1 to 16"},
		{"too many members", make([]Member, MaxMembers+1), "balanced", "not among"},
		{"no profile", with(func(m []Member) []Member { m[0].Latency = 0; return m }), "balanced", "profile it"},
		{"top-1 in percent", with(func(m []Member) []Member { m[0].Top1 = 74; return m }), "balanced", "top-1"},
		{"top-1 not a number", with(func(m []Member) []Member { m[0].Top1 = math.NaN(); return m }), "balanced", "top-1"},
		{"not sorted", with(func(m []Member) []Member { m[1], m[2] = m[2], m[1]; return m }), "balanced", "Pareto"},
		{"slower and no better", with(func(m []Member) []Member { m[2].Top1 = m[1].Top1; return m }), "balanced", "Pareto"},
		{"unknown member fixed", six(), "fixed:s9", "s0, s1, s2"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := New(tt.members, mustMode(t, tt.mode), nil)
			want := strings.ReplaceAll(tt.want, "not among", "chooses among")
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("got %v, want an error that says %q", err, want)
			}
		})
	}
}

func TestAnyProfileHasATable(t *testing.T) {
	for _, p := range []time.Duration{1, time.Microsecond, time.Second, 24 * time.Hour} {
		g := mustGovernor(t, []Member{{Name: "a", Top1: 0.5, Latency: p}}, Mode{})
		d := g.Decide(0, Queue{Deadline: math.MaxInt64})
		if math.IsNaN(d.Chance) || d.Chance < 0.5 {
			t.Errorf("profile %v: got %+v", p, d)
		}
	}
}

func TestFirstJobIsServedAndTheOperatingMemberSettles(t *testing.T) {
	d := newDevice(mustGovernor(t, six(), Mode{}), ms(50), ms(48))
	first := d.job()
	if first.Shed || first.Switched {
		t.Errorf("first decision %+v, want it served and not called a switch", first)
	}
	for d.now < time.Second {
		d.job()
	}
	if got := d.g.Operating(); got != 5 {
		t.Errorf("operating member %d after a second on an unloaded device, want 5", got)
	}
}

func TestEligibility(t *testing.T) {
	g := mustGovernor(t, six(), Mode{})
	d := newDevice(g, ms(50), ms(48))
	if err := g.SetEligible(make([]bool, 6)); err == nil {
		t.Error("no member eligible: got no error")
	}
	if err := g.SetEligible([]bool{true}); err == nil {
		t.Error("one flag for six members: got no error")
	}
	only := func(flags ...bool) {
		if err := g.SetEligible(flags); err != nil {
			t.Fatal(err)
		}
	}
	only(true, false, false, false, false, false)
	for _, got := range d.jobs(100) {
		if got.Member != 0 {
			t.Fatalf("got %+v, want the only eligible member", got)
		}
	}
	only(true, true, true, true, true, true)
	d.jobs(100)
	if got := g.Operating(); got != 5 {
		t.Errorf("all eligible: operating member %d, want 5", got)
	}
	only(false, true, false, true, false, false)
	got := d.job()
	if !got.Switched || got.Previous != 5 || got.Operating != 3 || got.Member != 3 {
		t.Errorf("members 1 and 3 eligible: got %+v, want a switch from 5 to 3", got)
	}
}

func TestModes(t *testing.T) {
	for _, tt := range []struct {
		mode     string
		gap      float64
		deadline float64
		factor   float64
		member   int
		reason   Reason
	}{
		{"balanced", 20, 48, 1, 5, Best},
		{"balanced", 20, 12, 1, 3, Best},
		{"max-accuracy", 20, 48, 1, 5, Best},
		{"max-accuracy", 20, 48, 1.9, 4, Best},
		{"max-accuracy", 150, 2, 1, 0, Infeasible},
		{"low-latency", 20, 48, 1, 3, Fastest},
		{"low-latency", 20, 5, 1, 0, Fastest},
		{"power-save", 20, 48, 1, 2, Cheapest},
		{"power-save", 20, 5, 1, 0, Cheapest},
		{"fixed:s2", 20, 48, 1, 2, Fixed},
		{"fixed:s2", 20, 48, 3, 2, Fixed},
	} {
		t.Run(tt.mode, func(t *testing.T) {
			d := newDevice(mustGovernor(t, six(), mustMode(t, tt.mode)), ms(tt.gap), ms(tt.deadline))
			d.load(tt.factor)
			d.jobs(2000)
			if got := d.job(); got.Member != tt.member || got.Reason != tt.reason || got.Shed {
				t.Errorf("%v ms, load %v: got %+v, want member %d for reason %s", tt.deadline, tt.factor, got, tt.member, tt.reason)
			}
		})
	}
}

func TestSetModeTakesEffectAtOnce(t *testing.T) {
	d := newDevice(mustGovernor(t, six(), Mode{}), ms(10), ms(48))
	d.jobs(100)
	for _, tt := range []struct {
		mode string
		want int
	}{{"fixed:s0", 0}, {"balanced", 5}, {"low-latency", 3}, {"max-accuracy", 5}} {
		if err := d.g.SetMode(mustMode(t, tt.mode)); err != nil {
			t.Fatal(err)
		}
		if got := d.job(); !got.Switched || got.Operating != tt.want {
			t.Errorf("mode %s: got %+v, want a switch to member %d", tt.mode, got, tt.want)
		}
	}
	before := d.g.Mode()
	if err := d.g.SetMode(mustMode(t, "fixed:none")); err == nil || d.g.Mode() != before {
		t.Errorf("unknown member: got %v and mode %s, want an error and mode %s", err, d.g.Mode(), before)
	}
}

func TestFixedMemberNotYetEligible(t *testing.T) {
	d := newDevice(mustGovernor(t, six(), mustMode(t, "fixed:s4")), ms(10), ms(48))
	if err := d.g.SetEligible([]bool{true, true, false, false, false, true}); err != nil {
		t.Fatal(err)
	}
	if got := d.job(); got.Member != 1 || got.Reason != Hold {
		t.Errorf("got %+v, want the next smaller member 1 on hold", got)
	}
	if err := d.g.SetEligible([]bool{true, true, false, false, true, true}); err != nil {
		t.Fatal(err)
	}
	if got := d.g.Operating(); got != 4 {
		t.Errorf("the member came: got member %d operating before the next job, want 4", got)
	}
}

func TestFloor(t *testing.T) {
	for _, tt := range []struct {
		mode   string
		floor  float64
		factor float64
		member int
		reason Reason
		shed   bool
	}{
		{"balanced", 0.79, 1, 5, Best, false},
		{"balanced", 0.78, 4, 4, Floor, false},
		{"balanced", 0.7903, 12, 5, Busy, true},
		{"balanced", 0.95, 1, 5, Infeasible, true},
		{"fixed:s0", 0.77, 1, 3, Floor, false},
		{"low-latency", 0.78, 1, 4, Floor, false},
	} {
		d := newDevice(mustGovernor(t, six(), mustMode(t, tt.mode)), ms(10), ms(60))
		d.load(tt.factor)
		d.jobs(200)
		d.floor = tt.floor
		if got := d.job(); got.Member != tt.member || got.Reason != tt.reason || got.Shed != tt.shed {
			t.Errorf("%s, floor %v, load %v: got %+v, want member %d, %s, shed %v", tt.mode, tt.floor, tt.factor, got, tt.member,
				tt.reason, tt.shed)
		}
	}
}

func TestExpiredJobIsShed(t *testing.T) {
	d := newDevice(mustGovernor(t, six(), Mode{}), ms(10), ms(48))
	d.jobs(20)
	if got := d.g.Decide(d.now, Queue{Deadline: d.now - ms(1)}); !got.Shed || got.Reason != Busy {
		t.Errorf("got %+v, want it shed as busy", got)
	}
	d.now += Blind + 1
	if got := d.g.Decide(d.now, Queue{Deadline: d.now - ms(1)}); got.Shed || got.Member != 0 || got.Reason != Probe {
		t.Errorf("nothing observed for 100 ms: got %+v, want the smallest member to probe", got)
	}
}

func TestWaitingJobsShareTheTime(t *testing.T) {
	d := newDevice(mustGovernor(t, six(), Mode{}), ms(50), ms(60))
	d.jobs(100)
	last := 5
	for _, waiting := range []int{0, 3, 8} {
		q := Queue{Deadline: d.now + ms(60)}
		for range waiting {
			q.Waiting = append(q.Waiting, d.now+ms(60))
		}
		got := d.g.Decide(d.now, q)
		if got.Member > last || waiting > 0 && (got.Member == last || got.Reason != Queued) {
			t.Errorf("%d waiting: got %+v, want less than member %d for reason %s", waiting, got, last, Queued)
		}
		if got.Switched {
			t.Errorf("%d waiting: a choice for one job was called a switch", waiting)
		}
		last = got.Member
	}
}

func TestSlowdownFollowsTheLoad(t *testing.T) {
	for _, factor := range []float64{1, 3, 6, 60} {
		d := newDevice(mustGovernor(t, six(), Mode{}), ms(10), ms(2000))
		d.load(factor)
		d.jobs(300)
		if got := d.g.Slowdown(); got < 0.7*factor || got > 1.4*factor {
			t.Errorf("got a slowdown of %.2f, want about %v", got, factor)
		}
	}
}

func TestSameInputsSameDecisions(t *testing.T) {
	run := func() []Decision {
		d := newDevice(mustGovernor(t, six(), Mode{}), ms(7), ms(40))
		r := rand.New(rand.NewPCG(3, 4))
		var all []Decision
		for range 3000 {
			if r.IntN(100) == 0 {
				d.load(1 + 8*r.Float64())
			}
			all = append(all, d.job())
		}
		return all
	}
	if !slices.Equal(run(), run()) {
		t.Error("two runs with the same inputs differ")
	}
}

func TestExplainNamesMemberAndFigures(t *testing.T) {
	d := newDevice(mustGovernor(t, six(), Mode{}), ms(10), ms(48))
	d.jobs(100)
	got := d.g.Explain(d.job())
	if want := "s5 is the best expected accuracy, with 48.0 ms of slack"; !strings.HasPrefix(got, want) {
		t.Errorf("got %q, want it to start with %q", got, want)
	}
	got = d.g.Explain(d.g.Decide(d.now, Queue{Deadline: d.now - ms(1)}))
	if want := "refused: even s0 is not likely to meet a deadline passed 1.0 ms ago"; !strings.HasPrefix(got, want) {
		t.Errorf("got %q, want it to start with %q", got, want)
	}
}

func TestReasonsAreStableWords(t *testing.T) {
	want := []string{"best", "queue", "batch", "hold", "floor", "probe", "fixed", "fastest", "cheapest", "infeasible",
		"busy"}
	for r := Best; r <= Busy; r++ {
		if got := r.String(); got != want[r] {
			t.Errorf("reason %d: got %q, want %q", r, got, want[r])
		}
	}
}
