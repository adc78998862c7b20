package main

import (
	"strings"
	"testing"

	"github.com/limber-edge/limber/family"
)

func TestFrontIsDrawnWhateverItsCosts(t *testing.T) {
	member := func(name string, mmacs, top1 float64) family.Member {
		return family.Member{Name: name, MMACs: mmacs, Top1: top1}
	}
	for _, members := range [][]family.Member{
		{member("alone", 3, 0.5)},
		{member("wide", 10, 0.5), member("narrow", 1, 0.6), member("middle", 3, 0.7)}, // by latency, say
		{member("one", 5, 0.5), member("other", 5, 0.6)},
	} {
		var b strings.Builder
		drawFront(&b, &family.Family{Supernet: "s", Members: members})
		for _, m := range members {
			if !strings.Contains(b.String(), "● "+m.Name) {
				t.Errorf("%s is missing in\n%s", m.Name, b.String())
			}
		}
	}
}
