package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/limber-edge/limber/agent/bench/desk"
	"github.com/limber-edge/limber/agent/bench/load"
	"github.com/limber-edge/limber/agent/governor"
	"github.com/limber-edge/limber/agent/governor/replay"
	"github.com/limber-edge/limber/agent/pipeline"
	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/family/ort"
	"github.com/limber-edge/limber/family/resident"
)

// liveHogs is the load that comes and goes, in CPU-bound processes.
func liveHogs() []int { return []int{0, 1, 0, 2, 0, 4} }

// LiveOptions are what a live benchmark may be told.
type LiveOptions struct {
	Supernet  string        // of the members; empty: the stock family's
	Deadlines []float64     // ms; none: by the largest member
	Slot      time.Duration // for which a policy serves in each phase with each deadline
}

// Live lets policies serve frames on this machine under the same load, in turns.
func Live(ctx context.Context, b Bench, rt *ort.Runtime, o LiveOptions) ([]GovernorLine, error) {
	l := liveBench{Bench: b, args: o, frame: liveFrame()}
	return l.measure(ctx, rt)
}

// liveBench is one run of the benchmark.
type liveBench struct {
	Bench
	args    LiveOptions
	members []governor.Member
	core    *core // whose pipeline serves the rivals
	frame   []byte
	servers []*server
	phases  []replay.Trace // all members, measured in each phase
}

// server is one policy with one deadline.
type server struct {
	name     string
	deadline time.Duration
	core     *core         // that serves its frames; Limber's is its own, as a governor learns from all it runs
	policy   replay.Policy // nil: the pipeline's own governor
	overhead time.Duration // of a frame beside its inference, a moving average
	choices  [][]int       // by phase; refused where no member ran
	score    replay.Score
}

func (l *liveBench) measure(ctx context.Context, rt *ort.Runtime) ([]GovernorLine, error) {
	fam, blobs, err := familyOf(rt, l.args.Supernet)
	if err != nil {
		return nil, err
	}
	shelf := resident.New(rt, fam, blobs, l.Dir, ort.DefaultOptions(), nil)
	l.Progress.Say("loading and profiling members")
	sessions, err := openSessions(shelf, len(fam.Members))
	if err != nil {
		return nil, err
	}
	profile, err := shelf.Profile(ctx, sessions, func() {})
	if err != nil {
		return nil, errors.Join(err, closeSessions(sessions))
	}
	fam, sessions, err = l.front(fam, profile, sessions)
	if err != nil {
		return nil, err
	}
	if l.core, err = newCore(ctx, fam, sessions, l.members); err != nil {
		return nil, errors.Join(err, closeSessions(sessions))
	}
	err = l.openServers(ctx)
	if err == nil {
		err = l.serve(ctx)
	}
	return l.lines(), errors.Join(err, l.close(), closeSessions(sessions))
}

func (l *liveBench) close() error {
	var errs []error
	for _, s := range l.servers {
		if s.core != l.core {
			errs = append(errs, s.core.close())
		}
	}
	return errors.Join(append(errs, l.core.close())...)
}

// front leaves the members that are worth using on this machine, as an agent
// does, and closes the others.
func (l *liveBench) front(fam *family.Family, p *family.Profile, all []family.Session) (
	*family.Family, []family.Session, error) {
	front := *fam
	front.Members = nil
	var sessions, others []family.Session
	for i, m := range fam.Members {
		if !slices.Contains(p.Front(fam), i) {
			others = append(others, all[i])
			continue
		}
		front.Members, sessions = append(front.Members, m), append(sessions, all[i])
		l.members = append(l.members, governor.Member{Name: m.Name, Top1: m.Top1, Latency: millis(p.Members[i].P50ms)})
	}
	return &front, sessions, closeSessions(others)
}

