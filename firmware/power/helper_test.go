package power_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/limber-edge/limber/firmware/power"
)

// envSocket turns the test binary into a process that asks the helper at a socket for
// MODE_15W, and prints how that went.
const envSocket = "LIMBER_TEST_POWER_SOCKET"

func TestMain(m *testing.M) {
	socket := os.Getenv(envSocket)
	if socket == "" {
		os.Exit(m.Run())
	}
	_, err := power.New("/").Remote(socket).Set(context.Background(), power.Change{Mode: "MODE_15W"})
	fmt.Println(power.Reason(err), err)
}

// soon is a patience that a test can wait for, long one that is never over.
const (
	soon = 300 * time.Millisecond
	long = time.Minute
)

// nobody is a user without any rights.
const nobody = 65534

// open makes a folder that other users can look into.
func open(tb testing.TB) string {
	tb.Helper()
	dir, err := os.MkdirTemp("", "limber-power-")
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// helps runs a helper for a board, which serves root and whoever runs the test.
func (b board) helps(change ...func(*power.HelperConfig)) (socket string) {
	b.tb.Helper()
	return b.helpsFor(long, long, change...)
}

// helpsFor is helps with another patience, with peers and with nvpmodel.
func (b board) helpsFor(peers, tool time.Duration, change ...func(*power.HelperConfig)) (socket string) {
	b.tb.Helper()
	cfg := power.HelperConfig{Allow: []string{"MODE_15W", "MODE_10W_2CORE", "MODE_99W"}, Peers: []uint32{0, uint32(os.Geteuid())}}
	for _, c := range change {
		c(&cfg)
	}
	socket = filepath.Join(open(b.tb), "power.sock")
	l, err := power.Listen(socket, -1)
	if err != nil {
		b.tb.Fatal(err)
	}
	h := power.NewHelper(power.New(b.root), cfg, slog.New(slog.DiscardHandler))
	h.Hasten(peers, tool)
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- h.Run(ctx, l) }()
	b.tb.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			b.tb.Error(err)
		}
	})
	return socket
}

// answer is what a helper says.
type answer struct {
	OK                   bool
	Mode, Reason, Detail string
}

// say sends text to a socket and is what comes back.
func say(tb testing.TB, socket, text string) (a answer) {
	tb.Helper()
	conn, err := net.Dial("unix", socket)
	if err != nil {
		tb.Fatal(err)
	}
	defer conn.Close()
	io.WriteString(conn, text) // one that is too long is not read to its end
	line, err := bufio.NewReader(conn).ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &a)
	}
	if err != nil {
		tb.Fatalf("%.80q: got %q, %v", text, line, err)
	}
	return a
}

