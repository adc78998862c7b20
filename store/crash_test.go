//go:build linux

package store

import (
	"bufio"
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"testing"
)

const crashEnv = "STORE_TEST_CRASH_FOLDER"

// crashOptions are so narrow that results are lost to their count, and events to
// their size.
func crashOptions() OutboxOptions {
	return OutboxOptions{Memory: 64 << 10, Quota: 200 << 10, Count: 200, Events: 20 << 10}
}

// TestCrashChild appends to all streams, delivers some of each, and tells of gaps,
// until it is killed. It tells what it does: "append N" before the record can
// reach the disk, "durable N" when told so, "deliver N" before it says so, "announce N"
// and the gap that record N is about.
func TestCrashChild(t *testing.T) {
	dir := os.Getenv(crashEnv)
	if dir == "" {
		t.Skip("runs only as the child of TestS1")
	}
	o := mustOpenOutbox(t, dir, crashOptions())
	go o.Run(context.Background())
	for i := 1; ; i++ {
		number := crashAppend(o, nil)
		if number%160 == 0 {
			crashDeliver(o, number)
		}
		if i%20 == 0 {
			crashDrain(o, Stream(rand.N(Streams)), 10)
		}
		if i%40 == 0 {
			for range 3 { // faster than gaps begin, as too many would be told as one
				crashAnnounce(o)
			}
			crashDrain(o, Control, 20)
		}
		if i%100 == 0 { // so that the disk keeps up
			durable := make(chan struct{})
			crashAppend(o, func() { close(durable) })
			<-durable
		}
	}
}

// crashAppend appends a record to the stream of its number, or, if somebody waits for
// it, to that which is not given up.
func crashAppend(o *Outbox, durable func()) (number uint64) {
	o.Append(func(seq uint64) (Record, error) {
		number = seq
		s := crashStream(seq)
		if durable != nil {
			s = Control
		}
		tell("append", seq, uint64(s.Class()))
		job := jobOf(seq)
		return Record{Topic: "t", Payload: payload(seq, 300), Job: job, Request: DigestOf([]byte(job)), Stream: s}, nil
	}, func() {
		tell("durable", number)
		if durable != nil {
			durable()
		}
	})
	return number
}

// crashStream returns the stream of a record. The link comes and goes every 256 records.
func crashStream(seq uint64) Stream {
	result := []Stream{Late, Live}[seq/256%2]
	return []Stream{Control, Event, Event, result, result, result, result, result}[seq%8]
}

func crashDeliver(o *Outbox, seq uint64) {
	tell("deliver", seq)
	o.Delivered(seq)
}

// crashDrain delivers the first records of a stream.
func crashDrain(o *Outbox, s Stream, limit int) {
	records, _ := o.Collect(s, 0, limit)
	for _, r := range records {
		crashDeliver(o, r.Seq)
	}
}

// crashAnnounce tells of a gap.
func crashAnnounce(o *Outbox) {
	o.Announce(func(seq uint64, g Gap) (Record, error) {
		tell("append", seq, uint64(Controls))
		tell("announce", seq, uint64(g.Class), uint64(g.Reason), uint64(g.Records), g.First, g.Last)
		return Record{Topic: "t", Payload: payload(seq, 300)}, nil
	})
}

// jobOf returns the job that record seq answers, "" for every fifth.
func jobOf(seq uint64) string {
	if seq%5 == 0 {
		return ""
	}
	return fmt.Sprint("job", seq)
}

func tell(what string, numbers ...uint64) {
	os.Stdout.WriteString(fmt.Sprintln(what, numbers)) // one write: whole or not at all
}

func TestS1_KilledProcessLosesNothingItCalledDurable(t *testing.T) {
	dir := t.TempDir()
	all := newTold()
	last := uint64(0)
	for round := range 6 {
		now := killedAfter(t, "TestCrashChild", dir, 1+rand.IntN(6000))
		for seq := range now.appended {
			if seq <= last {
				t.Errorf("round %d: number %d is used again", round, seq)
			}
		}
		all.add(now)
		last = max(last, slices.Max(append(slices.Collect(maps.Keys(now.appended)), 0)))
		checkSurvivors(t, dir, crashOptions(), all)
		if t.Failed() {
			return
		}
	}
	if len(all.announced) == 0 {
		t.Error("no gap was announced")
	}
}

