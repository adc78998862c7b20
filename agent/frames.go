package agent

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/store"
)

// origin is where frames without an id come from: frame/{source}, or a Source of
// the configuration.
type origin struct {
	name        string
	filter      string      // of a Source
	resultTopic string      // empty: result/{id}
	wishes      wire.Header // for what a frame's own header does not say
	pacer       *pacer      // nil: no limit
}

// origins knows who sends frames without an id. The goroutine that receives has
// it to itself, but for what is atomic.
type origins struct {
	configured []*origin
	counts     map[string]uint64 // messages received, by source
	others     uint64            // those of sources beyond maxSources

	superseded atomic.Uint64 // frames whose place a newer one took
	unseen     atomic.Uint64 // of these, those that no pipeline was given
	retained   atomic.Uint64 // old frames that were left alone
}

func newOrigins(sources Sources) *origins {
	o := &origins{counts: make(map[string]uint64)}
	for _, s := range sources {
		from := &origin{name: s.Name, filter: s.Topic, resultTopic: s.ResultTopic, wishes: s.header()}
		if every := s.every(); every > 0 {
			from.pacer = newPacer(every)
		}
		o.configured = append(o.configured, from)
		o.counts[s.Name] = 0
	}
	return o
}

// of is the configured source that a topic belongs to, or nil.
func (o *origins) of(topic string) *origin {
	for _, from := range o.configured {
		if mqtt.Overlap(from.filter, topic) {
			return from
		}
	}
	return nil
}

// count numbers a message of a source, from 1. Sources beyond those that are told
// apart share one count, so that names that nobody counts on take no memory.
func (o *origins) count(source string) uint64 {
	if _, known := o.counts[source]; !known && len(o.counts) >= maxSources {
		o.others++
		return o.others
	}
	o.counts[source]++
	return o.counts[source]
}

// receiveFrame lets in a frame without an id and gives it one. What the broker
// delivers again is the same frame if it is known by its source and its bytes.
func (a *Agent) receiveFrame(from *origin, m mqtt.Message, ack func()) {
	t := &ticket{
		frame: true, source: from.name, topic: from.resultTopic, wishes: from.wishes, request: requestOf(m),
		qos: m.QoS, latest: m.QoS == 0 && a.cfg.Frames.Keep == KeepNewest,
		received: time.Now(), deadline: a.deadline(), acks: []func(){ack},
	}
	if from.wishes.DeadlineMS != nil {
		t.deadline = from.wishes.Deadline()
	}
	if m.Duplicate && m.QoS > 0 && a.recognise(t) {
		return
	}
	if t.id = a.frameID(from.name); m.Retained && !a.cfg.Frames.Retained {
		a.origins.retained.Add(1)
		ack()
		return
	}
	if a.stopping.Load() && m.QoS > 0 {
		return // as in receiveJob
	}
	a.inbox.admit(t)
	if from.pacer == nil {
		a.submit(t, m)
		t.request() // while the frame is decoded
	} else if old := from.pacer.put(shot{t, m}); old != nil {
		a.origins.unseen.Add(1)
		a.supersede(old.ticket)
	}
}

// recognise tells whether a frame that is delivered again is known. Its
// acknowledgement waits for the answer there will be, or the one there was is sent
// again.
func (a *Agent) recognise(t *ticket) bool {
	if a.inbox.meetFrame(t) {
		return true
	}
	known, err := a.parts.Outbox.Alias(frameAlias(t.source, t.request()))
	if err != nil {
		if !errors.Is(err, store.ErrNotFound) {
			a.log.Error("answer not readable", "topic", a.self.Frame(t.source), "err", err)
		}
		return false
	}
	t.id = known.Job
	a.repeat(known, t)
	return true
}

// frameID is the id of the next message of a source: the source, the boot, and how
// many there were. One that is taken is passed over.
func (a *Agent) frameID(source string) string {
	for {
		id := fmt.Sprintf("%s-%s-%d", source, a.boot[:bootDigits], a.origins.count(source))
		if !a.taken(id) {
			return id
		}
	}
}

// taken tells whether an id is that of a job which waits or was answered.
func (a *Agent) taken(id string) bool {
	if a.inbox.has(id) {
		return true
	}
	_, err := a.parts.Outbox.Answer(id)
	return err == nil
}

// bootDigits is how much of the boot id is in the id of a frame.
const bootDigits = 8

// aliasOf is the second name of the answer to a frame; none for that to a job.
func aliasOf(r store.Record) string {
	source, ok := sourceOf(r.Job)
	if !ok {
		return ""
	}
	return frameAlias(source, r.Request)
}

// frameAlias names a frame by what is the same when it is delivered again. No id
// has a slash.
func frameAlias(source string, request store.Digest) string {
	return source + "/" + string(request[:])
}

// sourceOf is the source in an id that frameID may have given.
func sourceOf(id string) (source string, ok bool) {
	end := strings.LastIndexByte(id, '-')
	if end < bootDigits+2 || end == len(id)-1 || id[end-bootDigits-1] != '-' || strings.Trim(id[end+1:], "0123456789") != "" ||
		strings.Trim(id[end-bootDigits:end], "0123456789abcdef") != "" {
		return "", false
	}
	return id[:end-bootDigits-1], true
}

// supersede lets go of a frame whose place a newer one of its source took. Nobody
// gets a result.
func (a *Agent) supersede(t *ticket) {
	a.origins.superseded.Add(1)
	a.inbox.drop(t)
}

// pace hands on the frames of sources with a limit, until ctx ends. A frame is
// received when its turn has come: its deadline does not count the wait, which
// would leave no time for frames that wait longer than that.
func (a *Agent) pace(ctx context.Context) error {
	g, gctx := errgroup.WithContext(ctx)
	for _, from := range a.origins.configured {
		if from.pacer != nil {
			g.Go(func() error {
				return from.pacer.run(gctx, func(s shot) {
					s.received = time.Now()
					a.submit(s.ticket, s.msg)
				})
			})
		}
	}
	return g.Wait()
}

// complete fills in what the header of a frame leaves to its source. Who sent a
// frame is said by its topic, not by itself.
func (t *ticket) complete(h wire.Header) wire.Header {
	if h.DeadlineMS == nil {
		h.DeadlineMS = t.wishes.DeadlineMS
	}
	if h.MinTop1 == nil {
		h.MinTop1 = t.wishes.MinTop1
	}
	if h.Priority == "" {
		h.Priority = t.wishes.Priority
	}
	if !t.frame {
		t.source = h.Source
	}
	return h
}
