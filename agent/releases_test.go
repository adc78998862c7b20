package agent_test

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent"
	"github.com/limber-edge/limber/agent/config"
	"github.com/limber-edge/limber/firmware/slot"
)

// mustTrial has an empty release on trial in slot a.
func mustTrial(tb testing.TB, state string) *slot.Agent {
	tb.Helper()
	const digest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" // of nothing
	a := slot.Open(state).Agent(slot.Package)
	r := slot.Release{Version: "2", Digest: digest}
	r.Files = []slot.File{{Path: slot.Program, Digest: digest, Mode: 0o755}}
	nothing := func(slot.File) (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("")), nil }
	for _, step := range []func() error{
		func() error { return a.Fetch(r.Version, digest, nil) },
		func() error { return a.Stage(context.Background(), r, nothing) },
		func() error { return a.Switch(time.Minute) },
	} {
		if err := step(); err != nil {
			tb.Fatal(err)
		}
	}
	return slot.Open(state).Agent(slot.A)
}

// TestAStateThatAReleaseOnTrialCannotReadIsLeftToTheOneBefore is with files of which the
// release takes what it does not know for damage.
func TestAStateThatAReleaseOnTrialCannotReadIsLeftToTheOneBefore(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"limber.db", "outbox.db"} {
		cfg := config.Default()
		cfg.State = t.TempDir()
		path := filepath.Join(cfg.State, name)
		if err := os.WriteFile(path, []byte("of another version"), 0o600); err != nil {
			t.Fatal(err)
		}
		o := agent.Options{Slots: mustTrial(t, cfg.State)}
		o.Inference = func() (agent.Inference, error) { return nil, os.ErrNotExist }
		if _, err := agent.Open(cfg, o, discard()); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: got %v, want that it is damaged", name, err)
		}
		if b, err := os.ReadFile(path); err != nil || string(b) != "of another version" {
			t.Errorf("%s: got %.40q, %v; want it as it was", name, b, err)
		}
	}
}
