package main

import (
	"strings"
	"testing"
)

func TestAScreenWritesOnlyTheLinesThatChangedAndAllOfThemAtAnotherSize(t *testing.T) {
	var out strings.Builder
	s := &screen{w: &out}
	for _, tt := range []struct {
		name          string
		columns, rows int
		lines         []string
		want          string
	}{
		{"at first", 80, 24, []string{"head", "a", "b"}, "\033[H\033[2J\033[1;1Hhead\033[K\033[2;1Ha\033[K\033[3;1Hb\033[K"},
		{"nothing changed", 80, 24, []string{"head", "a", "b"}, ""},
		{"one changed", 80, 24, []string{"head", "A", "b"}, "\033[2;1HA\033[K"},
		{"one more", 80, 24, []string{"head", "A", "b", "c"}, "\033[4;1Hc\033[K"},
		{"two fewer", 80, 24, []string{"head", "A"}, "\033[3;1H\033[J"},
		{"another size", 40, 24, []string{"head", "A"}, "\033[H\033[2J\033[1;1Hhead\033[K\033[2;1HA\033[K"},
	} {
		out.Reset()
		if err := s.draw(tt.columns, tt.rows, tt.lines); err != nil || out.String() != tt.want {
			t.Errorf("%s: got %q, %v; want %q", tt.name, out.String(), err, tt.want)
		}
	}
}
