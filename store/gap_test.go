package store

import (
	"errors"
	"os"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// announced has gaps announced until there is none, and returns them with the numbers
// of the records that tell of them.
func announced(tb testing.TB, o *Outbox) (gaps []Gap, seqs []uint64) {
	tb.Helper()
	for {
		ok, err := o.Announce(func(seq uint64, g Gap) (Record, error) {
			gaps, seqs = append(gaps, g), append(seqs, seq)
			return Record{Topic: "t", Payload: payload(seq, 99)}, nil
		})
		if err != nil {
			tb.Fatal(err)
		}
		if !ok {
			return gaps, seqs
		}
	}
}

// mustLose appends ten results of which seven are lost.
func mustLose(tb testing.TB, o *Outbox) Gap {
	tb.Helper()
	o.opts.Count = 3
	seqs := mustAppendTo(tb, o, 99, slices.Repeat([]Stream{Late}, 10)...)
	return Gap{Class: Results, Reason: Count, Records: 7, Bytes: 700, First: seqs[0], Last: seqs[6]}
}

func TestAGapIsToldOnceItsRecordIsOnTheDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := mustOpenOutbox(t, t.TempDir(), OutboxOptions{})
		stop := mustRun(t, o)
		want := mustLose(t, o)
		if !o.Gaps() {
			t.Error("nothing to tell")
		}
		gaps, seqs := announced(t, o)
		if !slices.Equal(gaps, []Gap{want}) || o.Gaps() {
			t.Fatalf("announced %+v, want %+v once", gaps, want)
		}
		after := mustAppendTo(t, o, 99, Control)[0]
		if records, more := o.Collect(Control, 0, 10); more == nil {
			t.Errorf("collected %v before the commit", records)
		}
		pass(groupAge)
		if got, want := inStream(t, o, Control), []uint64{seqs[0], after}; !slices.Equal(got, want) {
			t.Errorf("after the commit %d wait, want %d", got, want)
		}
		o.Delivered(seqs[0])
		pass(lazyEvery)
		o = restart(t, o, stop)
		if gaps := o.gaps.accounts; len(gaps) > 0 {
			t.Errorf("told and delivered, after a restart %+v are left", gaps)
		}
	})
}

func TestAGapOutlivesAKill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		o := mustOpenOutbox(t, dir, OutboxOptions{})
		stop := mustRun(t, o)
		want := mustLose(t, o)
		pass(groupAge)
		killed := mustCopy(t, dir)
		announced(t, o)
		pass(groupAge)
		told := mustCopy(t, dir)
		stop()

		o = mustOpenOutbox(t, killed, OutboxOptions{})
		wantGaps(t, o, want)
		o = mustOpenOutbox(t, told, OutboxOptions{})
		if got := inStream(t, o, Control); len(got) != 1 || o.Gaps() {
			t.Errorf("%d wait that tell of it, to be told again: %v; want one, not", got, o.Gaps())
		}
	})
}

// mustCopy copies a state folder, as it would be found after a kill.
func mustCopy(tb testing.TB, dir string) string {
	tb.Helper()
	to := tb.TempDir()
	if err := os.CopyFS(to, os.DirFS(dir)); err != nil {
		tb.Fatal(err)
	}
	return to
}

func TestAnAnnouncementThatIsLostIsMadeAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := mustOpenOutbox(t, t.TempDir(), OutboxOptions{Quota: 2000})
		mustRun(t, o)
		want := mustLose(t, o)
		_, seqs := announced(t, o)
		pass(groupAge)
		o.opts.Quota = 1900
		mustAppendTo(t, o, 949, Control, Control) // pushes all else out
		gaps := gapsOf(o)
		if !slices.Contains(gaps, want) || !slices.Contains(gaps,
			Gap{Class: Controls, Reason: Quota, Records: 1, Bytes: 100, First: seqs[0], Last: seqs[0]}) {
			t.Errorf("gaps %+v, want %+v again and record %d", gaps, want, seqs[0])
		}
	})
}

