//go:build torture

package agent_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/limber-edge/limber/agent/wire"
)

func TestS3_RealMembersThatAFullDiskKeptFromBeingBuiltComeWithoutARestart(t *testing.T) {
	for _, tt := range []struct {
		name string
		mib  int  // of the disk at the start
		none bool // no member has room
	}{{"S3 no member has room", 10, true}, {"S3 some have", 22, false}} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d, addr := mustDisk(t, tt.mib), serve(t)
			cfg := newConfig(t, addr)
			cfg.State = filepath.Join(d.dir, "state")
			o := operate(t, addr)
			start(t, cfg, real(cfg))
			o.presence(cfg, wire.Online, 0)
			if tt.none {
				refusedForRoom(t, o, cfg)
			} else {
				o.front(cfg)
			}
			d.grow(200)
			o.caps(cfg, func(c wire.Caps) bool { return len(c.Members) >= 5 }, "all members")
			o.until(func() bool {
				s, ok := latest[wire.State](o, self(cfg).State())
				return ok && s.Detail == ""
			}, "a device without a complaint")
			if r := o.ask(cfg, "frame", `{"deadline_ms":600000}`); r.Status != wire.OK {
				t.Errorf("got %+v, want an answer", r)
			}
		})
	}
}

func TestS3_MembersWhoseCacheIsLostOnAFullDiskComeBackWithoutARestart(t *testing.T) {
	t.Parallel()
	d, addr := mustDisk(t, 50), serve(t)
	cfg := newRealConfig(t, addr)
	state := filepath.Join(d.dir, "state")
	if err := os.CopyFS(state, os.DirFS(cfg.State)); err != nil {
		t.Fatal(err)
	}
	cfg.State = state
	if err := os.RemoveAll(filepath.Join(state, "cache")); err != nil {
		t.Fatal(err)
	}
	filler := filepath.Join(d.dir, "filler")
	if err := os.WriteFile(filler, make([]byte, 50<<20), 0o600); err == nil {
		t.Fatal("the disk has room for the filler")
	}
	if info, err := os.Stat(filler); err != nil {
		t.Fatal(err)
	} else if err := os.Truncate(filler, info.Size()-256<<10); err != nil { // the store goes on
		t.Fatal(err)
	}
	o := operate(t, addr)
	dev := start(t, cfg, real(cfg))
	o.presence(cfg, wire.Online, 0)
	refusedForRoom(t, o, cfg)
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	dev.log.await(t, "member restored", 6)
	if r := o.ask(cfg, "frame", `{"deadline_ms":600000}`); r.Status != wire.OK {
		t.Errorf("got %+v, want an answer", r)
	}
}
