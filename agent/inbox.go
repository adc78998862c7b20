package agent

import (
	"cmp"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/limber-edge/limber/agent/frame"
	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/pipeline"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/store"
)

// ticket is a job, or a command, between its receipt and its acknowledgement.
type ticket struct {
	id       string
	request  func() store.Digest // of the bytes it came as; the first call works it out
	qos      byte
	received time.Time
	deadline time.Duration
	acks     []func() // one for each time it was delivered
	crew     *crew    // that it was given to, if any

	source string      // who sent it, if that was said
	frame  bool        // it came without an id
	latest bool        // a newer one of its source may take its place
	topic  string      // of its result; empty: result/{id}
	wishes wire.Header // of its source, for what its own header does not say
}

// inbox holds what came in until it is acknowledged.
type inbox struct {
	mu       sync.Mutex
	open     map[string]*ticket // jobs without an answer in the outbox, by id
	answered map[uint64]*ticket // not acknowledged, by the record of the outbox that answers
}

func newInbox() *inbox {
	return &inbox{open: make(map[string]*ticket), answered: make(map[uint64]*ticket)}
}

// meet returns the open job with t's id. If it has the same bytes, t's
// acknowledgement waits for its answer.
func (b *inbox) meet(t *ticket) *ticket {
	b.mu.Lock()
	defer b.mu.Unlock()
	open := b.open[t.id]
	if open != nil && open.request() == t.request() && t.qos > 0 {
		open.acks = append(open.acks, t.acks...)
	}
	return open
}

// meetFrame lets the acknowledgement of a frame that is delivered again wait for
// the answer of the open one with its source and bytes, if there is one.
func (b *inbox) meetFrame(t *ticket) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, open := range b.open {
		if open.frame && open.qos > 0 && open.source == t.source && open.request() == t.request() {
			open.acks = append(open.acks, t.acks...)
			return true
		}
	}
	return false
}

// has tells whether a job with this id is open.
func (b *inbox) has(id string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.open[id] != nil
}

func (b *inbox) admit(t *ticket) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.open[t.id] = t
}

// release forgets a job that is left without an answer.
func (b *inbox) release(t *ticket) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.close(t)
}

// drop acknowledges a job that gets no answer, and forgets it.
func (b *inbox) drop(t *ticket) {
	b.mu.Lock()
	acks := t.acks
	b.close(t)
	b.mu.Unlock()
	for _, ack := range acks {
		ack()
	}
}

// close ends the wait of a job; mu is held.
func (b *inbox) close(t *ticket) {
	if b.open[t.id] == t {
		delete(b.open, t.id)
	}
}

// answer notes which record answers a job or a command. From now on a copy of
// the job gets the stored answer again: who sends it may have seen this one
// already, and nothing else would come.
func (b *inbox) answer(seq uint64, t *ticket) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.answered[seq] = t
	b.close(t)
}

// settle acknowledges what a record answers, as often as the broker
// delivered it: the record was delivered, or it is on the disk.
func (b *inbox) settle(seq uint64) {
	b.mu.Lock()
	var acks []func()
	if t := b.answered[seq]; t != nil {
		acks = t.acks
		delete(b.answered, seq)
	}
	b.mu.Unlock()
	for _, ack := range acks {
		ack()
	}
}

// disown takes back answer for a record that was not appended.
func (b *inbox) disown(seq uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.answered, seq)
}

// hangUp drops the acknowledgements for a connection that broke: they lead
// nowhere, and the broker will deliver those messages again.
func (b *inbox) hangUp() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, t := range b.open {
		t.acks = nil
	}
	clear(b.answered)
}

// receiveJob lets a job in, unless its id is known.
func (a *Agent) receiveJob(id string, m mqtt.Message, ack func()) {
	t := &ticket{id: id, qos: m.QoS, received: time.Now(), deadline: a.deadline(), acks: []func(){ack}, request: requestOf(m)}
	if open := a.inbox.meet(t); open != nil {
		if open.request() != t.request() {
			a.conflict(t)
		}
		return
	}
	known, err := a.parts.Outbox.Answer(id)
	switch {
	case err == nil && known.Request == t.request():
		a.repeat(known, t)
		return
	case err == nil:
		a.conflict(t)
		return
	case !errors.Is(err, store.ErrNotFound):
		a.log.Error("answer not readable", "job", id, "err", err)
		a.reply(t, a.turnAway(t, wire.Internal, "whether this job was answered before cannot be read"), "")
		return
	}
	if a.stopping.Load() && m.QoS > 0 {
		return // not acknowledged: the broker will deliver it to the next start
	}
	a.inbox.admit(t)
	a.submit(t, m)
	t.request() // while the frame is decoded
}