func TestAnAnnouncementThatIsDamagedIsMadeAgain(t *testing.T) {
	o := mustOpenOutbox(t, t.TempDir(), OutboxOptions{})
	stop := mustRun(t, o)
	want := mustLose(t, o)
	_, seqs := announced(t, o)
	stop()
	mustFlip(t, o, seqs[0])
	o = restart(t, o, stop)
	if gaps := gapsOf(o); len(gaps) != 2 || gaps[0] != want || gaps[1].Reason != Damage || gaps[1].First != seqs[0] {
		t.Errorf("gaps %+v, want %+v and record %d", gaps, want, seqs[0])
	}
}

// While the disk fails nothing can be told for good; what was begun is taken back.
func TestNothingIsAnnouncedWhileTheDiskFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		o := mustOpenOutbox(t, dir, OutboxOptions{})
		mustRun(t, o)
		pass(0)
		want := mustLose(t, o)
		_, seqs := announced(t, o)
		control := mustAppendTo(t, o, 99, Control)[0]
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		pass(time.Minute)
		if got := inStream(t, o, Control); !slices.Equal(got, []uint64{control}) || o.Gaps() || !o.Unwritten() {
			t.Errorf("%d wait, told: %v; want %d alone, and nothing to be told", got, !o.Gaps(), control)
		}
		if gaps, _ := announced(t, o); len(gaps) > 0 {
			t.Errorf("announced %+v", gaps)
		}
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		pass(lastRetry)
		gaps, _ := announced(t, o)
		if !slices.Contains(gaps, want) || !slices.Contains(gaps,
			Gap{Class: Controls, Reason: Disk, Records: 1, Bytes: 100, First: seqs[0], Last: seqs[0]}) {
			t.Errorf("announced %+v, want %+v and record %d", gaps, want, seqs[0])
		}
	})
}

func TestGapsOfAnEarlierVersionAreTakenOver(t *testing.T) {
	dir := t.TempDir()
	lost := Gap{Class: Results, Reason: Quota, Records: 3, Bytes: 100, First: 7, Last: 9, Mixed: true}
	o := mustOpenOutbox(t, dir, OutboxOptions{Lost: lost})
	o.Close() // killed
	o = mustOpenOutbox(t, dir, OutboxOptions{})
	wantGaps(t, o, lost)
}

func TestAGapEndsWhereOneOfItsClassWasDelivered(t *testing.T) {
	o := mustOpenOutbox(t, t.TempDir(), OutboxOptions{Count: 4})
	mustAppendTo(t, o, 99, Late, Event, Late, Live, Late, Event, Late)
	o.Delivered(4)
	mustAppendTo(t, o, 99, Late, Late) // push out 1 and 3
	o.Delivered(5)
	mustAppendTo(t, o, 99, Late, Late, Event, Late) // push out 7 and 8
	wantGaps(t, o, Gap{Class: Results, Reason: Count, Records: 2, Bytes: 200, First: 1, Last: 3},
		Gap{Class: Results, Reason: Count, Records: 2, Bytes: 200, First: 7, Last: 8})
}

func TestTooManyGapsAreMergedAndSaySo(t *testing.T) {
	var g gaps
	for i := range uint64(gapsMost + 3) {
		g.add(Results, Quota, 10*i+1, 5, 100)
		g.add(Events, Quota, 10*i+2, 5, 100)
	}
	records := map[Class]int{}
	for i, a := range g.accounts {
		records[a.Class] += a.Records
		if last := i >= len(g.accounts)-2; a.Mixed != last || last && a.Records != 4 {
			t.Errorf("gap %+v, want the last two of four records, mixed", a)
		}
	}
	if len(g.accounts) != 2*gapsMost || records[Results] != gapsMost+3 || records[Events] != gapsMost+3 {
		t.Errorf("%d gaps of %v, want %d, none lost", len(g.accounts), records, 2*gapsMost)
	}
	if lost := g.lost[Results][Quota]; lost != gapsMost+3 {
		t.Errorf("counted %d", lost)
	}
}

