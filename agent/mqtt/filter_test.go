package mqtt

import (
	"strings"
	"testing"
)

func TestFiltersOverlapWhereATopicFitsBoth(t *testing.T) {
	for _, tt := range []struct {
		a, b string
		want bool
	}{
		{"cam/front/jpg", "cam/front/jpg", true},
		{"cam/+/jpg", "cam/front/jpg", true},
		{"cam/+/jpg", "cam/front/png", false},
		{"cam/+/jpg", "cam/jpg", false},
		{"cam/+/jpg", "+/front/+", true},
		{"cam/+", "cam/front/jpg", false},
		{"cam/#", "cam/front/jpg", true},
		{"cam/#", "cam", true},
		{"cam/+/#", "cam", false},
		{"cam/+/#", "cam/front", true},
		{"cam/#", "camera", false},
		{"#", "limber/#", true},
		{"+/#", "limber/#", true},
		{"+/+/+/desk/#", "limber/#", true},
		{"cam/+/snapshot", "limber/#", false},
		{"#", "$SYS/#", false},
		{"+/broker", "$SYS/broker", false},
		{"$SYS/#", "$SYS/broker", true},
		{"cam/", "cam", false},
		{"cam/+", "cam/", true},
		{"/cam", "+/cam", true},
		{"/cam", "cam", false},
	} {
		if got, back := Overlap(tt.a, tt.b), Overlap(tt.b, tt.a); got != tt.want || back != tt.want {
			t.Errorf("%s and %s: got %v and, the other way round, %v; want %v", tt.a, tt.b, got, back, tt.want)
		}
	}
}

// FuzzOverlap holds it against MQTT's matching, level by level: what two filters
// both match, they overlap in.
func FuzzOverlap(f *testing.F) {
	f.Add("cam/+/jpg", "cam/#", "cam/front/jpg")
	f.Add("+/#", "$SYS/x", "$SYS/x")
	f.Add("a/", "a/+", "a/")
	f.Fuzz(func(t *testing.T, a, b, topic string) {
		if !ValidFilter(a) || !ValidFilter(b) || !ValidTopic(topic) {
			return
		}
		inA, inB := matches(a, topic), matches(b, topic)
		if inA && inB && !Overlap(a, b) {
			t.Errorf("%q and %q both match %q and do not overlap", a, b, topic)
		}
		if Overlap(a, b) != Overlap(b, a) || Overlap(a, topic) != inA {
			t.Errorf("%q, %q and topic %q: overlap %v, %v, %v; it matches: %v", a, b, topic, Overlap(a, b), Overlap(b, a), Overlap(a, topic), inA)
		}
	})
}

// matches is MQTT-3.1.1, 4.7, word for word.
func matches(filter, topic string) bool {
	if strings.HasPrefix(topic, "$") && strings.ContainsAny(filter[:1], "+#") {
		return false
	}
	f, t := strings.Split(filter, "/"), strings.Split(topic, "/")
	for len(f) > 0 && f[0] != "#" {
		if len(t) == 0 || f[0] != "+" && f[0] != t[0] {
			return false
		}
		f, t = f[1:], t[1:]
	}
	return len(f) > 0 || len(t) == 0
}
