//go:build torture

package packaging

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"io"
	"io/fs"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/limber-edge/limber/broker-config/brokertest"
)

// mustBuild builds the package of a version in a folder.
func mustBuild(tb testing.TB, project, arch, version string) (deb string) {
	tb.Helper()
	c := exec.CommandContext(tb.Context(), filepath.Join(project, "firmware/packaging/deb.sh"), arch, tb.TempDir())
	c.Env = append(os.Environ(), "VERSION="+version)
	c.Stderr = os.Stderr
	out, err := c.Output()
	if err != nil {
		tb.Fatalf("build the package of %s: %v\n%s", arch, err, out)
	}
	return strings.TrimSpace(string(out))
}

// mustClone is the commit in a folder of its own, with the libraries that were fetched.
func mustClone(tb testing.TB, name string) string {
	tb.Helper()
	dir := filepath.Join(tb.TempDir(), name)
	mustRun(tb, "git", "clone", "--quiet", "../..", dir)
	mustRun(tb, "cp", "-r", "../../.onnxruntime", dir)
	return dir
}

func TestPackageIsTheSameToTheByteFromTwoFolders(t *testing.T) {
	one, two := mustClone(t, "one"), mustClone(t, filepath.Join("another", "folder"))
	for _, arch := range []string{"amd64", "arm64"} {
		if arch == "arm64" {
			need(t, "aarch64-linux-gnu-gcc")
		}
		a, b := mustBuild(t, one, arch, ""), mustBuild(t, two, arch, "")
		if filepath.Base(a) != filepath.Base(b) {
			t.Errorf("got %s and %s", a, b)
		}
		mustRun(t, "cmp", a, b)
	}
}

func TestPackageHasNoErrorsForLintian(t *testing.T) {
	need(t, "lintian")
	mustRun(t, "lintian", "--fail-on", "error", "--allow-root", mustBuild(t, "../..", "amd64", "1.0.0"))
}

// system is a Debian in a folder, whose network is this machine's. No systemd runs in it.
type system struct {
	tb   testing.TB
	root string
}

// mustSystem makes one with what the package depends on.
func mustSystem(tb testing.TB) *system {
	tb.Helper()
	need(tb, "debootstrap", "unshare")
	if os.Geteuid() != 0 {
		tb.Skip("debootstrap wants root")
	}
	s := &system{tb, filepath.Join(tb.TempDir(), "system")}
	out, err := exec.CommandContext(tb.Context(), "debootstrap", "--variant=minbase", "--include=systemd,libstdc++6",
		"bookworm", s.root).CombinedOutput()
	if err != nil {
		tb.Skipf("debootstrap, for which a mirror of Debian must be reached: %v\n%.2000s", err, out)
	}
	return s
}

// enter runs the words behind it in the system, with the mounts that it needs; they go with it.
const enter = `mount -t proc proc "$0/proc" && mount --rbind /dev "$0/dev" && exec chroot "$0" "$@"`

func (s *system) command(args ...string) *exec.Cmd {
	words := append([]string{"--mount", "--propagation", "private", "sh", "-c", enter, s.root}, args...)
	c := exec.Command("unshare", words...)
	c.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8", "DEBIAN_FRONTEND=noninteractive"}
	return c
}

