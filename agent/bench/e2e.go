package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/limber-edge/limber/agent/bench/camera"
	"github.com/limber-edge/limber/agent/bench/desk"
	"github.com/limber-edge/limber/agent/bench/figure"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/family/ort"
	"github.com/limber-edge/limber/family/resident"
	"github.com/limber-edge/limber/family/stock"
)

// E2E measures what a camera's frame takes on its whole way, broker and decoding
// included.
func E2E(ctx context.Context, b Bench, rt *ort.Runtime) error {
	e := e2eBench{Bench: b, rounds: Rounds, slot: 2 * time.Second, spell: spell, least: 5 * turns,
		sizes: [2]camera.Size{camera.VGA(), camera.HD()}}
	return e.run(ctx, rt)
}

// spell is how long ours is measured in a round, about.
const spell = 500 * time.Millisecond

// e2eBench measures frames on their whole way. Base does the same work as the
// agent, with the same member, in this process.
type e2eBench struct {
	Bench
	rounds int
	slot   time.Duration  // of each measurement of throughput
	spell  time.Duration  // of ours in a round of anything else, about
	least  int            // frames in it, at least twice turns
	sizes  [2]camera.Size // of vga and hd

	client  *desk.Client
	member  *family.Member
	session family.Session // of member, here
	logits  []float32
	eye     *eye
}

// subject is a kind of frame.
type subject struct {
	name   string
	frames [][]byte // alone
	jobs   [][]byte // with a deadline that nothing misses
	next   int
}

func (s *subject) turnTo() int {
	s.next = (s.next + 1) % len(s.frames)
	return s.next
}

// subjects are tiny, vga and hd: the same few test images.
func subjects(sizes [2]camera.Size) (all [3]*subject, err error) {
	const images = 4
	tiny, _, err := camera.Images(images)
	if err != nil {
		return all, err
	}
	for i, size := range [3]camera.Size{{Name: "tiny"}, sizes[0], sizes[1]} {
		s := &subject{name: size.Name, frames: tiny}
		if i > 0 {
			s.frames, err = camera.Frames(tiny, size)
		}
		if err == nil {
			s.jobs, err = camera.Jobs(s.frames, wire.Header{DeadlineMS: new(wire.Millis(patience))})
		}
		if err != nil {
			return all, err
		}
		all[i] = s
	}
	return all, nil
}

func (b *e2eBench) run(ctx context.Context, rt *ort.Runtime) error {
	all, err := subjects(b.sizes)
	if err != nil {
		return err
	}
	largest := ""
	fixed := func(members []wire.Member) string {
		largest = members[len(members)-1].Name
		return "fixed:" + largest
	}
	return b.atSite(ctx, 1, fixed, func(ctx context.Context, s *site, c *desk.Client) (err error) {
		close, err := b.equip(rt, largest)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, close()) }()
		b.client = c
		b.Note("member %s, ONNX Runtime %s, %s, spinning off, on both sides; %s, TCP_NODELAY everywhere",
			largest, rt.Version(), ort.DefaultOptions(), s.broker)
		return b.figures(ctx, all)
	})
}

// equip makes the member ready in this process too. The caller closes it.
func (b *e2eBench) equip(rt *ort.Runtime, member string) (close func() error, err error) {
	f, err := stock.Family()
	if err != nil {
		return nil, err
	}
	i := f.Index(member)
	if i < 0 {
		return nil, fmt.Errorf("the agent has a member %s, which the stock family has not", member)
	}
	how, err := f.Preprocessing()
	if err != nil {
		return nil, err
	}
	b.member, b.logits = &f.Members[i], make([]float32, len(f.Classes))
	if b.eye, err = newEye(how, b.member.Arch.R); err != nil {
		return nil, err
	}
	cache := filepath.Join(b.Dir, "bare")
	if err := os.Mkdir(cache, 0o700); err != nil {
		return nil, err
	}
	if b.session, err = resident.New(rt, &f.Family, f, cache, ort.DefaultOptions(), nil).Session(i); err != nil {
		return nil, err
	}
	return b.session.Close, nil
}