// deadlines are those asked for, or such that the largest member just misses
// the first, as 16 to 48 ms are for one that takes 23 ms.
func (l *liveBench) deadlines() []time.Duration {
	var all []time.Duration
	for _, ms := range l.args.Deadlines {
		all = append(all, millis(ms))
	}
	if len(all) > 0 {
		return all
	}
	largest := l.members[len(l.members)-1].Latency
	for _, times := range [4]float64{0.7, 1, 1.4, 2.1} {
		all = append(all, time.Duration(times*float64(largest)).Round(100*time.Microsecond))
	}
	return all
}

func (l *liveBench) openServers(ctx context.Context) error {
	largest := fmt.Sprintf("static:%d", len(l.members)-1)
	for _, d := range l.deadlines() {
		for _, e := range replay.Field(l.members) {
			s := &server{name: e.Name, deadline: d, core: l.core}
			var err error
			switch e.Name {
			case "limber":
				s.core, err = newCore(ctx, l.core.fam, l.core.sessions, l.members)
			case "alert", "dynamic-ofa", largest:
				s.policy = e.New()
			default:
				continue
			}
			if err != nil {
				return err
			}
			l.servers = append(l.servers, s)
		}
	}
	return nil
}

// serve goes through the phases. The order of policies turns with each.
func (l *liveBench) serve(ctx context.Context) error {
	var h load.Hogs
	defer h.Clear()
	for phase, n := range liveHogs() {
		if err := h.Set(load.CPU, n); err != nil {
			return err
		}
		if err := l.survey(ctx, phase, n); err != nil {
			return err
		}
		for i := range l.servers {
			l.Progress.Tell(fmt.Sprintf("phase %d of %d, %d processes", phase+1, len(liveHogs()), n), i, len(l.servers))
			if err := l.turn(ctx, l.servers[(i+phase)%len(l.servers)], phase); err != nil {
				return err
			}
		}
	}
	return h.Clear()
}

// survey measures all members in turns, to know the phase's best one.
func (l *liveBench) survey(ctx context.Context, phase, hogs int) error {
	r := rand.New(rand.NewPCG(uint64(phase), 0))
	out := make([]float32, len(l.core.fam.Classes))
	var trace replay.Trace
	for end := time.Now().Add(2 * l.args.Slot); time.Now().Before(end); {
		s := replay.Step{Phase: phase, Load: hogs, Latency: make([]time.Duration, len(l.members))}
		for _, i := range r.Perm(len(l.members)) {
			if err := ctx.Err(); err != nil {
				return err
			}
			ms, err := l.core.bare(i, out)
			if err != nil {
				return err
			}
			s.Latency[i] = millis(ms)
		}
		trace = append(trace, s)
	}
	l.phases = append(l.phases, trace)
	return nil
}

// turn lets one policy serve frames for a slot, one each deadline, and scores
// what became of them.
func (l *liveBench) turn(ctx context.Context, s *server, phase int) error {
	var choices []int
	missed, accuracy := 0.0, 0.0
	for begin, n := time.Now(), 0; time.Since(begin) < l.args.Slot; n++ {
		if err := desk.Wait(ctx, begin.Add(time.Duration(n)*s.deadline)); err != nil {
			return err
		}
		member, met, err := l.one(ctx, s)
		if err != nil {
			return err
		}
		choices = append(choices, member)
		if met {
			accuracy += l.members[member].Top1
		} else {
			missed++
		}
	}
	s.choices = append(s.choices, choices)
	n := float64(len(choices)) * float64(len(liveHogs()))
	s.score.Accuracy += accuracy / n
	s.score.Missed += missed / n
	if phase > 0 {
		s.settle(l.phases[phase].Worth(s.deadline-s.overhead, l.members), choices)
	}
	return nil
}

// refused stands for a frame that no member ran.
const refused = -1

// patience is the deadline that the pipeline is told for the frames of rivals.
// With the real one its governor would refuse some of them: the rivals would
// never see the latencies that they learn from.
const patience = time.Minute

