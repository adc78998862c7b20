//go:build torture

package store

import (
	"path/filepath"
	"testing"
	"time"
)

func TestS2_AHundredMegabytesOpenWithinASecond(t *testing.T) {
	o := mustOpenOutbox(t, t.TempDir(), OutboxOptions{NoSync: true, Quota: 1 << 30})
	stop := mustRun(t, o)
	for i := range 50_000 {
		mustAppend(t, o, 1900, nil)
		if i%1000 == 0 {
			mustAppendDurable(t, o, 1900)
		}
	}
	mustAppendDurable(t, o, 1900)
	dir := t.TempDir() // as after a kill: the journal has some
	mustCopyFiles(t, o, dir)
	stop()
	if n := size(t, filepath.Join(dir, "outbox.db")); n < 90<<20 {
		t.Fatalf("the file has %d bytes, want a hundred million", n)
	}
	start := time.Now()
	k := mustOpenOutbox(t, dir, OutboxOptions{Quota: 1 << 30})
	if took := time.Since(start); took > time.Second {
		t.Errorf("opened in %v, want a second at most", took)
	}
	if n, _ := k.Depth(); n < 50_000 {
		t.Errorf("%d records, want 50,000", n)
	}
}
