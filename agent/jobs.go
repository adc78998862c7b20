package agent

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/limber-edge/limber/agent/config"
	"github.com/limber-edge/limber/agent/engine"
	"github.com/limber-edge/limber/agent/frame"
	"github.com/limber-edge/limber/agent/pipeline"
	"github.com/limber-edge/limber/agent/uplink"
	"github.com/limber-edge/limber/agent/wire"
)

// jobs turns requests into jobs of the engine, and its answers into results.
//
// Jobs of QoS 1 that come while no member can answer yet wait here, not
// acknowledged, and their deadlines with them. The broker would keep them as well,
// but deliver them again only on another connection.
type jobs struct {
	cfg     config.Config
	boot    string
	uplink  *uplink.Uplink
	engine  *engine.Engine
	cameras map[string]camera // the sources of the configuration, by name

	answered   atomic.Uint64                  // with classes
	refused    map[wire.Reason]*atomic.Uint64 // of every reason there is for a job
	turnedAway atomic.Uint64                  // of these, without the engine
	superseded atomic.Uint64                  // frames whose place a newer one took
	unseen     atomic.Uint64                  // of these, those that the engine was not given

	mu      sync.Mutex
	waiting []*job      // guarded by mu: for a member that can answer
	bytes   int         // guarded by mu: of their payloads
	closed  atomic.Bool // the agent stops: what no member gets to is left to the broker
}

// job is a request on its way to an answer.
type job struct {
	*uplink.Request
	received time.Time // when the deadline began to count
	deadline time.Duration
	source   string // who sent it, if that was said
}

// camera is what the configuration says of the frames of a source; the zero one says
// nothing.
type camera struct {
	defaults wire.Header // for what a frame's own header does not say
	pacer    *pacer      // nil: no limit
}

func newJobs(cfg config.Config, boot string, up *uplink.Uplink, e *engine.Engine) *jobs {
	j := &jobs{cfg: cfg, boot: boot, uplink: up, engine: e, cameras: make(map[string]camera),
		refused: make(map[wire.Reason]*atomic.Uint64)}
	for _, why := range wire.JobReasons() {
		j.refused[why] = new(atomic.Uint64)
	}
	for _, s := range cfg.Sources {
		c := camera{defaults: s.Header()}
		if s.MaxFPS > 0 {
			c.pacer = newPacer(time.Duration(float64(time.Second) / s.MaxFPS))
		}
		j.cameras[s.Name] = c
	}
	return j
}

// camera is the one that a request is a frame of; the zero one for jobs, and for
// frames on the device's own topics.
func (j *jobs) camera(r *uplink.Request) camera {
	if r.Address != (wire.Address{}) {
		return camera{}
	}
	return j.cameras[r.Source]
}

// Job takes a request from the uplink. It waits for nothing.
func (j *jobs) Job(r *uplink.Request) {
	c := j.camera(r)
	one := &job{Request: r, received: r.Received, deadline: j.deadline(c.defaults), source: r.Source}
	switch {
	case r.Fault != nil:
		j.refuse(one, wire.Internal, "whether this job was answered before cannot be read")
	case r.Fatal:
		j.refuse(one, wire.Internal, "the agent was cut off twice while it served this, the second time alone: "+
			"it is not decoded again")
	case r.Conflict:
		j.refuse(one, wire.Conflict, "this id was used before, with other bytes")
	case c.pacer == nil:
		j.submit(one)
	default:
		if old := c.pacer.put(one); old != nil {
			j.unseen.Add(1)
			j.supersede(old)
		}
	}
}

// pace hands on the frames of sources with a limit, where there are some until ctx
// ends. A frame is received when its turn has come: its deadline does not count the
// wait, which would leave no time for frames that wait longer than that.
func (j *jobs) pace(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, c := range j.cameras {
		if c.pacer != nil {
			g.Go(func() error {
				return c.pacer.run(ctx, func(one *job) {
					one.received = time.Now()
					j.submit(one)
				})
			})
		}
	}
	return g.Wait()
}

// submit reads the job and hands it to the engine, or lets it wait for it.
func (j *jobs) submit(one *job) {
	m := one.Message
	if m.Oversize > 0 {
		j.refuse(one, wire.Invalid, "the payload has %d bytes, more than the %d this device takes (jobs.payload_mib)",
			m.Oversize, j.cfg.Jobs.PayloadMiB<<20)
		return
	}
	header, body, err := wire.SplitJob(m.Payload)
	if err != nil {
		j.refuse(one, wire.Invalid, "%v", err)
		return
	}
	if m.QoS > 0 && j.engine.Status().State == engine.Preparing && j.wait(one) {
		return
	}
	header = j.complete(one, header)
	p := pipeline.Job{Body: body, Claim: frame.Claim{Codec: header.Codec, Width: header.Width, Height: header.Height},
		Received: one.received, Deadline: one.deadline, Priority: priority(header.Priority), Source: one.source,
		Latest: one.Latest}
	if header.MinTop1 != nil {
		p.Floor = max(*header.MinTop1, math.SmallestNonzeroFloat64) // one of 0 lifts the goal's, none leaves it
	}
	one.Serve(func() { j.engine.Submit(p, func(a *engine.Answer) { j.answer(one, a) }) })
	one.Digest() // while the frame is decoded
}

