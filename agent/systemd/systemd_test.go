package systemd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// mustListen is a manager's socket.
func mustListen(tb testing.TB, name string) *net.UnixConn {
	tb.Helper()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { conn.Close() })
	return conn
}

func environment(pairs map[string]string) func(string) string {
	return func(name string) string { return pairs[name] }
}

func mustManager(tb testing.TB, pairs map[string]string) Manager {
	tb.Helper()
	m, err := FromEnvironment(environment(pairs), 7, 6)
	if err != nil {
		tb.Fatal(err)
	}
	return m
}

// heard is the next datagram, or none within a time.
func heard(tb testing.TB, conn *net.UnixConn, within time.Duration) string {
	tb.Helper()
	b := make([]byte, 256)
	if err := conn.SetReadDeadline(time.Now().Add(within)); err != nil {
		tb.Fatal(err)
	}
	n, err := conn.Read(b)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return ""
	} else if err != nil {
		tb.Fatal(err)
	}
	return string(b[:n])
}

func TestWhatIsToldArrivesAtAPathAndAtAnAbstractName(t *testing.T) {
	for _, name := range []string{filepath.Join(t.TempDir(), "notify"), fmt.Sprintf("@limber-test-%d", os.Getpid())} {
		conn := mustListen(t, name)
		m := mustManager(t, map[string]string{"NOTIFY_SOCKET": name})
		for _, state := range []string{Ready, Stopping} {
			if err := m.Tell(state); err != nil {
				t.Error(err)
			}
			if got := heard(t, conn, 10*time.Second); got != state {
				t.Errorf("%s: got %q, want %q", name, got, state)
			}
		}
	}
}

func TestWithoutAManagerThereIsNothingToTell(t *testing.T) {
	m := mustManager(t, nil)
	if err := m.Tell(Ready); err != nil {
		t.Error(err)
	}
	m.Watch(t.Context(), func() bool { t.Error("asked"); return true }) // returns at once
}

func TestAManagerThatIsGoneIsNamed(t *testing.T) {
	m := mustManager(t, map[string]string{"NOTIFY_SOCKET": filepath.Join(t.TempDir(), "none")})
	if err := m.Tell(Ready); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v, want that there is no such socket", err)
	}
}

// TestTheWatchdogIsFedByWorkAndNotByTime has the work stand still, go on, and stand still.
func TestTheWatchdogIsFedByWorkAndNotByTime(t *testing.T) {
	name := filepath.Join(t.TempDir(), "notify")
	conn := mustListen(t, name)
	m := mustManager(t, map[string]string{"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "40000", "WATCHDOG_PID": "6"})
	asked, moves := make(chan struct{}), make(chan bool)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		m.Watch(ctx, func() bool {
			asked <- struct{}{}
			return <-moves
		})
	}()
	for i, moved := range []bool{false, false, true, false, true} {
		<-asked
		moves <- moved
		if !moved {
			continue
		}
		if got := heard(t, conn, 10*time.Second); got != alive {
			t.Errorf("look %d: got %q, want it fed", i, got)
		}
	}
	<-asked // what was sent before is there by now
	if got := heard(t, conn, time.Millisecond); got != "" {
		t.Errorf("got %q beside what the work was worth", got)
	}
	stop()
	moves <- false
	<-ended
}

func TestTheWatchdogOfAnotherProcessIsNotFed(t *testing.T) {
	for _, tt := range []struct {
		pid  string
		want time.Duration
	}{{"", time.Minute}, {"7", time.Minute}, {"6", time.Minute}, {"1234", 0}} {
		m := mustManager(t, map[string]string{"NOTIFY_SOCKET": "/n", "WATCHDOG_USEC": "60000000", "WATCHDOG_PID": tt.pid})
		if m.within != tt.want {
			t.Errorf("of %q: got %v, want %v", tt.pid, m.within, tt.want)
		}
	}
}

func FuzzEnvironment(f *testing.F) {
	f.Add("/run/notify", "60000000", "7")
	f.Add("@", "-1", "x")
	f.Add("notify", "99999999999999999999", "")
	f.Fuzz(func(t *testing.T, socket, usec, pid string) {
		m, err := FromEnvironment(environment(map[string]string{"NOTIFY_SOCKET": socket, "WATCHDOG_USEC": usec,
			"WATCHDOG_PID": pid}), 7, 6)
		if m.within < 0 || m.within > 24*time.Hour || err != nil && m != (Manager{}) || m.within > 0 && socket == "" {
			t.Errorf("got %+v, %v", m, err)
		}
	})
}
