package bench

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/limber-edge/limber/agent/governor"
	"github.com/limber-edge/limber/agent/pipeline"
	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/family/resident"
	"github.com/limber-edge/limber/family/workshop"
)

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

// noises is an input for every member.
func noises(f *family.Family) (inputs [][]float32) {
	for _, m := range f.Members {
		inputs = append(inputs, workshop.Noise(3*m.Arch.R*m.Arch.R))
	}
	return inputs
}

// newCore starts a pipeline. The caller closes the sessions, after the core.
func newCore(ctx context.Context, fam *family.Family, sessions []family.Session, members []governor.Member) (*core,
	error) {
	c := &core{fam: fam, members: members, sessions: sessions, inputs: noises(fam)}
	return c, c.start(ctx)
}

// another starts a pipeline with a governor of its own over the same sessions. A
// session runs for one pipeline at a time: only one of them may have jobs.
func (c *core) another(ctx context.Context) (*core, error) {
	o := &core{fam: c.fam, members: c.members, sessions: c.sessions, inputs: c.inputs}
	return o, o.start(ctx)
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
