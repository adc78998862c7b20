package store

import (
	"encoding/json"
	"fmt"
	"slices"
)

// A Loss is why records were given up before they were delivered.
type Loss uint8

// The reasons.
const (
	Quota  Loss = iota // their class, or all together, took too many bytes
	Age                // they waited too long
	Count              // there were too many of their class
	Space              // the memory was full while the file system had no room to spare
	Disk               // the memory was full while the disk failed or did not keep up
	Damage             // they could not be read back
)

// Losses is how many reasons there are.
const Losses = 6

var lossNames = [Losses]string{"quota", "age", "count", "space", "disk", "damage"}

// String is the reason as the wire has it.
func (l Loss) String() string { return lossNames[l] }

// A Gap is what was lost of one class for one reason. No number of that class from
// First to Last was or will be delivered, unless Mixed.
type Gap struct {
	Class   Class
	Reason  Loss
	Records int   // 0: not known how many, and whether any
	Bytes   int64 // as far as known
	First   uint64
	Last    uint64
	Mixed   bool // others in between may have been delivered: there were too many gaps to tell each, or damage hides it
}

const (
	// gapsMost is how many gaps of one class and reason are kept apart.
	gapsMost = 16

	// toldMost is how many may be told of and not delivered yet.
	toldMost = 64
)

// An account is a gap and the record that tells of it.
type account struct {
	Gap
	told uint64 // number of that record, which waits; 0: there is none
}

// gaps are what was lost and has not been told, in the order in which it began. A
// gap stays until the record that tells of it was delivered: should that be lost
// itself, it is told again.
type gaps struct {
	accounts []account
	changed  bool // since the last commit
	logged   bool // since outbox.db has them
	lost     [Classes][Losses]uint64
}

// add counts a record that was given up. back: see waiting.
func (g *gaps) add(c Class, why Loss, seq uint64, back uint32, size int64) {
	g.changed = true
	g.lost[c][why]++
	same, newest := 0, -1
	for i := range g.accounts {
		a := &g.accounts[i]
		if a.told > 0 || a.Class != c || a.Reason != why || a.Records == 0 {
			continue
		}
		if seq == a.Last+1 || back > 0 && seq-uint64(back) == a.Last {
			a.extend(Gap{Records: 1, Bytes: size, First: seq, Last: seq})
			return
		}
		same, newest = same+1, i
	}
	one := Gap{Class: c, Reason: why, Records: 1, Bytes: size, First: seq, Last: seq}
	if same < gapsMost {
		g.accounts = append(g.accounts, account{Gap: one})
		return
	}
	g.accounts[newest].extend(one)
	g.accounts[newest].Mixed = true
}

// extend counts what was lost elsewhere.
func (g *Gap) extend(more Gap) {
	g.First, g.Last = min(g.First, more.First), max(g.Last, more.Last)
	g.Records += more.Records
	g.Bytes += more.Bytes
}

// settle forgets what the record with that number told of: it was delivered.
func (g *gaps) settle(seq uint64) {
	n := len(g.accounts)
	g.accounts = slices.DeleteFunc(g.accounts, func(a account) bool { return a.told == seq })
	g.changed = g.changed || len(g.accounts) < n
}

// retell has what records from first to last told of told again: they were lost.
func (g *gaps) retell(first, last uint64) {
	for i := range g.accounts {
		if told := g.accounts[i].told; told >= first && told <= last {
			g.accounts[i].told = 0
			g.changed = true
		}
	}
}

// next returns the index of a gap to be told, -1 if there is none.
func (g *gaps) next() int {
	told := 0
	for _, a := range g.accounts {
		if a.told > 0 {
			told++
		}
	}
	if told >= toldMost {
		return -1
	}
	return slices.IndexFunc(g.accounts, func(a account) bool { return a.told == 0 })
}

// storedGap is the form of an account on the disk: a list of these in JSON.
type storedGap struct {
	Class   string `json:"class"`
	Reason  string `json:"reason"`
	Records int    `json:"records"`
	Bytes   int64  `json:"bytes"`
	First   uint64 `json:"first"`
	Last    uint64 `json:"last"`
	Mixed   bool   `json:"mixed,omitempty"`
	Told    uint64 `json:"told,omitempty"`
}

func (g *gaps) encode() []byte {
	all := []storedGap{}
	for _, a := range g.accounts {
		all = append(all, storedGap{a.Class.String(), a.Reason.String(), a.Records, a.Bytes, a.First, a.Last, a.Mixed,
			a.told})
	}
	b, _ := json.Marshal(all) // which takes numbers and words
	return b
}

// parseGaps reads what encode wrote.
func parseGaps(b []byte) ([]account, error) {
	if len(b) == 0 {
		return nil, nil
	}
	var all []storedGap
	if err := json.Unmarshal(b, &all); err != nil {
		return nil, fmt.Errorf("gaps: %w", err)
	}
	var accounts []account
	for _, s := range all {
		c := slices.IndexFunc([]Class{Results, Events, Controls}, func(c Class) bool { return c.String() == s.Class })
		why := slices.Index(lossNames[:], s.Reason)
		if c < 0 || why < 0 || s.Records < 0 || s.Bytes < 0 || s.First > s.Last {
			return nil, fmt.Errorf("gaps: %+v is none", s)
		}
		accounts = append(accounts, account{
			Gap{Class(c), Loss(why), s.Records, s.Bytes, s.First, s.Last, s.Mixed}, s.Told,
		})
	}
	return accounts, nil
}

// Gaps tells whether Announce has something to tell.
func (o *Outbox) Gaps() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.pace.fault == nil && o.gaps.next() >= 0
}

// Announce appends a record of the stream Control that tells of one gap; ok is
// false if there is none, or no room, or the disk fails. encode is called as by Append. The
// record is collected once it is on the disk, where the gap is marked as told in the
// same commit; delivered, it takes the gap with it. So each is told once, or again
// if the record is lost.
func (o *Outbox) Announce(encode func(seq uint64, g Gap) (Record, error)) (ok bool, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	i := o.gaps.next()
	if i < 0 || o.pace.fault != nil {
		return false, nil
	}
	seq, err := o.append(&item{held: true}, func(seq uint64) (Record, error) {
		r, err := encode(seq, o.gaps.accounts[i].Gap)
		r.Stream = Control
		o.gaps.accounts[i].told = seq // before the record pushes out another, of which it does not tell
		return r, err
	})
	if err != nil {
		o.gaps.accounts[i].told = 0
		return false, err
	}
	o.gaps.changed = true
	return o.queue.holds(seq), nil // it may be lost to the quota itself, and is told again then
}

// Lost returns how many records of each class were given up for each reason since the
// outbox was opened.
func (o *Outbox) Lost() [Classes][Losses]uint64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.gaps.lost
}
