package bench

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/limber-edge/limber/agent/bench/figure"
	"github.com/limber-edge/limber/agent/governor"
	"github.com/limber-edge/limber/agent/pipeline"
	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/family/ort"
	"github.com/limber-edge/limber/family/resident"
	"github.com/limber-edge/limber/family/workshop"
)

// Core measures what the agent adds to an inference, a switch and a start, with the
// stock family's members and, if it is named, those of another supernet.
func Core(ctx context.Context, b Bench, rt *ort.Runtime, supernet string) error {
	b.Note("ONNX Runtime %s, %s, spinning off; base and ours use the same session and input", rt.Version(),
		ort.DefaultOptions())
	fam, blobs, err := familyOf(rt, "")
	if err != nil {
		return err
	}
	if err := b.core(ctx, rt, fam, blobs, "stock"); err != nil {
		return err
	}
	started, err := b.start(ctx, rt)
	if err != nil {
		return err
	}
	if err := b.Print(started); err != nil {
		return err
	}
	if supernet == "" {
		return nil
	}
	fam, blobs, err = imageNetFamily(rt, supernet)
	if err != nil {
		return err
	}
	return b.core(ctx, rt, fam, blobs, "w1.0")
}

func (b *Bench) core(ctx context.Context, rt *ort.Runtime, fam *family.Family, blobs family.Blobs, name string) error {
	sessions, err := openSessions(resident.New(rt, fam, blobs, b.Dir, ort.DefaultOptions(), nil), len(fam.Members))
	if err != nil {
		return err
	}
	var members []governor.Member
	for i, m := range fam.Members { // the governor only sees fixed modes here; any rising latency will do
		members = append(members, governor.Member{Name: m.Name, Top1: m.Top1,
			Latency: time.Duration(i+1) * time.Millisecond})
	}
	core, err := newCore(ctx, fam, sessions, members)
	if err != nil {
		return errors.Join(err, closeSessions(sessions))
	}
	err = b.parts(ctx, core, name)
	return errors.Join(err, core.close(), closeSessions(sessions))
}

func (b *Bench) parts(ctx context.Context, core *core, name string) error {
	for _, part := range []struct {
		name    string
		measure func(context.Context, int) (figure.Figure, error)
	}{{"loop", core.loop}, {"switch", core.switching}, {"batch", core.batch}} {
		for i, m := range core.fam.Members {
			b.Progress.Tell(name+" "+part.name, i, len(core.fam.Members))
			f, err := part.measure(ctx, i)
			if err != nil {
				return err
			}
			f.Name = fmt.Sprintf("%s %s %s", part.name, name, m.Name)
			if err := b.Print(f); err != nil {
				return err
			}
		}
	}
	return nil
}

// runsOf is how many runs a round takes: half a second's worth, but 25 to 200.
func (c *core) runsOf(i int, out []float32) (int, error) {
	ms, err := c.bare(i, out)
	if err == nil {
		ms, err = c.bare(i, out)
	}
	return min(max(int(500/ms), 5*turns), 200), err
}

// silently tells nobody of rounds: members are what takes time here.
func silently(int) {}

// inTurns measures n of ours and of base in turns in each round.
func (c *core) inTurns(ctx context.Context, n int, ours, base func() (float64, error)) (o, b figure.Sample, err error) {
	return inRounds(Rounds, silently, func() (float64, float64, error) { return inTurns(ctx, n, ours, base) })
}

// loop measures jobs through the pipeline against the bare session, in turns.
func (c *core) loop(ctx context.Context, i int) (figure.Figure, error) {
	out := make([]float32, len(c.fam.Classes))
	n, err := c.runsOf(i, out)
	if err != nil {
		return figure.Figure{}, err
	}
	if err := c.fix(ctx, i); err != nil {
		return figure.Figure{}, err
	}
	ours, base, err := c.inTurns(ctx, n, func() (float64, error) { return c.job(i) },
		func() (float64, error) { return c.bare(i, out) })
	if err != nil {
		return figure.Figure{}, err
	}
	b := base.Median()
	goal, stretch := 1.03, 1.01
	if b < 10 {
		goal, stretch = (b+0.060)/b, (b+0.020)/b // 60 and 20 microseconds
	}
	return figure.New("core", "", "ms", ours, base, figure.Round(goal), figure.Round(stretch)), nil
}

// batch measures an image among governor.Batch against one alone.
func (c *core) batch(ctx context.Context, i int) (figure.Figure, error) {
	one, several := make([]float32, len(c.fam.Classes)), make([]float32, governor.Batch*len(c.fam.Classes))
	n, err := c.runsOf(i, one)
	if err != nil {
		return figure.Figure{}, err
	}
	ours, base, err := c.inTurns(ctx, n, func() (float64, error) { return c.bare(i, several) },
		func() (float64, error) { return c.bare(i, one) })
	if err != nil {
		return figure.Figure{}, err
	}
	return figure.New("core", "", "ms", ours, base, 1, 0.8), nil
}