func (s *system) mustRun(args ...string) string {
	s.tb.Helper()
	out, err := s.command(args...).CombinedOutput()
	if err != nil {
		s.tb.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

func (s *system) file(path string) string { return filepath.Join(s.root, path) }

func (s *system) mustInstall(deb string) {
	s.tb.Helper()
	mustRun(s.tb, "cp", deb, s.file("tmp/limber.deb"))
	s.mustRun("dpkg", "--install", "/tmp/limber.deb")
}

// asAgent are words that run a command as the agent's user.
func asAgent(words ...string) []string {
	return append([]string{"setpriv", "--reuid=limber", "--regid=limber", "--init-groups"}, words...)
}

// others change with every installation, whatever is installed: dpkg's own books, logs and
// the copies that tools keep of the files of users.
var others = []string{"dev", "proc", "tmp", "run", "var/lib/dpkg", "var/log", "var/cache", "etc/passwd", "etc/group",
	"etc/shadow", "etc/gshadow", "etc/subuid", "etc/subgid", "etc/.pwd.lock", "etc/passwd-", "etc/group-", "etc/shadow-",
	"etc/gshadow-", "etc/subuid-", "etc/subgid-", "root", "var/lib/systemd"}

// files are all of the system but others.
func (s *system) files() map[string]bool {
	s.tb.Helper()
	found := map[string]bool{}
	err := filepath.WalkDir(s.root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(s.root, path)
		if slices.Contains(others, name) {
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		found[name] = true
		return nil
	})
	if err != nil {
		s.tb.Fatal(err)
	}
	return found
}

// more are the files that are now and were not before.
func (s *system) more(before map[string]bool) []string {
	now := s.files()
	maps.DeleteFunc(now, func(name string, _ bool) bool { return before[name] })
	return slices.Sorted(maps.Keys(now))
}

// execStart is what a unit starts, in words.
func (s *system) execStart(unit string) []string {
	s.tb.Helper()
	_, line, ok := strings.Cut(mustRead(s.tb, s.file("lib/systemd/system/"+unit)), "\nExecStart=")
	line, _, _ = strings.Cut(line, "\n")
	if !ok {
		s.tb.Fatalf("%s starts nothing", unit)
	}
	return strings.Fields(line)
}

// mustHelp has the power helper started by its socket, as systemd does, and asks it for a
// mode that it may not set, and for one that the board of this test does not have.
func (s *system) mustHelp() {
	s.tb.Helper()
	const socket = "/run/limber/power.sock"
	allow := strings.NewReplacer("${LIMBER_POWER_ALLOW}", "MODE_15W", "$LIMBER_POWER_FLAGS", "")
	words := strings.Fields(allow.Replace(strings.Join(s.execStart("limber-power.service"), " ")))
	helper := s.command(append([]string{"systemd-socket-activate", "--listen=" + socket}, words...)...)
	var log bytes.Buffer
	helper.Stdout, helper.Stderr = &log, &log
	if err := helper.Start(); err != nil {
		s.tb.Fatal(err)
	}
	defer helper.Wait()
	defer helper.Process.Kill()
	eventually(s.tb, socket, func() bool {
		_, err := os.Stat(s.file(socket))
		return err == nil
	})
	for mode, want := range map[string]string{"MODE_30W": "unauthorized", "MODE_15W": "invalid"} {
		conn, err := net.Dial("unix", s.file(socket))
		if err != nil {
			s.tb.Fatal(err)
		}
		conn.SetDeadline(time.Now().Add(20 * time.Second))
		fmt.Fprintf(conn, `{"set":%q}`+"\n", mode)
		answer, err := io.ReadAll(conn)
		conn.Close()
		if err != nil || !strings.Contains(string(answer), `"ok":false`) || !strings.Contains(string(answer), want) {
			s.tb.Errorf("%s: got %s, %v; want %s\n%s", mode, answer, err, want, log.String())
		}
	}
}

// agent is what the unit starts, as its user and with a socket to tell that it is ready.
type agent struct {
	tb      testing.TB
	process *exec.Cmd
	log     bytes.Buffer
	ended   chan error
}

// mustStart starts what the unit says, as systemd does, and waits until it is ready.
func (s *system) mustStart() *agent {
	s.tb.Helper()
	const socket = "/run/notify"
	os.Remove(s.file(socket))
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: s.file(socket), Net: "unixgram"})
	if err == nil {
		err = os.Chmod(s.file(socket), 0o777)
	}
	if err != nil {
		s.tb.Fatal(err)
	}
	defer conn.Close()
	a := &agent{tb: s.tb, ended: make(chan error, 1)}
	a.process = s.command(asAgent(s.execStart("limber.service")...)...)
	a.process.Env = append(a.process.Env, "NOTIFY_SOCKET="+socket)
	a.process.Stdout, a.process.Stderr = &a.log, &a.log
	if err := a.process.Start(); err != nil {
		s.tb.Fatal(err)
	}
	go func() { a.ended <- a.process.Wait() }()
	s.tb.Cleanup(a.stop)
	b := make([]byte, 64)
	conn.SetReadDeadline(time.Now().Add(time.Minute))
	if n, err := conn.Read(b); err != nil || string(b[:n]) != "READY=1" {
		a.stop()
		s.tb.Fatalf("got %q, %v; want that it is ready\n%s", b[:n], err, a.log.String())
	}
	return a
}

// stop ends it as systemd does.
func (a *agent) stop() {
	if a.ended == nil {
		return
	}
	a.process.Process.Signal(syscall.SIGTERM)
	select {
	case err := <-a.ended:
		if err != nil {
			a.tb.Errorf("the agent: %v\n%s", err, a.log.String())
		}
	case <-time.After(30 * time.Second):
		a.process.Process.Kill()
		a.tb.Errorf("the agent did not stop within the unit's time\n%s", a.log.String())
	}
	a.ended = nil
}

