package logbook

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"math/rand/v2"
	"os"
	"reflect"
	"runtime"
	"strings"
	"testing"

	"github.com/limber-edge/limber/agent/governor"
)

func ignore(*Entry) {}

func TestALogOfThousandsOfCallsIsRepeatedBitForBit(t *testing.T) {
	for seed := range uint64(3) {
		log := written(t, seed, 3000)
		var entries int
		got, err := Replay(bytes.NewReader(log), func(e *Entry) { entries++ })
		if err != nil || got.Decisions != 3000 || entries != 3000 || got.Segments < 3 || got.Lost != 0 {
			t.Errorf("seed %d: got %+v and %d entries, %v; want 3000 decisions in some segments", seed, got, entries, err)
		}
	}
}

// Those of format 2 are of the version before decoding was told of: one with all
// kinds of calls, and one of members slower than their profiles, with time to
// spare. That of format 3 has all kinds of calls. Both of these have hints, which
// are no longer written.
func TestLogsOfEarlierVersionsAreRepeatedBitForBit(t *testing.T) {
	for file, decisions := range map[string]int{"format2": 320, "format2-slower": 1200, "format3": 400} {
		f, err := os.Open("testdata/" + file + ".log.gz")
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		log, err := gzip.NewReader(f)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := Replay(log, ignore); err != nil || got.Decisions != decisions {
			t.Errorf("%s: got %+v, %v; want %d decisions", file, got, err, decisions)
		}
	}
}

func TestEverySegmentCanBeRepeatedAlone(t *testing.T) {
	log := written(t, 1, 2000)
	alone := bytes.SplitAfter(log, []byte("\nL "))
	decisions := 0
	for i, part := range alone {
		if i > 0 {
			part = append([]byte("L "), part...)
		}
		got, err := Replay(bytes.NewReader(bytes.TrimSuffix(part, []byte("L "))), ignore)
		if err != nil {
			t.Errorf("segment %d: %v", i, err)
		}
		decisions += got.Decisions
	}
	if decisions != 2000 {
		t.Errorf("got %d decisions in %d segments, want 2000", decisions, len(alone))
	}
}

func TestAnEntryTellsWhatWasAskedAndWhatBecameOfIt(t *testing.T) {
	out := new(memory)
	d := newDesk(t, newLog(out, 1<<20, about()))
	if err := d.SetMode(mustMode(t, "fixed:s1")); err != nil {
		t.Fatal(err)
	}
	d.Decide(10*ms, governor.Queue{Deadline: 50 * ms, Waiting: nil, Floor: 0.72})
	d.Observe(21*ms, 1, 1, 11*ms)
	d.Ended(true)
	d.Decide(30*ms, governor.Queue{Deadline: 29 * ms})
	d.Ended(false)
	d.Decide(200*ms, governor.Queue{Deadline: 260 * ms})
	d.shut()
	var got []*Entry
	if _, err := Replay(&out.Buffer, func(e *Entry) { got = append(got, e) }); err != nil || len(got) != 3 {
		t.Fatalf("got %d entries, %v", len(got), err)
	}
	e := got[0]
	if e.Line != 4 || !e.At.Equal(about().Epoch.Add(10*ms)) || e.Mode.String() != "fixed:s1" ||
		e.Queue.Deadline != 40*ms || e.Queue.Floor != 0.72 ||
		e.Decision.Member != 1 || e.Infer != 11*ms || !e.Ended || !e.Met || len(e.Options) != 3 ||
		!strings.Contains(e.Why, "s1 is fixed") || e.Version != "test" {
		t.Errorf("got %+v", e)
	}
	if e := got[1]; !e.Decision.Shed || !e.Ended || e.Met || e.Infer != 0 {
		t.Errorf("refused: got %+v", e)
	}
	if e := got[2]; e.Ended {
		t.Errorf("not yet ended: got %+v", e)
	}
}

func TestAChangedByteIsFound(t *testing.T) {
	log := written(t, 3, 60)
	r := rand.New(rand.NewPCG(1, 1))
	for range 150 {
		at := r.IntN(len(log))
		changed := bytes.Clone(log)
		changed[at] ^= byte(1 + r.IntN(127))
		if bytes.Count(log, []byte("\n")) != bytes.Count(changed, []byte("\n")) && at > len(log)-12 {
			continue // the end of the last line: as good as a power cut
		}
		_, err := Replay(bytes.NewReader(changed), ignore)
		if err == nil {
			t.Errorf("byte %d changed from %q to %q: got no error", at, log[at], changed[at])
		} else if !strings.HasPrefix(err.Error(), "line ") {
			t.Errorf("byte %d: %q does not name the line", at, err)
		}
	}
}