func TestAnAnnouncementThatCannotBeMadeLeavesTheGap(t *testing.T) {
	o := mustOpenOutbox(t, t.TempDir(), OutboxOptions{})
	want := mustLose(t, o)
	bad := errors.New("bad")
	if ok, err := o.Announce(func(uint64, Gap) (Record, error) { return Record{}, bad }); ok || !errors.Is(err, bad) {
		t.Errorf("got %v, %v; want %v", ok, err, bad)
	}
	wantGaps(t, o, want)
}

func FuzzParseGaps(f *testing.F) {
	f.Add([]byte(nil))
	f.Add([]byte(`[]`))
	f.Add([]byte(`[{"class":"result","reason":"quota","records":3,"bytes":9,"first":7,"last":9,"mixed":true,"told":12}]`))
	f.Add([]byte(`[{"class":"control","reason":"disk","records":-3,"first":9,"last":7}]`))
	f.Fuzz(func(t *testing.T, b []byte) {
		accounts, err := parseGaps(b)
		if err != nil {
			return
		}
		g := gaps{accounts: accounts}
		if again, err := parseGaps(g.encode()); err != nil || !slices.Equal(again, accounts) {
			t.Errorf("read %+v, wrote it, read %+v, %v", accounts, again, err)
		}
	})
}

func FuzzParseQueued(f *testing.F) {
	f.Add([]byte(nil))
	f.Add([]byte{byte(Control), 3})
	f.Add([]byte{200, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		s, back := parseQueued(b)
		if s >= Streams {
			t.Errorf("stream %d of %x", s, b)
		}
		var q queue
		q.lines[s].push(waiting{seq: 1, back: back})
		if again, same := parseQueued(q.stored(1)); again != s || same != back {
			t.Errorf("%x: got %d, %d back, want %d, %d", b, again, same, s, back)
		}
	})
}

// A gap event that finds no room itself leaves its gap to be told.
func TestAnAnnouncementWithoutRoomLeavesTheGap(t *testing.T) {
	o := mustOpenOutbox(t, t.TempDir(), OutboxOptions{Quota: 2000})
	want := mustLose(t, o)
	mustAppendTo(t, o, 99, slices.Repeat([]Stream{Control}, 20)...)
	inStream(t, o, Control) // all are on their way
	ok, err := o.Announce(func(seq uint64, g Gap) (Record, error) {
		return Record{Topic: "t", Payload: payload(seq, 99)}, nil
	})
	if ok || err != nil || !slices.Contains(gapsOf(o), want) {
		t.Errorf("got %v, %v, gaps %+v; want nothing told, and %+v", ok, err, gapsOf(o), want)
	}
}

// A gap event that pushes out the next result does not take that for told.
func TestWhatAnAnnouncementPushesOutIsAGapOfItsOwn(t *testing.T) {
	o := mustOpenOutbox(t, t.TempDir(), OutboxOptions{Quota: 2000})
	mustAppendTo(t, o, 99, slices.Repeat([]Stream{Late}, 25)...)
	var told []Gap
	ok, err := o.Announce(func(seq uint64, g Gap) (Record, error) {
		told = append(told, g)
		return Record{Topic: "t", Payload: payload(seq, 199)}, nil
	})
	want := []Gap{{Class: Results, Reason: Quota, Records: 6, Bytes: 600, First: 1, Last: 6}}
	if !ok || err != nil || !slices.Equal(told, want) || o.gaps.accounts[0].Gap != want[0] {
		t.Errorf("told %v, %v, of %+v, noted as %+v; want %+v", ok, err, told, o.gaps.accounts, want)
	}
	wantGaps(t, o, Gap{Class: Results, Reason: Quota, Records: 1, Bytes: 100, First: 7, Last: 7})
}
