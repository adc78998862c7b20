package governor

import (
	"strings"
	"testing"
)

func TestParseModeRoundTrips(t *testing.T) {
	for _, name := range []string{"balanced", "max-accuracy", "low-latency", "fixed:s3", "fixed:a:b"} {
		m, err := ParseMode(name)
		if err != nil || m.String() != name {
			t.Errorf("%s: got %s, %v", name, m, err)
		}
	}
	if (Mode{}) != mustMode(t, "balanced") {
		t.Error("the zero Mode is not balanced")
	}
}

func TestParseModeListsWhatIsSupported(t *testing.T) {
	for _, name := range []string{"", "Balanced", "fixed", "fixed:", "turbo", " balanced"} {
		_, err := ParseMode(name)
		if err == nil {
			t.Errorf("%q: got no error", name)
			continue
		}
		for _, supported := range []string{"balanced", "max-accuracy", "low-latency", "fixed:"} {
			if !strings.Contains(err.Error(), supported) {
				t.Errorf("%q: got %q, want it to name %s", name, err, supported)
			}
		}
	}
}

func FuzzParseMode(f *testing.F) {
	f.Add("balanced")
	f.Add("fixed:s0")
	f.Add("fixed:")
	f.Fuzz(func(t *testing.T, name string) {
		if m, err := ParseMode(name); err == nil && m.String() != name {
			t.Errorf("read %q, wrote %q", name, m)
		}
	})
}
