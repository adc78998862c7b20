package sim

import (
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/limber-edge/limber/firmware/slot"
)

func mustExample(tb testing.TB) *Profile {
	tb.Helper()
	p, err := ParseProfile(Example)
	if err != nil {
		tb.Fatal(err)
	}
	return p
}

func TestAProfileIsReadStrictlyAndJudgedAtOnce(t *testing.T) {
	for _, tt := range []struct {
		name, from, to string // in the example
		says           []string
	}{
		{"as it is", "", "", nil},
		{"an unknown key", `"fps"`, `"fp"`, []string{`unknown field "fp"`}},
		{"more than one", "\n}\n", "\n}{}", []string{"something follows"}},
		{"two complaints", `"fps": 0.2,`, `"fps": -1, "load": [{"seconds": 0, "slowdown": 1}],`,
			[]string{"fps -1: wants", "load 0: seconds 0: wants"}},
		{"one family twice", "night", "day", []string{`family "day": the name is taken`}},
		{"no accuracy won", "0.76", "0.72", []string{`"middle": must be more accurate than "small"`}},
		{"no class", `"classes": 10`, `"classes": 1`, []string{"1 classes: wants at least two"}},
		{"too many classes", `"classes": 10`, `"classes": 1000000000`, []string{"1000000000 classes: wants at most 1000"}},
		{"no latency", `"latency_ms": 9`, `"latency_ms": 0`, []string{`member "middle": latency_ms 0`}},
		{"a member that never loads", `"kib": 256`, `"load_ms": 1e9`, []string{"load_ms 1e+09: wants 0 to 600000"}},
		{"a model that does not fit", `"kib": 256`, `"kib": 65537`, []string{"kib 65537: wants 0 to 65536"}},
		{"a release that fails in no way", `"crash"`, `"rain"`, []string{`release "1.6.0": fails "rain": wants one of [crash hang no_link`}},
		{"a family that fails in no way", `"name": "night",`, `"name": "night", "fails": "rain",`, []string{`family "night": fails "rain": wants misses or canary`}},
		{"a first family that fails", `"name": "day",`, `"name": "day", "fails": "canary",`, []string{`family "day": fails: devices start with it`}},
		{"no share", `"agreement": 0.9,`, `"agreement": 9,`, []string{"agreement 9: want fractions"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := ParseProfile([]byte(strings.Replace(string(Example), tt.from, tt.to, 1)))
			if (err == nil) != (tt.says == nil) {
				t.Fatalf("got %v, want %q", err, tt.says)
			}
			for _, want := range tt.says {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("got %v, want %q", err, want)
				}
			}
		})
	}
}

func TestWhatIsToldToFailDoesWhateverTheProfileSays(t *testing.T) {
	p := mustExample(t)
	for name, how := range map[string]string{"night": "canary", "1.6.0": "hang", "1.7.0": "state"} {
		if err := p.Fail(name, how); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if p.Families[1].Fails != Canary || p.fails("1.6.0") != slot.Hang || p.fails("1.7.0") != slot.State || p.fails("1.5.0") != "" {
		t.Errorf("got %+v and %+v", p.Families[1], p.Releases)
	}
	for _, bad := range [][2]string{{"day", "misses"}, {"night", "crash"}, {"1.6.0", "misses"}} {
		if err := mustExample(t).Fail(bad[0], bad[1]); err == nil {
			t.Errorf("%v: got no error", bad)
		}
	}
}

func FuzzParseProfile(f *testing.F) {
	f.Add(Example)
	f.Add([]byte(`{"families":[{"name":"a","classes":2,"members":[{"name":"m","top1":0.5,"latency_ms":1}]}],"deadline_ms":9}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := ParseProfile(b)
		if err != nil {
			return
		}
		for i, want := range p.Families {
			if f, err := p.Folder(i); err != nil || f.Name != want.Name || len(f.Members) != len(want.Members) {
				t.Errorf("got %+v, %v; want family %s", f, err, want.Name)
			}
		}
		if s := p.stage(time.Hour); !(s.Slowdown > 0) {
			t.Errorf("got stage %+v", s)
		}
	})
}

func TestLoadComesAgainFromTheStart(t *testing.T) {
	p := mustExample(t)
	var got []float64
	for _, s := range []time.Duration{0, 59, 61, 79, 81, 141} {
		got = append(got, p.stage(s*time.Second).Slowdown)
	}
	if want := []float64{1, 1, 1.8, 1.8, 1, 1.8}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestAMemberAgreesOnItsShareOfPicturesAndAlwaysOnTheSame(t *testing.T) {
	m := Member{Name: "m", Agreement: 0.9}
	agreed := 0
	for i := range 10_000 {
		mean := float64(i) / 7
		if m.astray(mean) != m.astray(mean) {
			t.Fatalf("picture %v: got both", mean)
		}
		if !m.astray(mean) {
			agreed++
		}
	}
	if agreed < 8_800 || agreed > 9_200 {
		t.Errorf("got %d of 10000, want 9000 or so", agreed)
	}
}

func TestAMemberTakesWhatItTakesAndNotWhatItPromises(t *testing.T) {
	m := Member{LatencyMS: 4, TakesMS: 90, CV: 0.1}
	var took []float64
	for range 1000 {
		took = append(took, float64(m.takes())/float64(time.Millisecond))
	}
	slices.Sort(took)
	if median, low := took[500], took[0]; math.Abs(median-90) > 3 || low < 50 {
		t.Errorf("got a median of %v ms, at least %v; want 90", median, low)
	}
}

func TestASeedRepeatsWhatBefallsADevice(t *testing.T) {
	draw := func(seed uint64, device int) [2]float64 {
		f := &Fleet{cfg: Config{Seed: seed}}
		return [2]float64{f.chance(device, ofChurn).Float64(), f.chance(device, ofCuts).Float64()}
	}
	if draw(1, 2) != draw(1, 2) {
		t.Error("the same seed gives another fate")
	}
	seen := []float64{}
	for _, d := range [][2]float64{draw(1, 2), draw(1, 3), draw(2, 2)} {
		seen = append(seen, d[:]...)
	}
	if slices.Sort(seen); len(slices.Compact(seen)) != 6 {
		t.Errorf("got %v, want six that differ", seen)
	}
}