// one serves one frame. A policy that is not the pipeline's own fixes the member
// before, and is told the latency after. It is not asked whether it would shed:
// the rivals as published answer every frame.
func (l *liveBench) one(ctx context.Context, s *server) (member int, met bool, err error) {
	deadline := s.deadline
	if s.policy != nil {
		deadline = patience
		now := time.Since(s.core.began)
		s.policy.Arrive(now)
		choice, _ := s.policy.Decide(now, governor.Queue{Deadline: now + s.deadline - s.overhead})
		if err := s.core.fix(ctx, choice); err != nil {
			return refused, false, err
		}
	}
	done := make(chan pipeline.Answer, 1)
	s.core.pipe.Submit(pipeline.Job{Body: l.frame, Received: time.Now(), Deadline: deadline,
		Answer: func(a *pipeline.Answer) {
			done <- *a
		}})
	a := <-done
	if a.Reason != "" {
		return refused, false, nil
	}
	s.overhead += (min(a.Total-a.Infer, s.deadline/2) - s.overhead) / overheadMemory
	if s.policy != nil {
		s.policy.Observe(time.Since(s.core.began), a.Member, a.Infer)
	}
	return a.Member, a.Total <= s.deadline, nil
}

// overheadMemory is how many frames the overhead is averaged over.
const overheadMemory = 8

// liveFrame is a JPEG of 224×224 pixels with some detail.
func liveFrame() []byte {
	img := image.NewRGBA(image.Rect(0, 0, 224, 224))
	for y := range 224 {
		for x := range 224 {
			img.Set(x, y, color.RGBA{uint8(x * y / 200), uint8(x + y), uint8(x ^ y), 255})
		}
	}
	var b bytes.Buffer
	if err := jpeg.Encode(&b, img, nil); err != nil {
		panic(err) // a buffer does not fail
	}
	return b.Bytes()
}

// settle notes how many frames of a phase it took to settle. The first member
// that ran tells which way the policy had to move: a refusal is no member. Where
// none ran at all there is no way to tell.
func (s *server) settle(worth []float64, choices []int) {
	first := slices.IndexFunc(choices, func(c int) bool { return c != refused })
	if first < 0 {
		return
	}
	n, move := replay.Settled(worth, choices[first:])
	switch {
	case move < 0:
		s.score.Down = append(s.score.Down, first+n)
	case move > 0:
		s.score.Up = append(s.score.Up, first+n)
	}
}

// lines are the figures of every policy with each deadline, and with all.
func (l *liveBench) lines() (lines []GovernorLine) {
	byName := map[string][]replay.Score{}
	var names []string
	for _, s := range l.servers {
		s.score.Switches, s.score.Steady = switchesOf(s.choices)
		best := 0.0
		for _, p := range l.phases {
			best += slices.Max(p.Worth(s.deadline-s.overhead, l.members)) / float64(len(l.phases))
		}
		if best > 0 {
			s.score.Regret = 1 - s.score.Accuracy/best
		}
		if byName[s.name] == nil {
			names = append(names, s.name)
		}
		byName[s.name] = append(byName[s.name], s.score)
		lines = append(lines, newGovernorLine(s.name, float64(s.deadline)/1e6, s.score))
	}
	for _, name := range names {
		lines = append(lines, newGovernorLine(name, 0, replay.Pool(byName[name])))
	}
	return lines
}

// switchesOf counts changes of member per frame, in all and from the fifth of a
// phase. A refusal is none: the member after it is held against the one before.
func switchesOf(phases [][]int) (all, steady float64) {
	frames, calm := 0.0, 0.0
	for _, choices := range phases {
		last := refused
		for i, c := range choices {
			switched := 0.0
			if c != refused {
				if last != refused && c != last {
					switched = 1
				}
				last = c
			}
			frames++
			all += switched
			if i >= 4 {
				calm++
				steady += switched
			}
		}
	}
	return all / max(frames, 1), steady / max(calm, 1)
}
