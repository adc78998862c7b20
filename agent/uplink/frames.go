package uplink

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/store"
)

// MaxSources is how many sources of frames are told apart.
const MaxSources = 256

// frames knows the sources of frames and numbers what they send.
type frames struct {
	sources  []Source
	retained atomic.Uint64 // old frames that were left alone

	mu     sync.Mutex
	counts map[string]uint64 // guarded by mu: messages received, by source
	others uint64            // guarded by mu: those of sources beyond MaxSources
}

func newFrames(sources []Source) *frames {
	f := &frames{sources: sources, counts: make(map[string]uint64)}
	for _, s := range sources {
		f.counts[s.Name] = 0
	}
	return f
}

// of is the configured source that a topic belongs to, or nil.
func (f *frames) of(topic string) *Source {
	for i := range f.sources {
		if mqtt.Overlap(f.sources[i].Filter, topic) {
			return &f.sources[i]
		}
	}
	return nil
}

// count numbers a message of a source, from 1. Sources beyond those that are told
// apart share one count, so that names that nobody counts on take no memory.
func (f *frames) count(source string) uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, known := f.counts[source]; !known && len(f.counts) >= MaxSources {
		f.others++
		return f.others
	}
	f.counts[source]++
	return f.counts[source]
}

// receiveFrame lets in a frame without an id. What the broker delivers again is the
// same frame if it is known by its source and its bytes.
func (u *Uplink) receiveFrame(r *Request) {
	if !r.Message.Duplicate || r.Message.QoS == 0 {
		u.admitFrame(r)
		return
	}
	for _, open := range u.inbox.frames(r.Source) {
		if open.Digest() == r.Digest() && u.inbox.join(open, r) {
			return
		}
	}
	if u.outbox.Answered(frameAlias(r.Source, r.Digest())) {
		u.lookUp(r)
		return
	}
	u.admitFrame(r)
}

// admitFrame gives a frame its id, the source, the boot, and how many there were,
// and hands it on.
func (u *Uplink) admitFrame(r *Request) {
	for r.ID == "" || u.outbox.Answered(r.ID) || u.inbox.enter(r) != r {
		r.ID = fmt.Sprintf("%s-%s-%d", r.Source, u.cfg.Boot[:bootDigits], u.frames.count(r.Source))
	}
	if r.Message.Retained && !u.cfg.Retained {
		u.frames.retained.Add(1)
		r.Drop()
		return
	}
	r.Latest = r.Message.QoS == 0 && u.cfg.KeepNewest
	u.admit(r)
}

// bootDigits is how much of the boot id is in the id of a frame.
const bootDigits = 8

// Alias is the second name of the answer to a frame; none for that to a job or a
// command. It is for store.OutboxOptions.
func Alias(r store.Record) string {
	source, ok := sourceOf(r.Job)
	if !ok {
		return ""
	}
	return frameAlias(source, r.Request)
}

// frameAlias names a frame by what is the same when it is delivered again. No id
// has a slash, and no verb is followed by bytes that are no id.
func frameAlias(source string, request store.Digest) string {
	return source + "/" + string(request[:])
}

// sourceOf is the source in an id that admitFrame may have given.
func sourceOf(id string) (source string, ok bool) {
	end := strings.LastIndexByte(id, '-')
	if end < bootDigits+2 || end == len(id)-1 || id[end-bootDigits-1] != '-' || strings.Contains(id, "/") ||
		strings.Trim(id[end+1:], "0123456789") != "" || strings.Trim(id[end-bootDigits:end], "0123456789abcdef") != "" {
		return "", false
	}
	return id[:end-bootDigits-1], true
}