func TestC6_AHelperObeysALineAndNothingElse(t *testing.T) {
	b := mustFake(t, "xavier-nx")
	socket := b.helps()
	for _, tt := range []struct{ name, text, reason, detail string }{
		{"no JSON", "MODE_15W\n", "invalid", "the line is no JSON object"},
		{"nothing", "\n", "invalid", "the line is no JSON object"},
		{"a list", `["MODE_15W"]` + "\n", "invalid", "the line is no JSON object"},
		{"no end of the object", `{"set":"MODE_15W"` + "\n", "invalid", "JSON"},
		{"no name", `{}` + "\n", "invalid", `set: "" is not`},
		{"an empty name", `{"set":""}` + "\n", "invalid", `set: "" is not`},
		{"no name of a mode", `{"set":"MODE_15W -f /etc/shadow"}` + "\n", "invalid", "is not [A-Za-z0-9_.-]{1,64}"},
		{"a number", `{"set":0}` + "\n", "invalid", "set: 0 is of another type"},
		{"null", `{"set":null}` + "\n", "invalid", "set: <nil> is of another type"},
		{"an object", `{"set":{"a":1}}` + "\n", "invalid", "set: { is of another type"},
		{"a word for yes or no", `{"set":"MODE_15W","at_reboot":"yes"}` + "\n", "invalid", "at_reboot: yes is of another type"},
		{"an unknown key", `{"set":"MODE_15W","run":"sh"}` + "\n", "invalid", `"run" is unknown`},
		{"a key of another case", `{"SET":"MODE_15W"}` + "\n", "invalid", `"SET" is unknown`},
		{"a key twice", `{"set":"MODE_15W","set":"MODE_20W_6CORE"}` + "\n", "invalid", `"set" stands twice`},
		{"two objects", `{"set":"MODE_15W"}{}` + "\n", "invalid", "something follows"},
		{"too long", `{"set":"MODE_15W"` + strings.Repeat(" ", 5000) + "}\n", "invalid", "more than 4096 bytes"},
		{"a megabyte without an end", strings.Repeat("x", 1<<20), "invalid", "more than 4096 bytes"},
		{"bytes", "\x00\xff\xfe\n", "invalid", "the line is no JSON object"},
		{"not allowed", `{"set":"MODE_20W_6CORE"}` + "\n", "unauthorized", "may only set MODE_15W, MODE_10W_2CORE, MODE_99W, see its --allow"},
		{"allowed, but none", `{"set":"MODE_99W"}` + "\n", "invalid", "there are MODE_15W, "},
		{"it takes a reboot", `{"set":"MODE_10W_2CORE","at_reboot":false}` + "\n", "needs_reboot", "--at-reboot"},
		{"a reboot", `{"set":"MODE_10W_2CORE","allow_reboot":true}` + "\n", "unauthorized", "rebooting the board was not allowed"},
	} {
		if got := say(t, socket, tt.text); got.OK || got.Reason != tt.reason || !strings.Contains(got.Detail, tt.detail) {
			t.Errorf("%s: got %+v, want %s with %q", tt.name, got, tt.reason, tt.detail)
		}
	}
	if got := say(t, b.helpsFor(soon, long), `{"set":"MODE_15W"}`); got.Reason != "invalid" ||
		!strings.Contains(got.Detail, "the line has no end after 18 bytes") {
		t.Errorf("no end of the line: got %+v", got)
	}
	if got := b.read("fake/log"); got != "-m 3\n-q\n" {
		t.Errorf("nvpmodel was told %q, want only what takes a reboot", got)
	}
	if got := say(t, socket, "\t"+`{"at_reboot" :false, "set":"MODE_15W"}`+" \r\n"); !got.OK || got.Mode != "MODE_15W" || got.Reason != "" {
		t.Errorf("got %+v, want that it is set", got)
	}
	const soon = "power mode MODE_10W_2CORE: the mode changes at most once in ten seconds"
	if got := say(t, socket, `{"set":"MODE_10W_2CORE"}`+"\n"); got.Reason != "busy" || got.Mode != "MODE_15W" ||
		!strings.HasPrefix(got.Detail, soon) {
		t.Errorf("got %+v, want busy with %q", got, soon)
	}
}

func TestAHelperLeavesAModeToTheNextStart(t *testing.T) {
	b := mustFake(t, "xavier-nx")
	got := say(t, b.helps(), `{"set":"MODE_10W_2CORE","at_reboot":true}`+"\n")
	if want := (answer{OK: true, Mode: "MODE_20W_6CORE"}); got != want || b.read("var/lib/nvpmodel/status") != "pmode:0003 fmode:quiet\n" {
		t.Errorf("got %+v and %q, want %+v and mode 3", got, b.read("var/lib/nvpmodel/status"), want)
	}
}

func TestAHelperThatMayRebootsTheBoard(t *testing.T) {
	b := mustFake(t, "xavier-nx")
	socket := b.helps(func(c *power.HelperConfig) { c.Reboot = true })
	now, err := power.New(b.root).Remote(socket).Set(t.Context(), power.Change{Mode: "MODE_10W_2CORE", AllowReboot: true})
	if err != nil || now != "MODE_20W_6CORE" || !b.has("fake/rebooted") {
		t.Errorf("got %s, %v, rebooted %t; want that it restarts, and is in the former mode until then", now, err,
			b.has("fake/rebooted"))
	}
}

