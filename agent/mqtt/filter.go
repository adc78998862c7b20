package mqtt

import "strings"

// ValidTopic says whether s may be published to: MQTT-3.1.1, 4.7.1 and 4.7.3.
func ValidTopic(s string) bool { return s != "" && validText(s) && !strings.ContainsAny(s, "+#") }

// ValidFilter says whether s may be subscribed to: MQTT-3.1.1, 4.7.1; a shared
// subscription's prefix is a level like any other here.
func ValidFilter(s string) bool {
	if s == "" || !validText(s) {
		return false
	}
	levels := strings.Split(s, "/")
	for i, level := range levels {
		if level == "#" && i == len(levels)-1 || level == "+" {
			continue
		}
		if strings.ContainsAny(level, "+#") {
			return false
		}
	}
	return true
}

// Overlap says whether some topic is matched by both filters, which are valid. A
// topic is a filter that matches itself. A leading wildcard never reaches topics
// that start with $: MQTT-3.1.1, 4.7.2.
func Overlap(a, b string) bool {
	if system(a) && wild(b) || system(b) && wild(a) {
		return false
	}
	for {
		levelA, restA, moreA := strings.Cut(a, "/")
		levelB, restB, moreB := strings.Cut(b, "/")
		switch {
		case levelA == "#" || levelB == "#":
			return true
		case levelA != "+" && levelB != "+" && levelA != levelB:
			return false
		case !moreA || !moreB: // # also matches the level above it
			return moreA == moreB || moreA && restA == "#" || moreB && restB == "#"
		}
		a, b = restA, restB
	}
}

func system(filter string) bool { return strings.HasPrefix(filter, "$") }

func wild(filter string) bool {
	return strings.HasPrefix(filter, "+") || strings.HasPrefix(filter, "#")
}
