package bench

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/limber-edge/limber/agent/governor"
	"github.com/limber-edge/limber/family"
)

// slowSession takes a while, on the clock of the bubble.
type slowSession struct{ took time.Duration }

func (s slowSession) Run(out []float32, _ ...[]float32) error {
	<-time.After(s.took)
	copy(out, []float32{0, 1})
	return nil
}

func (slowSession) Interrupt()   {}
func (slowSession) Close() error { return nil }

// mustLive is a benchmark in a synctest bubble, of members that take 5, 10 and
// 20 ms unloaded, and now four times as long. The smallest is in time for one of
// the deadlines, none for the other.
func mustLive(t *testing.T) *liveBench {
	t.Helper()
	fam := &family.Family{Classes: make([]string, 2)}
	l := &liveBench{Bench: Bench{Progress: silent{}}, args: LiveOptions{Slot: time.Second,
		Deadlines: []float64{12, 30}}, frame: liveFrame()}
	var sessions []family.Session
	for i, ms := range []float64{5, 10, 20} {
		name, top1 := fmt.Sprintf("s%d", i), 0.7+0.1*float64(i)
		fam.Members = append(fam.Members, family.Member{Name: name, Top1: top1, Arch: family.Arch{R: 4}})
		l.members = append(l.members, governor.Member{Name: name, Top1: top1, Latency: millis(ms)})
		sessions = append(sessions, slowSession{millis(4 * ms)})
	}
	var err error
	if l.core, err = newCore(t.Context(), fam, sessions, l.members); err != nil {
		t.Fatal(err)
	}
	if err := l.openServers(t.Context()); err != nil {
		t.Fatal(err)
	}
	return l
}

// mustTurn lets a policy serve a slot.
func mustTurn(t *testing.T, l *liveBench, policy string, deadline time.Duration) *server {
	t.Helper()
	i := slices.IndexFunc(l.servers, func(s *server) bool { return s.name == policy && s.deadline == deadline })
	if i < 0 {
		t.Fatalf("nobody serves as %s with a deadline of %v", policy, deadline)
	}
	s := l.servers[i]
	began := time.Now()
	if err := l.turn(t.Context(), s, 0); err != nil {
		t.Fatal(err)
	}
	if over := time.Since(began) - l.args.Slot; over < 0 || over > millis(4*20) {
		t.Errorf("%s served %v over its slot, want at most one frame", policy, over)
	}
	return s
}

func TestLiveRivalsRunWhatTheyChoseHoweverLate(t *testing.T) {
	for _, tt := range []struct {
		policy string
		first  []int // members, of the first frames
		rest   int   // member of all others
	}{
		{"static:2", nil, 2},
		{"dynamic-ofa", slices.Repeat([]int{1}, 20), 0}, // it holds 20 latencies against the deadline
	} {
		t.Run(tt.policy, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := mustLive(t)
				got := mustTurn(t, l, tt.policy, millis(30)).choices[0]
				want := append(tt.first, slices.Repeat([]int{tt.rest}, max(0, len(got)-len(tt.first)))...)
				if !slices.Equal(got, want) {
					t.Errorf("got %v, want %v", got, want)
				}
				if err := l.close(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

func TestALiveRefusalIsNoMember(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := mustLive(t)
		s := mustTurn(t, l, "limber", millis(12)) // the smallest takes 20 ms
		if !slices.Contains(s.choices[0], refused) {
			t.Errorf("got %v, want frames refused", s.choices[0])
		}
		if want := 1 / float64(len(liveHogs())); s.score.Missed < want-1e-9 || s.score.Accuracy != 0 {
			t.Errorf("got %v missed, an accuracy of %v; want %v and 0", s.score.Missed, s.score.Accuracy, want)
		}
		if err := l.close(); err != nil {
			t.Error(err)
		}
	})
}

// TestLimberLearnsFromItsOwnTurnsOnly compares what its governors know before and
// after the turns of everybody else.
func TestLimberLearnsFromItsOwnTurnsOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := mustLive(t)
		l.args.Slot = 200 * time.Millisecond
		for _, watched := range l.servers {
			if watched.policy != nil {
				continue
			}
			before := mustKnow(t, watched)
			for _, s := range l.servers {
				if s != watched {
					mustTurn(t, l, s.name, s.deadline)
				}
			}
			if after := mustKnow(t, watched); !reflect.DeepEqual(before, after) {
				t.Errorf("%s with a deadline of %v learned from others' turns: got %+v, want %+v", watched.name,
					watched.deadline, after, before)
			}
			if mustTurn(t, l, watched.name, watched.deadline); reflect.DeepEqual(before, mustKnow(t, watched)) {
				t.Errorf("%s with a deadline of %v learned nothing from its own turn", watched.name, watched.deadline)
			}
		}
		if err := l.close(); err != nil {
			t.Error(err)
		}
	})
}

