package store

import (
	"errors"
	"math/rand/v2"

	bolt "go.etcd.io/bbolt"
)

// keyGeneration holds, in the meta bucket of outbox.db, the generation of the frames of
// the journal that count: 32 bits of a random number that tell outboxes apart, and a
// count of 32 bits.
const keyGeneration = "generation"

// keyJournal holds, in the meta bucket of outbox.db, how many bytes the journal has; 0
// where none is used, as after an orderly end.
const keyJournal = "journal"

// lineage is the part of a generation that tells outboxes apart.
func lineage(generation uint64) uint64 { return generation >> 32 }

// replay takes over what a journal has, and begins its next generation.
func (c *contents) replay(tx *bolt.Tx, journal []byte) error {
	meta := tx.Bucket([]byte(bucketMeta))
	reserved, age := parseNumber(meta.Get([]byte(keyReserved))), duration(meta.Get([]byte(keyAge)))
	c.created, c.inUse = reserved == 0, int64(parseNumber(meta.Get([]byte(keyJournal))))
	reserved = max(reserved, c.choose(parseNumber(meta.Get([]byte(keyGeneration))), journal))
	var found tallies
	var done [Classes][]uint64 // which each frame repeats
	bodies, lost := frames(journal, c.generation)
	for _, body := range bodies {
		g, before, err := parseGroup(body)
		if err != nil {
			c.leftOut("a group in the journal cannot be read", err)
			continue
		}
		c.missed = append(c.missed, before.missing(found)...)
		g.reserved, g.age = max(g.reserved, reserved), max(g.age, age)
		if err := g.write(tx); err != nil {
			return err
		}
		found, done = before, g.done.queue
		found.add(g)
		c.logged = true
	}
	for i := range c.missed {
		c.missed[i].without(done[c.missed[i].Class])
	}
	if lost {
		c.wrong = append(c.wrong, errors.New("the last group in outbox.log is damaged: results, events and answers of "+
			"the last moments before this start are lost, and are not counted"))
	}
	c.next, c.generation = max(1, reserved, parseNumber(meta.Get([]byte(keyReserved)))), c.generation+1
	return nil
}

// choose chooses the generation whose frames count: that which outbox.db knows. Where
// it is new, damaged, or older than its journal, as on a disk that forgot what it had
// called written, it is the newest. It returns what numbers a journal of
// another outbox may have used.
func (c *contents) choose(known uint64, journal []byte) (reserved uint64) {
	last, newest := lastGeneration(journal)
	if c.unsure && known-newest > 1 { // as it is while the journal is written, or until it is
		known = 0
	}
	c.generation = known
	switch {
	case known == 0 && newest == 0:
		c.generation = uint64(rand.Uint32())<<32 | 1
	case known == 0: // with the mark: frames before it are void
		c.generation = newest
	case last > known && lineage(last) == lineage(known): // the frames, which outbox.db may not have
		c.generation = last
	case newest > 0 && lineage(newest) != lineage(known):
		c.leftOut("the journal is another outbox's", errors.New("its generation is not of this one"))
		bodies, _ := frames(journal, newest)
		for _, body := range bodies {
			if g, _, err := parseGroup(body); err == nil {
				reserved = max(reserved, g.reserved)
			}
		}
	}
	return reserved
}

// openJournal begins a generation of the journal, of which nothing is left that
// outbox.db does not have.
func (o *Outbox) openJournal(c contents) {
	if o.journal.restart(c.generation); o.file.away() != nil {
		return // what the journal on the disk has is nowhere else
	}
	taken := group{generation: c.generation, reserved: c.next + reserve, age: c.age}
	if err := o.journal.open(taken); err != nil {
		o.log.Warn("no journal: outbox.db is written for each group, which wears the disk", "err", err)
	}
}