func TestTheLineOfADifferenceIsNamed(t *testing.T) {
	lines := bytes.SplitAfter(written(t, 4, 60), []byte("\n"))
	n := 0
	for i, line := range lines {
		if bytes.HasPrefix(line, []byte("D ")) {
			n = i
		}
	}
	at := bytes.IndexByte(lines[n], '=') + 2 // the member
	lines[n][at] = '0' + (lines[n][at]-'0'+1)%3
	_, err := Replay(bytes.NewReader(bytes.Join(lines, nil)), ignore)
	if want := fmt.Sprintf("line %d: the decision is", n+1); err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("got %v, want %q", err, want)
	}
}

func TestALogOfAnotherArchitectureMayDifferInItsLastDigits(t *testing.T) {
	for _, tt := range []struct {
		name, decision, want string
	}{
		{"the same", "1 1 best 0 0.5 1000000 2", ""},
		{"rounded", "1 1 best 0 0.5000000000000002 1000001 2", ""},
		{"another member", "0 1 best 0 0.5 1000000 2", "is \"0 1 best"},
		{"another reason", "1 1 hold 0 0.5 1000000 2", "is \"1 1 hold"},
		{"another chance", "1 1 best 0 0.6 1000000 2", "is \"1 1 best 0 0.6"},
		{"half of it", "1 1 best 0", "is \"1 1 best 0\""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := governor.Decision{Member: 1, Batch: 1, Chance: 0.5, Predicted: ms, Operating: 2}
			abroad := player{head: &header{Arch: "none"}}
			switch err := abroad.compare(d, tt.decision); {
			case tt.want == "" && err != nil, tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("got %v, want %q", err, tt.want)
			}
			home := player{head: &header{Arch: runtime.GOARCH}}
			if err := home.compare(d, tt.decision); (err == nil) != (tt.name == "the same") {
				t.Errorf("on this architecture: got %v", err)
			}
		})
	}
}

func TestHalfALineAtTheEndIsAPowerCut(t *testing.T) {
	log := written(t, 5, 50)
	for cut := range 60 {
		part := log[:len(log)-cut]
		if got, err := Replay(bytes.NewReader(part), ignore); err != nil || got.Torn == bytes.HasSuffix(part, []byte("\n")) {
			t.Fatalf("without the last %d bytes: got torn %v, %v", cut, got.Torn, err)
		}
	}
	if got, err := Replay(strings.NewReader(""), ignore); err != nil || got != (Summary{}) {
		t.Errorf("an empty log: got %+v, %v", got, err)
	}
}

func TestWhatIsNoLogIsSaidToBeNone(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{"hello\n", "line 1: not a decision log"},
		{"S {}\n", "line 1: not a decision log"},
		{"L {\n", "line 1: header"},
		{`L {"format":1}` + "\n", "line 1: format 1, this program reads 2 to 3"},
		{`L {"format":2}` + "\nA 5\n", "line 2: a call before the snapshot"},
		{`L {"format":2}` + "\nS {}\n", "line 2: snapshot"},
	} {
		if _, err := Replay(strings.NewReader(tt.text), ignore); err == nil || !strings.HasPrefix(err.Error(), tt.want) {
			t.Errorf("%q: got %v, want %q", tt.text, err, tt.want)
		}
	}
}

func TestABookHasEveryMethodOfAGovernor(t *testing.T) {
	gov, book := reflect.TypeFor[*governor.Governor](), reflect.TypeFor[*Book]()
	for m := range gov.Methods() {
		if m.Name == "Snapshot" || m.Name == "Hint" { // is in the log; is for replays, so that a device cannot give one
			continue
		}
		got, ok := book.MethodByName(m.Name)
		if !ok {
			t.Errorf("%s is missing: what is not written cannot be repeated", m.Name)
			continue
		}
		for i := 1; i < m.Type.NumIn(); i++ {
			if got.Type.NumIn() != m.Type.NumIn() || got.Type.In(i) != m.Type.In(i) {
				t.Errorf("%s: got %v, want %v", m.Name, got.Type, m.Type)
			}
		}
	}
}

func FuzzReplay(f *testing.F) {
	f.Add(written(f, 6, 12))
	f.Add(written(f, 3, 40)) // has an experience
	f.Add([]byte("L {\"format\":1}\nS {}\n"))
	f.Fuzz(func(t *testing.T, log []byte) {
		if len(log) > 1<<16 {
			return
		}
		_, err := Replay(bytes.NewReader(log), func(e *Entry) {
			_ = e.Members[e.Decision.Member]
		})
		if err != nil && !strings.HasPrefix(err.Error(), "line ") {
			t.Errorf("%v does not name a line", err)
		}
	})
}