// mustKnow is what the governor of a server has learned.
func mustKnow(t *testing.T, s *server) governor.Experience {
	t.Helper()
	e, err := s.core.pipe.Experience(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// With real members and load: TestLiveServesWithRealMembers.
func TestLiveHasALineOfEachPolicyWithEachDeadlineAndWithAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := mustLive(t)
		l.args.Slot = 200 * time.Millisecond
		if err := l.survey(t.Context(), 0, 0); err != nil {
			t.Fatal(err)
		}
		for _, s := range l.servers {
			mustTurn(t, l, s.name, s.deadline)
		}
		mustLine(t, l.lines(), map[string]int{"dynamic-ofa": 3, "alert": 3, "static:2": 3, "limber": 3})
		if err := l.close(); err != nil {
			t.Error(err)
		}
	})
}

// mustLine counts the lines of each policy.
func mustLine(t *testing.T, lines []GovernorLine, want map[string]int) {
	t.Helper()
	got := map[string]int{}
	for _, l := range lines {
		got[l.Policy]++
		if !(l.Accuracy >= 0 && l.Accuracy < 1) || l.Missed > 100 {
			t.Errorf("got %+v, want an accuracy and a share of misses", l)
		}
	}
	if !maps.Equal(got, want) {
		t.Errorf("got lines %v, want %v", got, want)
	}
}

func TestARefusalIsNoSwitch(t *testing.T) {
	for _, tt := range []struct {
		phases [][]int
		want   int
	}{
		{[][]int{{2, refused, 2, refused, refused, 2}}, 0},
		{[][]int{{refused, refused, 1, 1}}, 0},
		{[][]int{{2, refused, 0, 0}}, 1},
		{[][]int{{2, 1, 2}, {0, 0, 0}}, 2}, // between phases the others had their turns
		{[][]int{{refused, refused}, {}}, 0},
	} {
		frames := 0
		for _, p := range tt.phases {
			frames += len(p)
		}
		if all, _ := switchesOf(tt.phases); int(all*float64(frames)+0.5) != tt.want {
			t.Errorf("%v: got %v switches a frame, want %d in %d frames", tt.phases, all, tt.want, frames)
		}
	}
}

func TestAPhaseThatBeginsWithARefusalSettlesTheWayItMoved(t *testing.T) {
	worth := []float64{0.7, 0.1, 0}
	for _, tt := range []struct {
		name     string
		choices  []int
		down, up []int
	}{
		{"down", []int{refused, refused, 2, 1, 0, 0, 0, 0, 0, 0}, []int{4}, nil},
		{"nothing ran", slices.Repeat([]int{refused}, 10), nil, nil},
		{"the first that ran was right", []int{refused, 0, 0, 0, 0, 0, 0, 0, 0, 0}, nil, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var s server
			s.settle(worth, tt.choices)
			if !slices.Equal(s.score.Down, tt.down) || !slices.Equal(s.score.Up, tt.up) {
				t.Errorf("got down %v, up %v; want %v, %v", s.score.Down, s.score.Up, tt.down, tt.up)
			}
		})
	}
}