// picture is any; each n another one.
func picture(tb testing.TB, n int) []byte {
	tb.Helper()
	img := image.NewGray(image.Rect(0, 0, 32, 32))
	for i := range 32 * 32 {
		img.SetGray(i%32, i/32, color.Gray{Y: uint8(i*n + i/7)})
	}
	var b bytes.Buffer
	if err := png.Encode(&b, img); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

// finding is a line of limber check.
type finding struct {
	Check, Level, Detail string
	OK                   bool
}

// TestPackageInstallsAnswersUpgradesAndGoes is the life of a device.
func TestPackageInstallsAnswersUpgradesAndGoes(t *testing.T) {
	m := brokertest.StartMosquitto(t, "allow_anonymous true", "max_inflight_messages 1024", "max_queued_messages 10000")
	s := mustSystem(t)
	first, second := mustBuild(t, "../..", "amd64", "1.0.0"), mustBuild(t, "../..", "amd64", "1.0.1")
	before, users := s.files(), mustRead(t, s.file("etc/passwd"))

	s.mustInstall(first)
	s.mustRun("sh", "-c", "test $(stat -c %U:%a /var/lib/limber) = limber:700")
	if link, err := os.Readlink(s.file("etc/systemd/system/multi-user.target.wants/limber.service")); err != nil {
		t.Errorf("the unit is not enabled: %s, %v", link, err)
	}
	valve, metrics := mustValve(t, m.Addr), brokertest.Reserve(t)
	mustWrite(t, s.file("etc/limber/limber.toml"), fmt.Sprintf("[broker]\nurl = %q\n[metrics]\nlisten = %q\n[runtime]\n"+
		"threads = 1\n", "mqtt://"+valve.addr, metrics), 0o644)
	s.mustBeFit()
	a := s.mustStart()
	mustWrite(t, s.file("tmp/cat.png"), string(picture(t, 0)), 0o644)
	mustMeasure(t, metrics, "limber_member_info{")
	answer := s.mustRun("limber", "publish", "--broker", "mqtt://"+m.Addr, "--deadline", "20s", "--json", "/tmp/cat.png")
	if !strings.Contains(answer, `"status":"ok"`) {
		t.Errorf("got %s, want an answer", answer)
	}

	s.mustHelp()
	mustHave := mustListen(t, m.Addr)
	valve.close() // what the agent says stays with it
	for n := range frames {
		mustRunWith(t, picture(t, n+1), "mosquitto_pub", "-p", port(m.Addr), "-q", "1", "-s", "-t",
			fmt.Sprintf("limber/v1/demo/desk/job/frame-%d", n))
	}
	mustMeasure(t, metrics, fmt.Sprintf("limber_outbox_records{class=\"result\"} %d\n", frames))
	a.stop()
	s.mustInstall(second)
	if out := s.mustRun("limber", "version"); !strings.Contains(out, "limber 1.0.1 linux/amd64") {
		t.Errorf("got %s, want the new version", out)
	}
	if text := mustRead(t, s.file("etc/limber/limber.toml")); !strings.Contains(text, valve.addr) {
		t.Errorf("got the configuration\n%s\nwant the administrator's", text)
	}
	valve.open()
	a = s.mustStart()
	mustHave("frame-", frames)
	a.stop()

	s.mustRun("dpkg", "--remove", "limber")
	for _, name := range s.more(before) {
		if name != "etc/limber" && name != "etc/limber/limber.toml" && !strings.HasPrefix(name+"/", "var/lib/limber/") &&
			!strings.HasPrefix(name, "etc/systemd/system/") {
			t.Errorf("%s is left after a removal: neither state nor configuration", name)
		}
	}
	if _, err := os.Stat(s.file("var/lib/limber/limber.db")); err != nil {
		t.Errorf("the state did not outlast the removal: %v", err)
	}
	s.mustRun("dpkg", "--purge", "limber")
	if left := s.more(before); len(left) > 0 {
		t.Errorf("left after a purge: %v", left)
	}
	if now := mustRead(t, s.file("etc/passwd")); now != users {
		t.Errorf("got users\n%s\nafter a purge, want\n%s", now, users)
	}
	for _, name := range []string{"var/lib/systemd/deb-systemd-helper-enabled/limber.service.dsh-also", "run/limber"} {
		if _, err := os.Lstat(s.file(name)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is left after a purge: %v", name, err)
		}
	}
}

// frames wait in the outbox over the upgrade.
const frames = 300

// mustBeFit has limber check find no error.
func (s *system) mustBeFit() {
	s.tb.Helper()
	out, err := s.command(asAgent("limber", "check", "--config", "/etc/limber/limber.toml", "--state", "/var/lib/limber",
		"--json")...).Output()
	if err != nil {
		s.tb.Errorf("limber check: %v\n%s", err, out)
	}
	for dec := json.NewDecoder(bytes.NewReader(out)); dec.More(); {
		var f finding
		if err := dec.Decode(&f); err != nil {
			s.tb.Fatal(err)
		}
		if !f.OK {
			s.tb.Logf("limber check: %+v", f)
		}
	}
}