// switching measures the first job after a switch against the member's steady
// jobs.
func (c *core) switching(ctx context.Context, i int) (figure.Figure, error) {
	const tries = 9
	other := (i + len(c.fam.Members)/2) % len(c.fam.Members)
	ours, base, err := inRounds(Rounds, silently, func() (float64, float64, error) {
		var first, steady figure.Sample
		for range tries {
			if _, err := c.jobs(ctx, other, 3); err != nil {
				return 0, 0, err
			}
			ms, err := c.jobs(ctx, i, 8)
			if err != nil {
				return 0, 0, err
			}
			first, steady = append(first, ms[0]), append(steady, ms[2:]...)
		}
		return first.Median(), steady.Median(), nil
	})
	if err != nil {
		return figure.Figure{}, err
	}
	b := base.Median()
	return figure.New("core", "", "ms", ours, base, figure.Round(max(1.15, (b+0.5)/b)), 1.05), nil
}

// jobs switches to member i and sends so many.
func (c *core) jobs(ctx context.Context, i, n int) (figure.Sample, error) {
	if err := c.fix(ctx, i); err != nil {
		return nil, err
	}
	return repeat(ctx, n, func() (float64, error) { return c.job(i) })
}

// core is a pipeline with every member resident, and nothing around it.
type core struct {
	fam      *family.Family
	members  []governor.Member
	sessions []family.Session
	inputs   [][]float32
	pipe     *pipeline.Pipeline
	began    time.Time
	work     errgroup.Group
	stop     context.CancelFunc
}

// nobody watches the governor of a benchmark.
type nobody struct{}

func (nobody) Switched(int, int, string) {}
func (nobody) Hung(int)                  {}

// openSessions makes every member of a shelf resident.
func openSessions(shelf *resident.Shelf, members int) ([]family.Session, error) {
	var sessions []family.Session
	for i := range members {
		s, err := shelf.Session(i)
		if err != nil {
			return nil, errors.Join(err, closeSessions(sessions))
		}
		sessions = append(sessions, s)
	}
	return sessions, nil
}

func closeSessions(sessions []family.Session) error {
	var errs []error
	for _, s := range sessions {
		errs = append(errs, s.Close())
	}
	return errors.Join(errs...)
}

func noises(f *family.Family) (inputs [][]float32) {
	for _, m := range f.Members {
		inputs = append(inputs, workshop.Noise(3*m.Arch.R*m.Arch.R))
	}
	return inputs
}

// newCore starts a pipeline with a governor of its own. The caller closes the
// sessions, after the core. A session runs for one pipeline at a time: only one of
// those over the same sessions may have jobs.
func newCore(ctx context.Context, fam *family.Family, sessions []family.Session, members []governor.Member) (*core,
	error) {
	c := &core{fam: fam, members: members, sessions: sessions, inputs: noises(fam)}
	return c, c.start(ctx)
}

// start leaves nothing running if it fails.
func (c *core) start(ctx context.Context) error {
	cfg := pipeline.Config{Classes: len(c.fam.Classes), QueueJobs: 16, QueueBytes: 1 << 20}
	// tensors come preprocessed
	cfg.Preprocess = family.Preprocess{Std: [3]float32{1, 1, 1}, Resize: "bilinear", Crop: "none"}
	for i, m := range c.fam.Members {
		cfg.Members = append(cfg.Members, pipeline.Member{R: m.Arch.R,
			Probabilities: m.Outputs == family.Probabilities, Member: c.members[i]})
	}
	var err error
	if c.pipe, err = pipeline.New(cfg, nobody{}); err != nil {
		return err
	}
	c.began = time.Now()
	ctx, c.stop = context.WithCancel(ctx)
	c.work.Go(func() error { return c.pipe.Run(ctx) })
	for i, s := range c.sessions {
		if err := c.pipe.Use(ctx, i, s); err != nil {
			return errors.Join(err, c.close())
		}
	}
	return nil
}

// close ends the pipeline, and leaves the sessions to who opened them.
func (c *core) close() error {
	c.stop()
	return c.work.Wait()
}

// fix makes the pipeline use member i for every job.
func (c *core) fix(ctx context.Context, i int) error {
	mode, err := governor.ParseMode("fixed:" + c.fam.Members[i].Name)
	if err != nil {
		return err
	}
	return c.pipe.SetMode(ctx, mode)
}

// errEnded says that the pipeline takes no more jobs, as its Run has ended.
var errEnded = errors.New("the pipeline has ended")

// job sends one job through the pipeline and returns how long its answer took,
// in milliseconds.
func (c *core) job(i int) (float64, error) {
	done := make(chan string, 1)
	start := time.Now()
	j := pipeline.Job{Tensor: c.inputs[i], Received: start, Deadline: time.Minute, Answer: func(a *pipeline.Answer) {
		done <- a.Detail
	}}
	if !c.pipe.Submit(j) {
		return 0, errEnded
	}
	refused := <-done
	took := time.Since(start)
	if refused != "" {
		return 0, fmt.Errorf("member %s: %s", c.fam.Members[i].Name, refused)
	}
	return float64(took) / 1e6, nil
}

// bare is one run of the session alone, on so many images as out has room for, in
// milliseconds an image.
func (c *core) bare(i int, out []float32) (float64, error) {
	n := len(out) / len(c.fam.Classes)
	images := slices.Repeat([][]float32{c.inputs[i]}, n)
	start := time.Now()
	err := c.sessions[i].Run(out, images...)
	return float64(time.Since(start)) / 1e6 / float64(n), err
}
