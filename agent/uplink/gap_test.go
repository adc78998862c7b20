package uplink

import (
	"strings"
	"testing"

	"github.com/limber-edge/limber/store"
)

func TestAGapSaysHowManyRecordsInWords(t *testing.T) {
	for want, g := range map[string]store.Gap{
		"1 record (51 bytes) numbered 7 was given up, of class result: more waited than outbox.results_count": {
			Class: store.Results, Reason: store.Count, Records: 1, Bytes: 51, First: 7, Last: 7},
		"2 records (99 bytes) numbered 7 to 9 were given up, of class event: the disk failed or did not keep up; " +
			"others in between may have been delivered": {
			Class: store.Events, Reason: store.Disk, Records: 2, Bytes: 99, First: 7, Last: 9, Mixed: true},
		"an unknown number of records among those numbered 7 to 99 was given up, of class result: not readable on the " +
			"disk any more; others in between may have been delivered": {
			Class: store.Results, Reason: store.Damage, First: 7, Last: 99, Mixed: true},
	} {
		if got := gapEvent(g).Detail; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestEveryLossIsSaidForOneRecordAsForMany(t *testing.T) {
	for l := range store.Loss(store.Losses) {
		if got := lossSentence(l); got == "" || strings.Contains(got, "they") {
			t.Errorf("%s: %q", l, got)
		}
	}
}
