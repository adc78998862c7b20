package main

import (
	"context"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/limber-edge/limber/family/ort/orttest"
)

// Whoever reads only the first lines, as with `| head`, kills the benchmark.
func TestABenchmarkThatIsKilledLeavesNoBrokerBehind(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	temp := t.TempDir()
	c := exec.Command(exe, "bench", "overload")
	c.Env = append(os.Environ(), "TMPDIR="+temp, "ONNXRUNTIME_LIB="+orttest.Path(t))
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	killed := false
	defer func() {
		if !killed {
			c.Process.Kill()
			c.Wait()
		}
	}()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	addr := mustFindBroker(ctx, t, temp)
	mustPoll(ctx, t, "the broker to listen", func() bool { return listens(addr) })
	killed = true
	c.Process.Kill()
	c.Wait()
	mustPoll(ctx, t, "the broker to end", func() bool { return !listens(addr) })
}

// mustFindBroker waits for the agent's configuration and reads the broker's address.
func mustFindBroker(ctx context.Context, t *testing.T, temp string) (addr string) {
	t.Helper()
	mustPoll(ctx, t, "the agent's configuration", func() bool {
		found, err := fs.Glob(os.DirFS(temp), "limber-bench-*/limber.toml")
		if err != nil || len(found) == 0 {
			return false
		}
		b, err := fs.ReadFile(os.DirFS(temp), found[0])
		_, after, ok := strings.Cut(string(b), "mqtt://")
		addr, _, _ = strings.Cut(after, `"`)
		return err == nil && ok && addr != ""
	})
	return addr
}

func listens(addr string) bool {
	c, err := net.Dial("tcp", addr)
	return err == nil && c.Close() == nil
}

// mustPoll waits for what only another process decides.
func mustPoll(ctx context.Context, t *testing.T, what string, done func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("waited for %s: %v", what, ctx.Err())
		}
	}
}