func (b *e2eBench) figures(ctx context.Context, all [3]*subject) error {
	if err := b.client.Settle(ctx, all[0].jobs[0], b.member.Name); err != nil {
		return err
	}
	for _, s := range all {
		if err := b.request(ctx, s); err != nil {
			return err
		}
	}
	hd := all[2]
	if err := b.jpeg(ctx, hd); err != nil {
		return err
	}
	if err := b.decodeAllocs(hd); err != nil {
		return err
	}
	for _, s := range all[1:] {
		if err := b.throughput(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

// stages are the parts of base, in milliseconds.
type stages struct{ decode, run, echo figure.Sample }

func (s *stages) String() string {
	out := fmt.Sprintf("decoding %.3g ms, inference %.3g ms", s.decode.Median(), s.run.Median())
	if len(s.echo) > 0 {
		out += fmt.Sprintf(", echo %.3g ms", s.echo.Median())
	}
	return out
}

// slower is the longer of decoding and inference, in milliseconds.
func (s *stages) slower() float64 { return max(s.decode.Median(), s.run.Median()) }

// bare decodes, resizes and infers a frame in this process.
func (b *e2eBench) bare(frame []byte, parts *stages) (ms float64, err error) {
	start := time.Now()
	if err := b.eye.look(frame); err != nil {
		return 0, err
	}
	seen := time.Now()
	if err := b.session.Run(b.logits, b.eye.tensor); err != nil {
		return 0, err
	}
	decode, run := seen.Sub(start), time.Since(seen)
	parts.decode, parts.run = append(parts.decode, wire.Millis(decode)), append(parts.run, wire.Millis(run))
	return wire.Millis(decode + run), nil
}

// request measures publish to result against bare and echo.
func (b *e2eBench) request(ctx context.Context, s *subject) error {
	var parts stages
	ours := func() (float64, error) {
		r, took, err := b.client.Ask(ctx, s.jobs[s.turnTo()])
		return wire.Millis(took), errors.Join(err, b.answered(&r))
	}
	base := func() (float64, error) {
		i := s.turnTo()
		ms, err := b.bare(s.frames[i], &parts)
		if err != nil {
			return 0, err
		}
		back, err := b.client.Echo(ctx, s.jobs[i])
		parts.echo = append(parts.echo, wire.Millis(back))
		return ms + wire.Millis(back), err
	}
	mine, bare, err := b.both(ctx, "request "+s.name, ours, base)
	if err != nil {
		return err
	}
	goal, stretch := 1.15, 1.05
	if s.name == "tiny" { // half a millisecond and a quarter: there is little else
		m := bare.Median()
		goal, stretch = figure.Round((m+0.5)/m), figure.Round((m+0.25)/m)
	}
	err = b.Print(figure.New("e2e", "request "+s.name, "ms", mine, bare, goal, stretch))
	b.Note("  of it %v", &parts)
	return err
}

// answered is an error unless the result is of the member that base runs.
func (b *e2eBench) answered(r *wire.Result) error {
	switch {
	case r.Status == "": // none came, which is told of already
		return nil
	case r.Status != wire.OK:
		return fmt.Errorf("a frame was refused, %s: %s", r.Reason, r.Detail)
	case r.Member != b.member.Name:
		return fmt.Errorf("member %s answered instead of %s", r.Member, b.member.Name)
	}
	return nil
}

// both measures ours and base in turns, in every round so often that ours takes a
// spell.
func (b *e2eBench) both(ctx context.Context, what string, ours, base func() (float64, error)) (
	o, other figure.Sample, err error) {
	first, err := repeat(ctx, 3, ours)
	if err != nil {
		return nil, nil, err
	}
	n := min(max(int(wire.Millis(b.spell)/first.Median()), b.least), 200)
	return inRounds(b.rounds, b.telling(what, b.rounds), func() (float64, float64, error) {
		return inTurns(ctx, n, ours, base)
	})
}

// jpeg measures the way to the tensor against image/jpeg.
func (b *e2eBench) jpeg(ctx context.Context, s *subject) error {
	timed := func(work func([]byte) error) func() (float64, error) {
		return func() (float64, error) {
			frame, start := s.frames[s.turnTo()], time.Now()
			err := work(frame)
			return wire.Millis(time.Since(start)), err
		}
	}
	ours, base, err := b.both(ctx, "jpeg", timed(b.eye.look), timed(plainly))
	if err != nil {
		return err
	}
	return b.Print(figure.New("e2e", "jpeg "+s.name, "ms", ours, base, 0.40, 0.28))
}

// decodeAllocs counts allocations, of which no decoder needs as many as
// image/jpeg makes.
func (b *e2eBench) decodeAllocs(s *subject) error {
	ours, base, err := inRounds(b.rounds, silently, func() (mine, plain float64, err error) {
		mine, err = allocations(b.least, func() error { return b.eye.look(s.frames[s.turnTo()]) })
		if err == nil {
			plain, err = allocations(b.least, func() error { return plainly(s.frames[s.turnTo()]) })
		}
		return mine, plain, err
	})
	if err != nil {
		return err
	}
	return b.Print(figure.New("e2e", "decode_allocs "+s.name, "1", ours, base, 1, 0.5))
}
