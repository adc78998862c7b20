package sim

import (
	"context"
	"errors"
	"math"
	"time"

	"github.com/limber-edge/limber/agent"
	"github.com/limber-edge/limber/agent/engine"
	"github.com/limber-edge/limber/family"
)

// Runtime is what stands for the version of ONNX Runtime.
const Runtime = "sim"

// Inference makes simulated members of any family.
type Inference struct {
	Shape func(*Loader) // how they do, before they are used; nil: as Loader says
}

// Version is what profiles are said to be of.
func (Inference) Version() string { return Runtime }

// Shared tells that it comes with every program.
func (Inference) Shared() bool { return true }

// Close does nothing: nothing is open.
func (Inference) Close() error { return nil }

// Members makes those of a family, whose blobs nobody reads.
func (i Inference) Members(f *family.Family, _ family.Blobs) (agent.Members, error) {
	return func(v family.Variant) (engine.Loader, error) {
		l := &Loader{Family: f, On: v}
		if i.Shape != nil {
			i.Shape(l)
		}
		return l, nil
	}, nil
}

// Loader makes members that take a given time. It stands in for the costly part of
// a device, so that hundreds of agents fit into one process, and tests say what
// members do. Its fields are set before it is used; all but Family may be zero.
type Loader struct {
	Family *family.Family
	On     family.Variant

	// Latency is what an inference by a member takes; nil is a millisecond for the
	// first and a quarter more for each that follows.
	Latency func(member int) time.Duration
	// Takes is what it takes indeed, where that is not what the profile says; nil: Latency.
	Takes func(member int) time.Duration
	// Astray tells whether a member gives a picture, by the mean of its tensor, to the
	// wrong class; nil: none does.
	Astray func(member int, mean float64) bool
	// Load is called before a session is made, and may wait or fail.
	Load func(member int) error
	// Run is called at each inference, and may wait or fail; interrupted holds a
	// token when it is to end.
	Run func(member int, interrupted <-chan struct{}) error
}

// Session returns a member.
func (l *Loader) Session(i int) (family.Session, error) {
	if l.Load != nil {
		if err := l.Load(i); err != nil {
			return nil, err
		}
	}
	return &session{loader: l, member: i, interrupted: make(chan struct{}, 1)}, nil
}

func (l *Loader) latency(i int) time.Duration {
	if l.Latency != nil {
		return l.Latency(i)
	}
	return time.Duration(math.Pow(1.25, float64(i)) * float64(time.Millisecond))
}

func (l *Loader) takes(i int) time.Duration {
	if l.Takes != nil {
		return l.Takes(i)
	}
	return l.latency(i)
}

// Profile says what the members take, without running them.
func (l *Loader) Profile(_ context.Context, sessions []family.Session, _ func()) (*family.Profile, error) {
	p := &family.Profile{Schema: family.Schema, Family: l.Family.Digest(), Runtime: Runtime, Options: l.On.String(),
		Taken: time.Now().UTC(), Rounds: 1, Batch: family.Batch}
	for i, m := range l.Family.Members {
		ms := float64(l.latency(i)) / float64(time.Millisecond)
		one := family.MemberProfile{Name: m.Name, P50ms: ms, P95ms: ms, CV: 0.01}
		if sessions[i] == nil {
			one = family.MemberProfile{Name: m.Name, Fault: "no session"}
		}
		p.Members = append(p.Members, one)
	}
	return p, nil
}

// Pin does nothing: there are no weights.
func (l *Loader) Pin(int) (release func() error, err error) {
	return func() error { return nil }, nil
}

// Variant is what the members are said to run on.
func (l *Loader) Variant() family.Variant { return l.On }

// session is a member that waits.
type session struct {
	loader      *Loader
	member      int
	interrupted chan struct{} // holds a token
}

var errInterrupted = errors.New("terminated")

// Run writes logits that depend on the image alone: the same image has the same
// classes, whichever member answers, but for one that goes astray.
func (s *session) Run(out []float32, in ...[]float32) error {
	if err := s.work(len(in)); err != nil {
		return err
	}
	classes := len(s.loader.Family.Classes)
	for i, image := range in {
		var sum float64
		for _, v := range image {
			sum += float64(v)
		}
		mean, turn := sum/float64(len(image)), 0
		if s.loader.Astray != nil && s.loader.Astray(s.member, mean) {
			turn = 1
		}
		for c := range classes {
			out[i*classes+(c+turn)%classes] = float32(math.Sin(mean + float64(c)))
		}
	}
	return nil
}

// work takes the time of an inference of so many images.
func (s *session) work(images int) error {
	select {
	case <-s.interrupted: // meant for an earlier run
	default:
	}
	if run := s.loader.Run; run != nil {
		if err := run(s.member, s.interrupted); err != nil {
			return err
		}
	}
	select {
	case <-time.After(time.Duration(images) * s.loader.takes(s.member)):
		return nil
	case <-s.interrupted:
		return errInterrupted
	}
}

// Interrupt ends the run that is under way.
func (s *session) Interrupt() {
	select {
	case s.interrupted <- struct{}{}:
	default:
	}
}

// Close does nothing: there is no memory to free.
func (s *session) Close() error { return nil }