// TestABoardThatTakesItsToolAlongRestarts: systemd ends all programs while nvpmodel waits.
func TestABoardThatTakesItsToolAlongRestarts(t *testing.T) {
	b := mustFake(t, "xavier-nx")
	b.nvpmodel("[ $1 = -q ] && exit; echo 'DO YOU WANT TO REBOOT NOW?'; read answer; kill -TERM $$")
	socket := b.helps(func(c *power.HelperConfig) { c.Reboot = true })
	now, err := power.New(b.root).Remote(socket).Set(t.Context(), power.Change{Mode: "MODE_10W_2CORE", AllowReboot: true})
	if err != nil || now != "MODE_20W_6CORE" {
		t.Errorf("got %s, %v; want that it restarts", now, err)
	}
}

// TestAHelperThatStartsAnewTakesNoStatusFileForWhatIsInForce: nobody knows what it did before.
func TestAHelperThatStartsAnewTakesNoStatusFileForWhatIsInForce(t *testing.T) {
	for _, tt := range []struct {
		name, mode, waits, live string
		is                      error
		now, after              string
	}{
		{"the mode waits, and takes a reboot", "MODE_10W_2CORE", "MODE_10W_2CORE", "8", power.ErrReboot, "MODE_20W_6CORE", "8\n"},
		{"the mode waits, and takes none", "MODE_15W", "MODE_15W", "8", nil, "MODE_15W", "0\n"},
		{"another one is in force", "MODE_15W", "", "2", nil, "MODE_15W", "0\n"},
	} {
		b := mustFake(t, "xavier-nx")
		b.write("fake/live", tt.live)
		p := power.New(b.root)
		if tt.waits != "" {
			p.Remote(b.helps()).Set(t.Context(), power.Change{Mode: tt.waits, AtReboot: true})
		} else {
			b.write("var/lib/nvpmodel/status", "pmode:0000")
		}
		now, err := p.Remote(b.helps()).Set(t.Context(), power.Change{Mode: tt.mode})
		if !errors.Is(err, tt.is) || now != tt.now || p.Modes().Current != tt.now || b.read("fake/live") != tt.after {
			t.Errorf("%s: got %s, %v, %s in force and %s; want %s, %v, %s", tt.name, now, err, p.Modes().Current,
				b.read("fake/live"), tt.now, tt.is, tt.after)
		}
	}
}

func TestAToolThatPrintsALongLineIsStillToldOf(t *testing.T) {
	b := mustFake(t, "xavier-nx")
	b.nvpmodel(`[ $1 = -q ] || printf '%5000d' 0 | tr ' ' '\1'; exit 3`)
	_, err := power.New(b.root).Remote(b.helps()).Set(t.Context(), power.Change{Mode: "MODE_15W"})
	if err == nil || !strings.Contains(err.Error(), "nvpmodel: exit status 3") {
		t.Errorf("got %v, want how it ended", err)
	}
}

func TestAPeerThatSendsNothingIsGivenUpAndTheNextServed(t *testing.T) {
	b := mustFake(t, "xavier-nx")
	socket := b.helpsFor(soon, long)
	mute, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer mute.Close()
	gone, err := net.Dial("unix", socket) // before it is served
	if err != nil {
		t.Fatal(err)
	}
	gone.Close()
	half, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer half.Close()
	io.WriteString(half, `{"set":"MODE_15W"`)
	half.(*net.UnixConn).CloseWrite()
	if line, err := bufio.NewReader(half).ReadString('\n'); !strings.Contains(line, "the JSON object has no end") {
		t.Errorf("got %q, %v; want what was missing", line, err)
	}
	if got := say(t, socket, `{"set":"MODE_15W"}`+"\n"); !got.OK {
		t.Errorf("got %+v, want that it is set", got)
	}
	if line, err := bufio.NewReader(mute).ReadString('\n'); !strings.Contains(line, `"reason":"invalid"`) {
		t.Errorf("got %q, %v; want what was missing", line, err)
	}
}