// complete fills in what the header of a frame leaves to its source, and to the
// goal in force. Who sent a frame is said by its topic, not by itself.
func (j *jobs) complete(one *job, h wire.Header) wire.Header {
	defaults := j.camera(one.Request).defaults
	h.DeadlineMS, h.MinTop1 = cmp.Or(h.DeadlineMS, defaults.DeadlineMS), cmp.Or(h.MinTop1, defaults.MinTop1)
	h.Priority = cmp.Or(h.Priority, defaults.Priority)
	if one.Kind == wire.KindJob {
		one.source = h.Source
	}
	one.deadline = j.deadline(h)
	return h
}

// deadline is the header's, else that of the goal in force. A job that is refused
// before its header is read has one as well.
func (j *jobs) deadline(h wire.Header) time.Duration {
	if goal := j.engine.Status().Mode.Goal(); h.DeadlineMS == nil && goal.Deadline > 0 {
		return goal.Deadline
	}
	return h.Deadline()
}

func priority(name string) pipeline.Priority {
	switch name {
	case wire.Low:
		return pipeline.Low
	case wire.High:
		return pipeline.High
	}
	return pipeline.Normal
}

// wait keeps a job until a member can answer; false where too many wait already.
func (j *jobs) wait(one *job) bool {
	size := len(one.Message.Payload)
	j.mu.Lock()
	full := len(j.waiting) >= j.cfg.Jobs.Queue || j.bytes+size > j.cfg.Jobs.QueueMiB<<20
	if !full {
		j.waiting = append(j.waiting, one)
		j.bytes += size
	}
	j.mu.Unlock()
	if full {
		return false
	}
	if j.engine.Status().State != engine.Preparing {
		j.resume() // it came to be between the two looks
	}
	return true
}

// resume hands on the jobs that waited for a member, as if they came now.
func (j *jobs) resume() {
	for _, one := range j.takeWaiting() {
		one.received = time.Now()
		j.submit(one)
	}
}

func (j *jobs) takeWaiting() []*job {
	j.mu.Lock()
	defer j.mu.Unlock()
	waiting := j.waiting
	j.waiting, j.bytes = nil, 0
	return waiting
}

// stop leaves to the broker what no member gets to.
func (j *jobs) stop() {
	j.closed.Store(true)
	for _, one := range j.takeWaiting() {
		one.Release()
	}
}

// answer puts what became of a job into the outbox. A job that the agent did not
// get to, because it stops or an inference hangs, is left to the broker.
func (j *jobs) answer(one *job, a *engine.Answer) {
	left := a.Abandoned || a.Reason == wire.Busy && j.closed.Load()
	switch {
	case a.Superseded:
		j.supersede(one)
	case left && one.Message.QoS > 0:
		one.Release()
	default:
		j.reply(one, a)
	}
}

// supersede lets go of a frame whose place a newer one of its source took. Nobody
// gets a result.
func (j *jobs) supersede(one *job) {
	j.superseded.Add(1)
	one.Drop()
}

// refuse answers a job that does not reach the engine.
func (j *jobs) refuse(one *job, reason wire.Reason, format string, args ...any) {
	j.turnedAway.Add(1)
	j.reply(one, &engine.Answer{Answer: &pipeline.Answer{
		Reason: reason, Detail: fmt.Sprintf(format, args...), Total: time.Since(one.received)}})
}

// reply answers a job with a result.
func (j *jobs) reply(one *job, a *engine.Answer) {
	count := &j.answered
	if a.Reason != "" {
		count = cmp.Or(j.refused[a.Reason], j.refused[wire.Internal]) // no other reason is a job's
	}
	count.Add(1)
	r := j.result(one, a)
	one.Answer(cmp.Or(one.ResultTopic, j.cfg.Address().Result(one.ID)), func(seq uint64) ([]byte, error) {
		r.Seq = seq
		return json.Marshal(r)
	})
}

// result is the message for an answer, but for its number.
func (j *jobs) result(one *job, a *engine.Answer) *wire.Result {
	r := &wire.Result{
		ID: one.ID, Source: one.source, Status: wire.OK, Device: j.cfg.Device, BootID: j.boot, TS: wire.At(time.Now()),
		MS: &wire.Timing{Queue: wire.Millis(a.Queue), Decode: wire.Millis(a.Decode), Infer: wire.Millis(a.Infer),
			Total: wire.Millis(a.Total), Predicted: wire.Millis(a.Predicted)},
		DeadlineMS: wire.Millis(one.deadline), Met: a.Met, Late: one.Late(),
	}
	if a.Reason != "" {
		r.Status, r.Reason, r.Detail = wire.Refused, a.Reason, a.Detail
		return r
	}
	r.Family, r.Member, r.ExpectedTop1, r.Choice = a.Family.Name, a.Member.Name, &a.Member.Top1, a.Choice.String()
	if a.First != nil {
		r.Cascade = &wire.Cascade{First: a.First.Name, P: digits(a.FirstP, 6)}
	}
	if a.Batch > 1 {
		r.Batch = a.Batch
	}
	for _, c := range a.Top {
		r.Classes = append(r.Classes, wire.Class{Label: a.Family.Classes[c.Index], Index: c.Index, P: digits(c.P, 6)})
	}
	return r
}
