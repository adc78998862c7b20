package main

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent/systemd"
)

// mustHear is the next datagram that is one of those wanted.
func mustHear(t *testing.T, conn *net.UnixConn, want string) {
	t.Helper()
	if err := conn.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	for b := make([]byte, 64); ; {
		n, err := conn.Read(b)
		if err != nil {
			t.Fatalf("wait for %s: %v", want, err)
		}
		if string(b[:n]) == want {
			return
		}
	}
}

func TestAnAgentWithoutABrokerIsReadyAndFeedsTheWatchdog(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	t.Setenv("NOTIFY_SOCKET", socket)
	t.Setenv("WATCHDOG_USEC", "400000")
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	ended, log := make(chan int, 1), new(bytes.Buffer)
	go func() {
		ended <- run(ctx, []string{"agent", "--state", t.TempDir(), "--broker", "mqtt://127.0.0.1:1"}, log, log)
	}()
	mustHear(t, conn, systemd.Ready)
	mustHear(t, conn, "WATCHDOG=1")
	stop()
	mustHear(t, conn, systemd.Stopping)
	if code := <-ended; code != exitDone {
		t.Errorf("exit %d, want 0\n%s", code, log)
	}
}

func TestAnAgentGoesOnWhereSystemdDoesNotTakeThatItIsReadyAndSaysSoAgain(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "notify")
	t.Setenv("NOTIFY_SOCKET", socket)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	ended, log := make(chan int, 1), new(bytes.Buffer)
	out, in := io.Pipe()
	go func() {
		ended <- run(ctx, []string{"agent", "--state", t.TempDir(), "--broker", "mqtt://127.0.0.1:1"}, log, in)
		in.Close()
	}()
	lines := bufio.NewScanner(out)
	for lines.Scan() && !strings.Contains(lines.Text(), "service manager not told") {
	}
	if !strings.Contains(lines.Text(), "READY=1") {
		t.Fatalf("it ends, or says nothing: exit code %d", <-ended)
	}
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	go io.Copy(io.Discard, out)
	mustHear(t, conn, systemd.Ready)
	stop()
	if code := <-ended; code != exitDone {
		t.Errorf("exit %d, want 0", code)
	}
}

func TestAnEnvironmentThatSystemdDidNotMakeEndsTheAgent(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "nowhere")
	if got := limber(t, "agent", "--state", t.TempDir()); got.code != exitFailed {
		t.Errorf("got %+v, want exit 1", got)
	}
}