func TestAHelperKillsAToolThatHangs(t *testing.T) {
	b := mustFake(t, "xavier-nx")
	socket := b.helpsFor(long, soon)
	b.write("fake/hangs")
	if got := say(t, socket, `{"set":"MODE_15W"}`+"\n"); got.Reason != "expired" || got.Mode != "MODE_20W_6CORE" ||
		!strings.Contains(got.Detail, "nvpmodel did not end in time and was killed") {
		t.Errorf("got %+v, want expired", got)
	}
	b.remove("usr/sbin/nvpmodel")
	if got := say(t, socket, `{"set":"MODE_15W"}`+"\n"); got.Reason != "unsupported" || !strings.Contains(got.Detail, "install") {
		t.Errorf("got %+v, want unsupported", got)
	}
}

func TestAToolThatNobodyWaitsForIsKilled(t *testing.T) {
	b := mustFake(t, "xavier-nx")
	b.nvpmodel("[ $1 = -q ] || { echo $$ >ROOT/fake/pid; sleep 600; }")
	if err := syscall.Mkfifo(filepath.Join(b.root, "fake/pid"), 0o600); err != nil {
		t.Fatal(err)
	}
	socket := b.helps()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := power.New(b.root).Remote(socket).Set(ctx, power.Change{Mode: "MODE_15W"})
		ended <- err
	}()
	pid, _ := strconv.Atoi(strings.TrimSpace(b.read("fake/pid"))) // it runs
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want that nobody waits", err)
	}
	if got := say(t, socket, `{"set":"MODE_20W_6CORE"}`+"\n"); got.Reason != "unauthorized" { // the next one is served
		t.Errorf("got %+v, want unauthorized", got)
	}
	if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("the tool, process %d: got %v, want that it is no more", pid, err)
	}
}

func TestAPeerThatSaysNoMoreStillWaits(t *testing.T) {
	b := mustFake(t, "xavier-nx")
	b.nvpmodel("[ $1 = -q ] || { sleep 0.3; printf 'pmode:0000' >ROOT/var/lib/nvpmodel/status; }")
	conn, err := net.Dial("unix", b.helps())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	io.WriteString(conn, `{"set":"MODE_15W"}`)
	conn.(*net.UnixConn).CloseWrite()
	if line, err := bufio.NewReader(conn).ReadString('\n'); line != `{"ok":true,"mode":"MODE_15W"}`+"\n" {
		t.Errorf("got %s, %v; want that it is set", line, err)
	}
}

// asNobody asks a helper as another user.
func asNobody(t *testing.T, socket string) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can be another user")
	}
	program := filepath.Join(open(t), "asks")
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("cp", exe, program).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	c := exec.CommandContext(t.Context(), program)
	c.Env = []string{envSocket + "=" + socket, "GORACE=atexit_sleep_ms=0"}
	c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	out, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	said, _, _ := strings.Cut(string(out), "\n")
	return said
}

func TestAHelperServesItsUsersAlone(t *testing.T) {
	b := mustFake(t, "xavier-nx")
	socket := b.helps()
	if got := asNobody(t, socket); !strings.HasPrefix(got, "unauthorized ") || !strings.Contains(got, "permission denied") {
		t.Errorf("the socket is not for all: got %q", got)
	}
	if err := os.Chmod(socket, 0o666); err != nil {
		t.Fatal(err)
	}
	if got := asNobody(t, socket); got != "unauthorized user 65534 may not set power modes: only root and the user of the agent may" {
		t.Errorf("the kernel says who it is: got %q", got)
	}
	if b.has("fake/log") {
		t.Errorf("nvpmodel was told %q", b.read("fake/log"))
	}
	users := b.helps(func(c *power.HelperConfig) { c.Peers = append(c.Peers, nobody) })
	if err := os.Chmod(users, 0o666); err != nil {
		t.Fatal(err)
	}
	if got := asNobody(t, users); got != "internal <nil>" || b.read("fake/live") != "0\n" {
		t.Errorf("one of its users: got %q, and mode %q", got, b.read("fake/live"))
	}
}