// deadline is that of a job which names none.
func (a *Agent) deadline() time.Duration {
	if c := a.crew.Load(); c != nil {
		if _, mode := c.pipe.Governed(); mode.Goal().Deadline > 0 {
			return mode.Goal().Deadline
		}
	}
	return wire.DefaultDeadline
}

// submit reads the job and hands it to the pipeline; what cannot be answered
// with classes is refused at once.
func (a *Agent) submit(t *ticket, m mqtt.Message) {
	refuse := func(reason wire.Reason, format string, args ...any) {
		a.answer(t, a.turnAway(t, reason, format, args...))
	}
	if m.Oversize > 0 {
		refuse(wire.Invalid, "the payload has %d bytes, more than the %d this device takes (jobs.payload_mib)", m.Oversize, a.cfg.Jobs.PayloadMiB<<20)
		return
	}
	header, body, err := wire.SplitJob(m.Payload)
	if err != nil {
		refuse(wire.Invalid, "%v", err)
		return
	}
	header = t.complete(header)
	if header.DeadlineMS != nil {
		t.deadline = header.Deadline()
	}
	if err := a.unfit(); err != nil {
		refuse(wire.Unsupported, "%v", err)
		return
	}
	claim := frame.Claim{Codec: header.Codec, Width: header.Width, Height: header.Height}
	j := pipeline.Job{Body: body, Claim: claim, Received: t.received, Deadline: t.deadline, Priority: priority(header.Priority),
		Source: t.source, Latest: t.latest,
		Answer: func(ans *pipeline.Answer) { a.answer(t, a.reworded(ans)) }}
	if header.MinTop1 != nil {
		j.Floor = max(*header.MinTop1, math.SmallestNonzeroFloat64) // one of 0 lifts the goal's, none leaves it
	}
	a.relief.RLock()
	defer a.relief.RUnlock()
	t.crew = a.crew.Load()
	if best := t.crew.member(len(t.crew.front) - 1); j.Floor > best.Top1 {
		refuse(wire.Infeasible, "no member reaches a top-1 of %v: the most accurate, %s, has %.4f", j.Floor, best.Name, best.Top1)
		return
	}
	if !t.crew.pipe.Submit(j) {
		ans := a.turnAway(t, wire.Busy, "the agent is stopping")
		ans.Abandoned = true
		j.Answer(ans)
	}
}

// priority is the class that a header asks for.
func priority(name string) pipeline.Priority {
	switch name {
	case wire.Low:
		return pipeline.Low
	case wire.High:
		return pipeline.High
	}
	return pipeline.Normal
}

// reworded corrects a reason that the pipeline cannot know: busy is unsupported
// where no member can be used at all, and infeasible is busy while members are
// still being loaded.
func (a *Agent) reworded(ans *pipeline.Answer) *pipeline.Answer {
	if err := a.noCrew.Load(); err != nil && ans.Reason == wire.Busy {
		ans.Reason, ans.Detail, ans.Abandoned = wire.Unsupported, (*err).Error(), false
	}
	if ans.Reason == wire.Infeasible && a.boarding.Load() {
		ans.Reason, ans.Detail = wire.Busy, "the members as accurate as min_top1 asks are still being loaded"
	}
	return ans
}

// answer puts what became of a job into the outbox, which lets go of the job. A
// job that an agent did not get to, because it stops or an inference hangs, is left
// to the broker.
func (a *Agent) answer(t *ticket, ans *pipeline.Answer) {
	if ans.Superseded {
		a.supersede(t)
		return
	}
	a.tellInfeasible(t, ans)
	left := ans.Abandoned || ans.Reason == wire.Busy && a.stopping.Load()
	if !left || t.qos == 0 {
		a.reply(t, ans, t.id)
	}
	a.inbox.release(t)
}

