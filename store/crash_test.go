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

// TestCrashChild appends, and delivers every third record, until it is killed.
// It tells what it does: "append N" before the record can reach the disk,
// "durable N" when told so, "deliver N" before it says so.
func TestCrashChild(t *testing.T) {
	dir := os.Getenv(crashEnv)
	if dir == "" {
		t.Skip("runs only as the child of TestS1")
	}
	o := mustOpenOutbox(t, dir, OutboxOptions{Memory: 64 << 10})
	go o.Run(context.Background())
	pace := make(chan struct{}, 100) // records under way
	for {
		pace <- struct{}{}
		var number uint64
		o.Append(func(seq uint64) (Record, error) {
			number = seq
			tell("append", seq)
			return Record{Topic: "t", Payload: payload(seq, 300), Job: jobOf(seq), Request: DigestOf([]byte(jobOf(seq)))}, nil
		}, func() {
			tell("durable", number)
			<-pace
		})
		if number%3 == 0 {
			tell("deliver", number)
			o.Delivered(number)
		}
		if number%7 == 0 && number > 50 {
			tell("deliver", number-50)
			o.Delivered(number - 50)
		}
	}
}

// jobOf returns the job that record seq answers, "" for every fifth.
func jobOf(seq uint64) string {
	if seq%5 == 0 {
		return ""
	}
	return fmt.Sprint("job", seq)
}

func tell(what string, seq uint64) {
	os.Stdout.WriteString(fmt.Sprintln(what, seq)) // one write: whole or not at all
}

func TestS1_KilledProcessLosesNothingItCalledDurable(t *testing.T) {
	dir := t.TempDir()
	all := told{"append": {}, "durable": {}, "deliver": {}}
	last := uint64(0)
	for round := range 10 {
		now := killedAfter(t, dir, 1+rand.IntN(4000))
		for seq := range now["append"] {
			if seq <= last {
				t.Errorf("round %d: number %d is used again", round, seq)
			}
		}
		for what, seqs := range now {
			maps.Copy(all[what], seqs)
		}
		last = max(last, slices.Max(append(slices.Collect(maps.Keys(now["append"])), 0)))
		checkSurvivors(t, dir, all)
		if t.Failed() {
			return
		}
	}
}

// told is what children told: numbers by verb.
type told map[string]map[uint64]bool

// killedAfter runs a child, kills it after so many lines, and returns what it
// told until it was dead.
func killedAfter(t *testing.T, dir string, lines int) told {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestCrashChild$")
	cmd.Env = append(os.Environ(), crashEnv+"="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	got := told{"append": {}, "durable": {}, "deliver": {}}
	in := bufio.NewScanner(out)
	for n := 0; in.Scan(); n++ {
		if n == lines {
			cmd.Process.Kill()
		}
		var what string
		var seq uint64
		if _, err := fmt.Sscan(in.Text(), &what, &seq); err == nil && got[what] != nil {
			got[what][seq] = true
		}
	}
	cmd.Wait()
	return got
}

func checkSurvivors(t *testing.T, dir string, all told) {
	t.Helper()
	o := mustOpenOutbox(t, dir, OutboxOptions{})
	defer o.Close()
	waiting := backlog(t, o)
	if !slices.IsSorted(waiting) || len(slices.Compact(slices.Clone(waiting))) != len(waiting) {
		t.Errorf("out of order or twice: %d", waiting)
	}
	left := map[uint64]bool{}
	for _, seq := range waiting {
		left[seq] = true
		if !all["append"][seq] {
			t.Errorf("record %d was never appended", seq)
		}
	}
	for seq := range all["durable"] {
		if !left[seq] && !all["deliver"][seq] {
			t.Errorf("record %d was durable and is gone", seq)
		}
		if jobOf(seq) != "" {
			wantAnswer(t, o, jobOf(seq), seq, 300)
		}
	}
	if gaps := gapsOf(o); len(gaps) > 0 || len(o.Quarantined()) > 0 {
		t.Errorf("gaps %+v, set aside %s; want neither", gaps, o.Quarantined())
	}
}