func TestC14_TheSocketIsForItsOwnerAndGroup(t *testing.T) {
	path := filepath.Join(t.TempDir(), "power.sock")
	l, err := power.Listen(path, os.Getegid())
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o660 {
		t.Errorf("got %v, %v; want 0660", info.Mode(), err)
	}
	if other, err := power.Listen(path, -1); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("got %v, %v; want that it is in use", other, err)
	}
	l.SetUnlinkOnClose(false)
	l.Close() // as if it was killed
	if l, err = power.Listen(path, -1); err != nil {
		t.Fatalf("got %v, want the place of the one that was left behind", err)
	}
	l.Close()
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err = power.Listen(path, -1); err == nil {
		t.Error("a file was replaced")
	}
}

func TestC14_AFileThatALinkInPlaceOfTheSocketLeadsToIsNotGivenAway(t *testing.T) {
	secret, path := filepath.Join(t.TempDir(), "shadow"), filepath.Join(t.TempDir(), "power.sock")
	if err := os.WriteFile(secret, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, put := range []func(from, to string) error{os.Symlink, os.Link} {
		os.Remove(path)
		if err := put(secret, path); err != nil {
			t.Fatal(err)
		}
		if err := power.Give(path, os.Getegid()); err == nil || !strings.Contains(err.Error(), "no socket any more") {
			t.Errorf("got %v, want that it is no socket", err)
		}
		if info, err := os.Stat(secret); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("got %v, %v; want 0600 as before", info.Mode(), err)
		}
	}
}

// stranger listens at a socket and does something with the first connection.
func stranger(t *testing.T, does func(net.Conn)) (socket string) {
	t.Helper()
	socket = filepath.Join(t.TempDir(), "power.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		if conn, err := l.Accept(); err == nil {
			does(conn)
		}
	}()
	return socket
}

func says(text string) func(net.Conn) {
	return func(c net.Conn) {
		bufio.NewReader(c).ReadString('\n')
		io.WriteString(c, text)
		c.Close()
	}
}

func TestAHelperThatCannotBeAskedIsNamedWithARemedy(t *testing.T) {
	left := filepath.Join(t.TempDir(), "power.sock")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: left, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	patience := map[bool]time.Duration{false: long, true: soon}
	for _, tt := range []struct {
		name, socket string
		is           error
		reason, says string
	}{
		{"nobody listens", left, syscall.ECONNREFUSED, "internal", "start it, `systemctl start limber-power.socket`"},
		{"no socket", filepath.Join(t.TempDir(), "none"), fs.ErrNotExist, "internal", "start it"},
		{"no answer", stranger(t, says("")), io.EOF, "internal", "no whole answer"},
		{"half an answer", stranger(t, says(`{"ok":true,"mode":"MODE`)), nil, "internal", "no whole answer: unexpected end of JSON input"},
		{"half an answer and the end of a line", stranger(t, says(`{"ok":true,"mode":"MODE_15W"`+"\n")), nil, "internal", "no whole answer"},
		{"an answer for ever", stranger(t, says(strings.Repeat("x", 1<<20))), nil, "internal", "more than 4096 bytes"},
		{"another answer", stranger(t, says("HTTP/1.1 400 Bad Request\n")), nil, "internal", "no whole answer: invalid character"},
		{"it hangs", stranger(t, func(net.Conn) {}), context.DeadlineExceeded, "expired", "did not answer in time"},
		{"a reason that is none", stranger(t, says(`{"ok":false,"mode":"","reason":"mood","detail":"no"}`+"\n")), nil, "internal", "no"},
		{"a reason", stranger(t, says(`{"ok":false,"mode":"","reason":"busy","detail":"wait"}`+"\n")), power.ErrBusy, "busy", "wait"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := mustFake(t, "xavier-nx")
			ctx, cancel := context.WithTimeout(t.Context(), patience[errors.Is(tt.is, context.DeadlineExceeded)])
			defer cancel()
			now, err := power.New(b.root).Remote(tt.socket).Set(ctx, power.Change{Mode: "MODE_15W"})
			if err == nil || tt.is != nil && !errors.Is(err, tt.is) || power.Reason(err) != tt.reason ||
				!strings.Contains(err.Error(), tt.says) || now != "MODE_20W_6CORE" {
				t.Errorf("got %s, %v (%s); want %s with %q", now, err, power.Reason(err), tt.reason, tt.says)
			}
		})
	}
}

