package main

import (
	"bufio"
	"bytes"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// mustFake is a copy of a fake board of firmware/power's, with a stand-in for nvpmodel.
func mustFake(t *testing.T) (root string) {
	t.Helper()
	root = t.TempDir()
	for _, part := range []string{"boards/xavier-nx", "tool"} {
		if err := os.CopyFS(root, os.DirFS(filepath.Join("../../../firmware/power/testdata", part))); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// helped runs a helper until its stderr says that it is there; what it is asked then is
// answered, and it stops in order.
func helped(t *testing.T, c *exec.Cmd, socket string) {
	t.Helper()
	log, err := c.StderrPipe()
	if err == nil {
		err = c.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Process.Kill() })
	var said bytes.Buffer
	lines := bufio.NewScanner(log)
	for lines.Scan() && !strings.Contains(lines.Text(), "power helper starts") {
		said.WriteString(lines.Text() + "\n")
	}
	for _, tt := range []struct{ line, want string }{
		{`{"set":"MODE_20W_6CORE"}`, `{"ok":false,"mode":"","reason":"unauthorized","detail":"power mode MODE_20W_6CORE: the helper on this device may only set MODE_15W, MODE_10W_2CORE, see its --allow"}`},
		{`{"set":"MODE_15W","at_reboot":false}`, `{"ok":true,"mode":"MODE_15W"}`},
	} {
		conn, err := net.Dial("unix", socket)
		if err != nil {
			t.Fatalf("%v: %s", err, said.String())
		}
		conn.Write([]byte(tt.line + "\n"))
		got, err := bufio.NewReader(conn).ReadString('\n')
		conn.Close()
		if got != tt.want+"\n" {
			t.Errorf("%s: got %s, %v; want %s", tt.line, got, err, tt.want)
		}
	}
	c.Process.Signal(syscall.SIGTERM)
	for lines.Scan() {
		said.WriteString(lines.Text() + "\n")
	}
	if err := c.Wait(); err != nil {
		t.Errorf("it ended with %v: %s", err, said.String())
	}
}

func TestAPowerHelperMakesItsSocketAndTakesItAway(t *testing.T) {
	t.Parallel()
	socket := filepath.Join(t.TempDir(), "power.sock")
	helped(t, exec.Command(os.Args[0], "power-helper", "--root", mustFake(t), "--socket", socket,
		"--allow", "MODE_15W,MODE_10W_2CORE"), socket)
	if _, err := os.Stat(socket); err == nil {
		t.Error("the socket is still there")
	}
}

func TestAPowerHelperTakesTheSocketOfSystemd(t *testing.T) {
	t.Parallel()
	socket := filepath.Join(t.TempDir(), "power.sock")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	file, err := l.File()
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	handOver := func(fds string, args ...string) *exec.Cmd {
		c := exec.Command("sh", append([]string{"-c", `LISTEN_PID=$$ LISTEN_FDS=` + fds + ` exec "$0" power-helper "$@"`,
			os.Args[0], "--root", mustFake(t), "--allow", "MODE_15W,MODE_10W_2CORE"}, args...)...)
		c.ExtraFiles = []*os.File{file}
		return c
	}
	helped(t, handOver("1"), socket)
	if _, err := os.Stat(socket); err != nil {
		t.Errorf("systemd's socket: %v", err)
	}
	out, err := handOver("2").CombinedOutput()
	if err == nil || !strings.Contains(string(out), `systemd hands over "2" sockets: want one`) {
		t.Errorf("got %s, %v; want that there are two", out, err)
	}
}

func TestAPowerHelperSaysWhyItCannotListen(t *testing.T) {
	t.Parallel()
	limber(t, "power-helper", "--allow", "MODE_15W", "--socket", filepath.Join(t.TempDir(), "no", "power.sock")).
		fails(t, "no such file", "--socket names another one")
}

// fails checks that a call failed, whatever it logged before.
func (r ran) fails(t *testing.T, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if r.code != exitFailed || !strings.Contains(r.stderr, part) {
			t.Errorf("got exit %d, %q; want %q", r.code, r.stderr, part)
		}
	}
}
