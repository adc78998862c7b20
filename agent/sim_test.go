package agent_test

import (
	"context"
	"errors"
	"math"
	"time"

	"github.com/limber-edge/limber/family"
)

// simRuntime is what stands for the version of ONNX Runtime.
const simRuntime = "sim"

// simLoader makes members that take a given time. It stands in for the costly part of
// a device, so that hundreds of agents fit into one process, and tests say what
// members do. Its fields are set before it is used; all but Family may be zero.
type simLoader struct {
	Family *family.Family
	On     family.Variant

	// Latency is what an inference by a member takes; nil is a millisecond for the
	// first and a quarter more for each that follows.
	Latency func(member int) time.Duration
	// Load is called before a session is made, and may wait or fail.
	Load func(member int) error
	// Run is called at each inference, and may wait or fail; interrupted holds a
	// token when it is to end.
	Run func(member int, interrupted <-chan struct{}) error
}

// Session returns a member.
func (l *simLoader) Session(i int) (family.Session, error) {
	if l.Load != nil {
		if err := l.Load(i); err != nil {
			return nil, err
		}
	}
	return &simSession{loader: l, member: i, interrupted: make(chan struct{}, 1)}, nil
}

func (l *simLoader) latency(i int) time.Duration {
	if l.Latency != nil {
		return l.Latency(i)
	}
	return time.Duration(math.Pow(1.25, float64(i)) * float64(time.Millisecond))
}

// Profile says what the members take, without running them.
func (l *simLoader) Profile(_ context.Context, sessions []family.Session) (*family.Profile, error) {
	p := &family.Profile{Schema: family.Schema, Family: l.Family.Digest(), Runtime: simRuntime, Options: l.On.String(),
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
func (l *simLoader) Pin(int) (release func() error, err error) {
	return func() error { return nil }, nil
}

// Variant is what the members are said to run on.
func (l *simLoader) Variant() family.Variant { return l.On }

// simSession is a member that waits.
type simSession struct {
	loader      *simLoader
	member      int
	interrupted chan struct{} // holds a token
}

var errInterrupted = errors.New("terminated")

// Run writes logits that depend on the image alone: the same image has the same
// classes, whichever member answers.
func (s *simSession) Run(out []float32, in ...[]float32) error {
	if err := s.work(len(in)); err != nil {
		return err
	}
	classes := len(s.loader.Family.Classes)
	for i, image := range in {
		var sum float64
		for _, v := range image {
			sum += float64(v)
		}
		for c := range classes {
			out[i*classes+c] = float32(math.Sin(sum/float64(len(image)) + float64(c)))
		}
	}
	return nil
}

// work takes the time of an inference of so many images.
func (s *simSession) work(images int) error {
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
	case <-time.After(time.Duration(images) * s.loader.latency(s.member)):
		return nil
	case <-s.interrupted:
		return errInterrupted
	}
}

// Interrupt ends the run that is under way.
func (s *simSession) Interrupt() {
	select {
	case s.interrupted <- struct{}{}:
	default:
	}
}

// Close does nothing: there is no memory to free.
func (s *simSession) Close() error { return nil }
