//go:build torture

package demo

import (
	"context"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent/bench/load"
	"github.com/limber-edge/limber/family/ort/orttest"
)

type silent struct{}

func (silent) Tell(string, int, int) {}
func (silent) Say(string)            {}
func (silent) End()                  {}

// TestMain makes the test binary the program that a hog is.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "hog" {
		if err := load.Burden(load.Kind(os.Args[2]), os.Stdin); err != nil {
			panic(err)
		}
		return
	}
	os.Setenv("GORACE", "atexit_sleep_ms=0") // a hog would sleep for a second before it ends
	os.Exit(m.Run())
}

// The deadline is one that no machine misses: what is tested is the account.
func TestTheWholeDemoAddsUp(t *testing.T) {
	t.Setenv("ONNXRUNTIME_LIB", orttest.Path(t))
	scenes := 0
	watch := func(ctx context.Context, cast Cast, now func() (Scene, bool)) error {
		<-ctx.Done()
		if s, begun := now(); begun && s.Over && s.Phase == Phases && len(cast.Members) > 1 && cast.Cameras > 0 {
			scenes++
		}
		return nil
	}
	sum, err := Run(t.Context(), Options{Deadline: time.Second, Quiet: Shortest, Busy: Shortest, Stderr: t.Output(),
		Log: slog.New(slog.DiscardHandler), Progress: silent{}, Watch: watch})
	if err != nil {
		t.Fatal(err)
	}
	if err := sum.Check(); err != nil || scenes != 1 || sum.Top1 != sum.ExpectedTop1 {
		t.Errorf("got %+v, %v, %d last scenes; want an account that adds up, and the top-1 of the same images "+
			"inferred anew", sum, err, scenes)
	}
}
