package replay

import (
	"bytes"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"
)

const small = `# seconds phase load latencies
0.0000 0 0 1.0000 2.0000
0.1000 0 0 1.2000 2.2000

0.2000 1 2 3.0000 6.0000
0.3000 1 2 1.1000 5.0000
`

func mustRead(t testing.TB, text string, members int) Trace {
	t.Helper()
	trace, err := Read(strings.NewReader(text), members)
	if err != nil {
		t.Fatal(err)
	}
	return trace
}

func TestTraceIsReadAsItWasWritten(t *testing.T) {
	trace := mustRead(t, small, 2)
	if len(trace) != 4 || trace[2].Load != 2 || trace[2].Latency[1] != ms(6) || trace[3].At != ms(300) {
		t.Errorf("got %v", trace)
	}
	var written bytes.Buffer
	for _, s := range trace {
		fmt.Fprintln(&written, s)
	}
	if again := mustRead(t, written.String(), 2); !reflect.DeepEqual(trace, again) {
		t.Errorf("got %v, want %v", again, trace)
	}
}

func TestReadNamesTheLineThatIsWrong(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{"", "no step of phase 0"},
		{"0 1 1 1 2\n", "no step of phase 0"},
		{"0 0 0 1 2\n0.1 0 0 1\n", "line 2: 4 fields, want 5"},
		{"0 0 0 1 2\n\n0.1 0 0 1 x\n", "line 3: latency of member 1"},
		{"0 0 0 1 0\n", "not positive"},
		{"0 0 0 1 NaN\n", "not between 0 and 24 hours"},
		{"0 0 0 1 -3\n", "not between 0 and 24 hours"},
		{"0 0 0 1 1e300\n", "not between 0 and 24 hours"},
		{"0 a 0 1 2\n", "phase"},
		{"0 0 b 1 2\n", "load"},
		{"1 0 0 1 2\n0.5 0 0 1 2\n", "line 2: 500ms is before the step above"},
		{strings.Repeat("x", 2*maxLine), "line 1"},
	} {
		if _, err := Read(strings.NewReader(tt.text), 2); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%.30q: got %v, want an error that says %q", tt.text, err, tt.want)
		}
	}
}

func TestProfileIsTheMedianOfPhase0(t *testing.T) {
	members, err := mustRead(t, small, 2).Members([]float64{0.7, 0.8})
	if err != nil || members[0].Latency != ms(1.2) || members[1].Latency != ms(2.2) || members[1].Top1 != 0.8 {
		t.Errorf("got %+v, %v", members, err)
	}
	swapped, err := mustRead(t, "0 0 0 2 1.5\n", 2).Members([]float64{0.7, 0.8})
	if err != nil || swapped[1].Latency != ms(2)+1 {
		t.Errorf("the larger member was faster: got %+v, %v", swapped, err)
	}
	if _, err := mustRead(t, small, 2).Members([]float64{0.8, 0.7}); err == nil || !strings.Contains(err.Error(),
		"Pareto") {
		t.Errorf("top-1 that falls: got %v", err)
	}
}

func FuzzRead(f *testing.F) {
	f.Add(small, 2)
	f.Add("0 0 0 1e-9\n", 1)
	f.Fuzz(func(t *testing.T, text string, members int) {
		if members < 0 || members > 16 {
			return
		}
		trace, err := Read(strings.NewReader(text), members)
		if err == nil && len(trace) == 0 {
			t.Error("got a trace without a step")
		}
	})
}

// An int has 32 bits on some devices, which is two seconds of nanoseconds.
func TestAMomentFindsItsStepInALongTrace(t *testing.T) {
	trace := Trace{{At: 0}, {At: ms(3000)}, {At: ms(6000)}}
	for _, tt := range []struct{ now, want time.Duration }{
		{0, 0}, {1, ms(3000)}, {ms(3000), ms(3000)}, {ms(3001), ms(6000)}, {ms(9000), ms(6000)},
	} {
		if got := trace.at(tt.now).At; got != tt.want {
			t.Errorf("at %v: got the step of %v, want that of %v", tt.now, got, tt.want)
		}
	}
}
