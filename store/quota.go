package store

import "time"

// ageUnit is what waiting.age counts.
const ageUnit = time.Second

// controlShare is the part of the quota that is for records of the class Controls
// alone: one in so many.
const controlShare = 20

// shared returns how many bytes all but the class Controls may take together.
func (o *OutboxOptions) shared() int64 { return o.Quota - o.Quota/controlShare }

// own returns how many bytes a class may take by a limit of its own; 0: it has none.
func (o *OutboxOptions) own(c Class) int64 { return [Classes]int64{o.Results, o.Events, 0}[c] }

// room returns how many bytes the records of a class may take, the others away.
func (o *OutboxOptions) room(c Class) int64 {
	if c == Controls {
		return o.Quota
	}
	if own := o.own(c); own > 0 {
		return min(o.shared(), own)
	}
	return o.shared()
}

// keep returns how long a record of the class may wait; 0: for ever.
func (o *OutboxOptions) keep(c Class) time.Duration {
	return [Classes]time.Duration{o.ResultsAge, o.EventsAge, 0}[c]
}

// surplus returns a class whose oldest record is to go, and why; false if all is
// within its limits. Of the classes that share the quota the least goes first.
func (o *Outbox) surplus() (c Class, why Loss, ok bool) {
	q := &o.queue
	var size [Classes]int64
	for c := range Class(Classes) {
		size[c] = q.bytes(c)
	}
	for c := range Class(Classes) {
		if own := o.opts.own(c); own > 0 && size[c] > own {
			return c, Quota, true
		}
	}
	if o.opts.Count > 0 && q.count(Results) > o.opts.Count {
		return Results, Count, true
	}
	others := size[Results] + size[Events]
	if others <= o.opts.shared() && others+size[Controls] <= o.opts.Quota {
		return 0, 0, false
	}
	for c := range Class(Classes) {
		if q.count(c) > 0 {
			return c, Quota, true
		}
	}
	return 0, 0, false
}

// expire gives up what waited too long, and drops the answers whose time is over,
// as many as one commit should carry.
func (o *Outbox) expire() {
	now := o.age.now()
	for range groupDeletes {
		s, w, at := o.nextExpiry()
		if w == nil || at > now {
			break
		}
		o.lose(s, w, Age)
	}
	for range groupDeletes {
		seq, over := o.answers.expired(now)
		if !over {
			return
		}
		o.forget(seq)
	}
}

// nextExpiry returns the record whose time is over first, and the running time when
// it is; nil if there is none. The oldest of each stream are looked at, no others.
func (o *Outbox) nextExpiry() (s Stream, first *waiting, at time.Duration) {
	for of := range Stream(Streams) {
		keep := o.opts.keep(of.Class())
		if keep == 0 {
			continue
		}
		w := o.queue.lines[of].first()
		if w == nil {
			continue
		}
		if over := time.Duration(w.age)*ageUnit + keep; first == nil || over < at {
			s, first, at = of, w, over
		}
	}
	return s, first, at
}
