package load

import (
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestAScriptIsReadAsWritten(t *testing.T) {
	got, err := Parse("10s idle, 500ms cpu:2,  8s memory:1+low:2, 6s quota:30")
	want := []Stage{
		{Length: 10 * time.Second},
		{Length: 500 * time.Millisecond, Hogs: map[Kind]int{CPU: 2}},
		{Length: 8 * time.Second, Hogs: map[Kind]int{Memory: 1, Low: 2}},
		{Length: 6 * time.Second, Hogs: map[Kind]int{}, Quota: 30},
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
	if n := got[2].Count(); n != 3 {
		t.Errorf("got a load of %d, want 3", n)
	}
	if stages, err := Parse(DefaultScript); err != nil || len(stages) != 7 {
		t.Errorf("the default: got %d stages, %v", len(stages), err)
	}
}

func TestAScriptNamesTheStageThatIsWrong(t *testing.T) {
	for _, tt := range []struct{ script, want string }{
		{"", `stage 1, "": wants a duration and a load`},
		{"8s cpu:1", "the first stage must be idle"},
		{"8s idle, cpu:2", `stage 2, "cpu:2": wants a duration`},
		{"8s idle, 0s cpu:2", `"0s" is not a duration`},
		{"8s idle, 2h cpu:2", `"2h" is not a duration of at most an hour`},
		{"8s idle, 1s cpu", `"cpu" wants a number`},
		{"8s idle, 1s cpu:0", `"cpu:0" wants a number`},
		{"8s idle, 1s gpu:1", `"gpu" is none of idle`},
	} {
		if _, err := Parse(tt.script); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%q: got %v, want an error that says %q", tt.script, err, tt.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(DefaultScript)
	f.Add("1s idle,1ms cpu:1+quota:1")
	f.Fuzz(func(t *testing.T, script string) {
		stages, err := Parse(script)
		for _, s := range stages {
			if err == nil && (s.Length <= 0 || s.Count() < 0) {
				t.Errorf("%q: got %+v", script, s)
			}
		}
	})
}
