package store

import (
	"hash/maphash"
	"time"
)

// What is kept of the answers to jobs. The oldest go first.
const (
	answerKeep  = time.Hour
	answerLimit = 100_000
	answerBytes = 64 << 20 // of topics and payloads
)

// A kept answer is one record that answers a job. The record itself is in
// memory while it is fresh, then on the disk.
type kept struct {
	seq  uint64
	key  uint64 // hash of the job's ID
	also uint64 // hash of the alias; 0 if it has none
	age  time.Duration
	size int64
	gone bool
}

func (k kept) number() uint64 { return k.seq }
func (k kept) left() bool     { return k.gone }

// answers finds the record that answers a job. Jobs are known by a hash, so
// that 100,000 of them take a few megabytes and none of the collector's time;
// who looks one up compares the ID in the record. Two IDs with one hash, which
// nobody can make on purpose, cost the older its answer. Aliases are known in the
// same way.
type answers struct {
	seed  maphash.Seed
	alias func(Record) string // nil: none has one
	log   sequence[kept]
	byKey map[uint64]uint64 // hash of the job's ID, or of the alias → sequence number
	bytes int64
}

func newAnswers(alias func(Record) string) answers {
	return answers{seed: maphash.MakeSeed(), alias: alias, byKey: make(map[uint64]uint64)}
}

// add keeps r, written at the given running time, as the answer to its job.
func (a *answers) add(r Record, age time.Duration) {
	k := kept{seq: r.Seq, key: maphash.String(a.seed, r.Job), age: age, size: r.size()}
	a.byKey[k.key] = k.seq
	if name := a.aliasOf(r); name != "" {
		k.also = maphash.String(a.seed, name)
		a.byKey[k.also] = k.seq
	}
	a.log.push(k)
	a.bytes += k.size
}

// aliasOf is the second name of the answer r, "" if it has none.
func (a *answers) aliasOf(r Record) string {
	if a.alias == nil {
		return ""
	}
	return a.alias(r)
}

func (a *answers) holds(seq uint64) bool { return a.log.holds(seq) }

// find returns the sequence number of the answer to the job, or with the alias.
func (a *answers) find(name string, now time.Duration) (seq uint64, ok bool) {
	seq, ok = a.byKey[maphash.String(a.seed, name)]
	if !ok {
		return 0, false
	}
	k := a.log.find(seq)
	return seq, k != nil && now-k.age < answerKeep
}

// drop forgets the answer with that sequence number, if it is kept.
func (a *answers) drop(seq uint64) {
	k := a.log.find(seq)
	if k == nil {
		return
	}
	k.gone = true
	a.log.count--
	a.bytes -= k.size
	for _, key := range [...]uint64{k.key, k.also} {
		if a.byKey[key] == seq {
			delete(a.byKey, key)
		}
	}
}

// surplus returns the oldest answer if it is over a limit.
func (a *answers) surplus() (seq uint64, ok bool) {
	k := a.log.first()
	if k == nil || a.log.count <= answerLimit && a.bytes <= answerBytes {
		return 0, false
	}
	return k.seq, true
}

// expired returns the oldest answer if its time is over.
func (a *answers) expired(now time.Duration) (seq uint64, ok bool) {
	k := a.log.first()
	if k == nil || now-k.age < answerKeep {
		return 0, false
	}
	return k.seq, true
}
