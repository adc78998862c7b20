// Package brokertest runs a real mosquitto for tests: on a free port of this
// machine, without persistence, killed when the test ends. Tests that need one
// are skipped where mosquitto is not installed.
package brokertest

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
)

// Mosquitto is a broker process. Its methods are for the test's goroutine.
type Mosquitto struct {
	Addr   string // host:port, the same after every Start
	tb     testing.TB
	binary string
	config string // file
	cmd    *exec.Cmd
	log    chan struct{} // closed when the log of cmd ended
}

// StartMosquitto runs mosquitto with the given configuration lines added to
// its listener; without any it lets everybody do everything.
func StartMosquitto(tb testing.TB, lines ...string) *Mosquitto {
	tb.Helper()
	m := &Mosquitto{Addr: Reserve(tb), tb: tb, binary: Program(tb, "mosquitto")}
	if len(lines) == 0 {
		lines = []string{"allow_anonymous true"}
	}
	_, port, _ := net.SplitHostPort(m.Addr)
	m.config = filepath.Join(tb.TempDir(), "mosquitto.conf")
	text := fmt.Sprintf("listener %s 127.0.0.1\nset_tcp_nodelay true\npersistence false\nuser root\nlog_dest "+
		"stderr\nlog_type all\n%s\n", port, strings.Join(lines, "\n"))
	if err := os.WriteFile(m.config, []byte(text), 0o600); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(m.Kill)
	m.Start()
	return m
}

// StartShipped runs mosquitto with the files that are shipped, and the certificates of
// a folder. Of the configuration only what belongs to a machine is another. acl is the
// file of the access list; empty: the shipped one.
func StartShipped(tb testing.TB, certs, acl string) *Mosquitto {
	tb.Helper()
	_, here, _, _ := runtime.Caller(0)
	shipped := filepath.Join(filepath.Dir(here), "..", "mosquitto")
	if acl == "" {
		acl = filepath.Join(shipped, "acl")
	}
	text, err := os.ReadFile(filepath.Join(shipped, "mosquitto.conf"))
	if err != nil {
		tb.Fatal(err)
	}
	paths := strings.NewReplacer("/etc/mosquitto/certs", certs, "/etc/mosquitto/acl", acl)
	var lines []string
	for line := range strings.Lines(paths.Replace(string(text))) {
		switch word, _, _ := strings.Cut(line, " "); word {
		case "listener", "persistence", "persistence_location":
		default:
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	return StartMosquitto(tb, lines...)
}

// Program finds an installed program or skips the test.
func Program(tb testing.TB, name string) string {
	tb.Helper()
	for _, path := range []string{name, filepath.Join("/usr/sbin", name)} {
		if found, err := exec.LookPath(path); err == nil {
			return found
		}
	}
	tb.Skipf("%s is not installed", name)
	return ""
}

// Start runs the broker again and returns when it accepts connections.
func (m *Mosquitto) Start() {
	m.tb.Helper()
	m.cmd = exec.Command(m.binary, "-c", m.config)
	pipe, err := m.cmd.StderrPipe()
	if err == nil {
		err = m.cmd.Start()
	}
	if err != nil {
		m.tb.Fatalf("start mosquitto: %v", err)
	}
	running, ended := make(chan struct{}), make(chan struct{})
	m.log = ended
	var said strings.Builder // read after ended
	go func() {
		defer close(ended)
		for lines := bufio.NewScanner(pipe); lines.Scan(); {
			said.WriteString(lines.Text() + "\n")
			if strings.HasSuffix(lines.Text(), " running") {
				close(running)
			}
		}
	}()
	select {
	case <-running:
	case <-ended:
		m.tb.Fatalf("mosquitto did not start:\n%s", said.String())
	}
}

// Kill ends the broker as a power cut would; nothing is said to its clients
// but what the kernel says.
func (m *Mosquitto) Kill() {
	if m.cmd == nil || m.cmd.Process == nil {
		return
	}
	m.cmd.Process.Kill()
	<-m.log
	m.cmd.Wait() // reports the kill
	m.cmd = nil
}

// Stop has the broker end in order, for which it writes what it keeps if it has
// persistence.
func (m *Mosquitto) Stop() {
	m.tb.Helper()
	if err := m.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		m.tb.Fatalf("stop mosquitto: %v", err)
	}
	<-m.log
	if err := m.cmd.Wait(); err != nil {
		m.tb.Fatalf("stop mosquitto: %v", err)
	}
	m.cmd = nil
}

// Pause stops the broker where it is: its sockets stay open and mute.
func (m *Mosquitto) Pause() {
	m.tb.Helper()
	if err := m.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		m.tb.Fatalf("pause mosquitto: %v", err)
	}
}

// Reserve keeps a port of this machine for a broker until the test ends, also
// while none runs. Its socket is bound and does not listen: under Linux the
// broker may then listen there, and the system gives the port to nobody else,
// neither as a listener's nor as the near end of a connection.
func Reserve(tb testing.TB) string {
	tb.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		tb.Fatalf("reserve a port: %v", err)
	}
	tb.Cleanup(func() { syscall.Close(fd) })
	syscall.CloseOnExec(fd)
	err = syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1)
	if err == nil {
		err = syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}})
	}
	var bound syscall.Sockaddr
	if err == nil {
		bound, err = syscall.Getsockname(fd)
	}
	if err != nil {
		tb.Fatalf("reserve a port: %v", err)
	}
	return fmt.Sprintf("127.0.0.1:%d", bound.(*syscall.SockaddrInet4).Port)
}