// turnAway counts a job that does not reach a pipeline, and is its answer.
func (a *Agent) turnAway(t *ticket, reason wire.Reason, format string, args ...any) *pipeline.Answer {
	a.turnedAway.Add(1)
	return &pipeline.Answer{Reason: reason, Detail: fmt.Sprintf(format, args...), Total: time.Since(t.received)}
}

// reply appends a result to the outbox. job is the id it is the answer of, for
// later; empty for a result that only reports a conflict.
func (a *Agent) reply(t *ticket, ans *pipeline.Answer, job string) {
	request := t.request()
	a.appendFor(t, func(seq uint64) (store.Record, error) {
		a.lastSeq.Store(seq)
		payload, err := json.Marshal(a.result(t, seq, ans))
		return store.Record{Topic: cmp.Or(t.topic, a.self.Result(t.id)), Payload: payload, Job: job, Request: request}, err
	})
}

// conflict refuses a job whose id was used with other bytes. The answer of that
// other job stays as it is. No bytes at all are no job: that is how a retained one
// is cleared at the broker, and who does it waits for no answer.
func (a *Agent) conflict(t *ticket) {
	if t.request() == store.DigestOf(nil) {
		t.acks[0]()
		return
	}
	a.reply(t, a.turnAway(t, wire.Conflict, "this id was used before, with other bytes"), "")
}

// repeat sends the stored answer again, byte for byte.
func (a *Agent) repeat(known store.Record, t *ticket) {
	a.appendFor(t, func(uint64) (store.Record, error) {
		return store.Record{Topic: known.Topic, Payload: known.Payload}, nil
	})
}

// appendFor appends the record that answers a job or a command.
func (a *Agent) appendFor(t *ticket, encode func(seq uint64) (store.Record, error)) {
	var number uint64
	_, err := a.parts.Outbox.Append(func(seq uint64) (store.Record, error) {
		r, err := encode(seq)
		if err == nil {
			number = seq
			a.inbox.answer(seq, t) // before the record can be delivered, or found
		}
		return r, err
	}, func() { a.inbox.settle(number) })
	if err != nil {
		// Without an acknowledgement the broker will deliver it again.
		a.inbox.disown(number)
		a.log.Error("answer lost", "id", t.id, "err", err)
	}
}

// requestOf names a job's bytes when that is asked for. Whoever asks first works it
// out: of an unknown id it is needed with the answer, and until then the frame is on
// its way to a decoder.
func requestOf(m mqtt.Message) func() store.Digest {
	return sync.OnceValue(func() store.Digest { return digestOf(m) })
}

// digestOf names a job's bytes. A body that was discarded is named by its size.
func digestOf(m mqtt.Message) store.Digest {
	if m.Oversize > 0 {
		return store.DigestOf(binary.BigEndian.AppendUint64([]byte("oversize"), uint64(m.Oversize)))
	}
	return store.DigestOf(m.Payload)
}

// result is the message for an answer.
func (a *Agent) result(t *ticket, seq uint64, ans *pipeline.Answer) *wire.Result {
	r := &wire.Result{
		ID: t.id, Source: t.source, Status: wire.OK, Device: a.cfg.Device, BootID: a.boot, Seq: seq, TS: wire.At(time.Now()),
		MS: &wire.Timing{Queue: wire.Millis(ans.Queue), Decode: wire.Millis(ans.Decode), Infer: wire.Millis(ans.Infer),
			Total: wire.Millis(ans.Total), Predicted: wire.Millis(ans.Predicted)},
		DeadlineMS: wire.Millis(t.deadline), Met: ans.Met, Late: !a.linkUp.Load(),
	}
	if ans.Reason != "" {
		r.Status, r.Reason, r.Detail = wire.Refused, ans.Reason, ans.Detail
		return r
	}
	m := t.crew.member(ans.Member)
	r.Family, r.Member, r.ExpectedTop1, r.Choice = a.parts.Family.Name, m.Name, &m.Top1, ans.Choice.String()
	if ans.FirstP > 0 {
		r.Cascade = &wire.Cascade{First: t.crew.member(ans.First).Name, P: math.Round(ans.FirstP*1e6) / 1e6}
	}
	if ans.Batch > 1 {
		r.Batch = ans.Batch
	}
	for _, c := range ans.Top {
		r.Classes = append(r.Classes, wire.Class{Label: a.parts.Family.Classes[c.Index], Index: c.Index, P: math.Round(c.P*1e6) / 1e6})
	}
	return r
}