func TestAChangeByAHelperIsThatOfTheBoard(t *testing.T) {
	b := mustFake(t, "xavier-nx")
	socket := b.helps()
	p := power.New(b.root)
	r := p.Remote(socket)
	if !r.Present() || p.Remote(socket+".none").Present() {
		t.Error("want one socket and not the other")
	}
	if _, err := r.Set(t.Context(), power.Change{Mode: "MODE_10W_2CORE"}); !errors.Is(err, power.ErrReboot) {
		t.Errorf("got %v, want ErrReboot", err)
	}
	now, err := r.Set(t.Context(), power.Change{Mode: "MODE_10W_2CORE", AtReboot: true})
	if err != nil || now != "MODE_20W_6CORE" || p.Modes().Current != now {
		t.Errorf("at the next start: got %s, %v and %s in force", now, err, p.Modes().Current)
	}
	if _, err := r.Set(t.Context(), power.Change{Mode: "MODE_15W"}); !errors.Is(err, power.ErrBusy) {
		t.Errorf("got %v, want ErrBusy", err)
	}
}

func FuzzParseLine(f *testing.F) {
	f.Add([]byte(`{"set":"MODE_15W","at_reboot":true,"allow_reboot":false}`))
	f.Add([]byte(`{"set":"a","set":"b"} {`))
	f.Add([]byte(`{"set":"\ud800"}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		c, err := power.ParseLine(line)
		if err != nil {
			return
		}
		if c.Mode == "" || len(c.Mode) > 64 || strings.ContainsAny(c.Mode, "/ \n\x00") {
			t.Errorf("%q: a mode is called %q", line, c.Mode)
		}
		again, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		if back, err := power.ParseLine(again); err != nil || back != c {
			t.Errorf("%q: got %+v, and %+v, %v back", line, c, back, err)
		}
	})
}

func FuzzParseQuery(f *testing.F) {
	f.Add("NVPM WARN: fan mode is not set!\nNV Power Mode: MAXN\n0\n")
	f.Add("NV Fan Mode:cool\nNV Power Mode: MODE_30W_4CORE\r\n5")
	f.Add("NV Power Mode: 5W\n1\nNVPM ERROR: Error opening /sys/kernel/nvpmodel_emc_cap/emc_iso_cap: 13\n")
	f.Add("NV Power Mode:")
	f.Fuzz(func(t *testing.T, out string) {
		name, id, ok := power.ParseQuery(out)
		if id < -1 || strings.Contains(name, "\n") || ok != strings.Contains(out, "NV Power Mode:") {
			t.Errorf("%q: got %q, %d, %t", out, name, id, ok)
		}
	})
}

func TestWhatNvpmodelPrintsIsFoundAmongWarnings(t *testing.T) {
	for out, want := range map[string]string{
		"NVPM WARN: fan mode is not set!\nNV Power Mode: MAXN\n0\n":                                      "MAXN 0 true",
		"NV Fan Mode:cool\nNV Power Mode: MODE_30W_4CORE\r\n5":                                           "MODE_30W_4CORE 5 true",
		"NV Power Mode: 5W\n1\nNVPM ERROR: Error opening /sys/kernel/nvpmodel_emc_cap/emc_iso_cap: 13\n": "5W 1 true",
		"NV Power Mode: 5W":                         "5W -1 true",
		"NV Power Mode: 5W\nNVPM ERROR":             "5W -1 true",
		"NVPM ERROR: failed to read PARAM EMC\n3\n": " -1 false",
		"": " -1 false",
		"NV Power Mode: " + "MAXN" + "\n99999999999999999999999\n0": "MAXN -1 true",
	} {
		name, id, ok := power.ParseQuery(out)
		if got := fmt.Sprint(name, " ", id, " ", ok); got != want {
			t.Errorf("%q: got %s, want %s", out, got, want)
		}
	}
}