// told is what children told.
type told struct {
	appended           map[uint64]Class
	durable, delivered map[uint64]bool
	announced          map[uint64]Gap
}

func newTold() told {
	return told{map[uint64]Class{}, map[uint64]bool{}, map[uint64]bool{}, map[uint64]Gap{}}
}

func (d told) add(more told) {
	maps.Copy(d.appended, more.appended)
	maps.Copy(d.durable, more.durable)
	maps.Copy(d.delivered, more.delivered)
	maps.Copy(d.announced, more.announced)
}

// read takes in one line.
func (d told) read(line string) {
	var n, c, why, records, first, last uint64
	if _, err := fmt.Sscanf(line, "append [%d %d]", &n, &c); err == nil {
		d.appended[n] = Class(c)
	} else if _, err := fmt.Sscanf(line, "durable [%d]", &n); err == nil {
		d.durable[n] = true
	} else if _, err := fmt.Sscanf(line, "deliver [%d]", &n); err == nil {
		d.delivered[n] = true
	} else if _, err := fmt.Sscanf(line, "announce [%d %d %d %d %d %d]", &n, &c, &why, &records, &first,
		&last); err == nil {
		d.announced[n] = Gap{Class: Class(c), Reason: Loss(why), Records: int(records), First: first, Last: last}
	}
}

// killedAfter runs a child, kills it after so many lines, and returns what it
// told until it was dead.
func killedAfter(t *testing.T, child, dir string, lines int) told {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^"+child+"$")
	cmd.Env = append(os.Environ(), crashEnv+"="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	got := newTold()
	in := bufio.NewScanner(out)
	for n := 0; in.Scan(); n++ {
		if n == lines {
			cmd.Process.Kill()
		}
		got.read(in.Text())
	}
	cmd.Wait()
	return got
}

func checkSurvivors(t *testing.T, dir string, opts OutboxOptions, all told) {
	t.Helper()
	o := mustOpenOutbox(t, dir, opts)
	defer o.Close()
	left := map[uint64]bool{}
	for _, seq := range backlog(t, o) {
		if left[seq] {
			t.Errorf("record %d waits twice", seq)
		}
		left[seq] = true
		if _, ok := all.appended[seq]; !ok {
			t.Errorf("record %d was never appended", seq)
		}
	}
	lost := checkGaps(t, o, all, left)
	for seq := range all.durable {
		if !left[seq] && !all.delivered[seq] && !lost[seq] {
			t.Errorf("record %d was durable and is gone", seq)
		}
		if jobOf(seq) != "" {
			wantAnswer(t, o, jobOf(seq), seq, 300)
		}
	}
	if len(o.Quarantined()) > 0 {
		t.Errorf("set aside %s, want nothing", o.Quarantined())
	}
}

// checkGaps wants every gap, told or not, to count what is missing where it says, and
// no number to be in two of them. It returns the numbers that are in one.
func checkGaps(t *testing.T, o *Outbox, all told, left map[uint64]bool) map[uint64]bool {
	t.Helper()
	var gaps []Gap
	for _, a := range o.gaps.accounts {
		gaps = append(gaps, a.Gap)
	}
	for seq, g := range all.announced {
		if all.delivered[seq] && !left[seq] {
			gaps = append(gaps, g)
		}
	}
	lost := map[uint64]bool{}
	for _, g := range gaps {
		count := 0
		for seq := g.First; seq <= g.Last; seq++ {
			if c, ok := all.appended[seq]; !ok || c != g.Class {
				continue
			}
			count++
			if left[seq] || lost[seq] {
				t.Errorf("record %d is in %+v, and waits: %v, is in another: %v", seq, g, left[seq], lost[seq])
			}
			lost[seq] = true
		}
		if g.Records != count || g.Mixed {
			t.Errorf("gap %+v, want %d records of one run", g, count)
		}
	}
	return lost
}
