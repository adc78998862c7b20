package boot

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/limber-edge/limber/firmware/slot"
)

// A desk is a folder with the program of a package, a state, and releases.
type desk struct {
	testing.TB
	dir   string
	env   []string
	clone uintptr // flags of the launcher's process
}

func newDesk(t testing.TB, packaged string) *desk {
	d := &desk{TB: t, dir: t.TempDir(), env: []string{"GORACE=atexit_sleep_ms=0"}}
	d.write("package/limber", script(packaged), 0o755)
	if err := os.Mkdir(d.state(), 0o700); err != nil {
		t.Fatal(err)
	}
	return d
}

func (d *desk) state() string { return filepath.Join(d.dir, "state") }

func (d *desk) write(path, content string, mode os.FileMode) {
	d.Helper()
	path = filepath.Join(d.dir, path)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		d.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), mode); err != nil {
		d.Fatal(err)
	}
}

// release makes one that plays a role, which the program of the package is to install.
func (d *desk) release(version, role string) {
	d.Helper()
	d.write(version+"/limber", script(role), 0o755)
	d.write(version+"/libonnxruntime.so.1.30.0", "library", 0o644)
	d.write(version+"/share/notice", "words", 0o444)
	d.env = append(d.env, wantEnv+"="+filepath.Join(d.dir, version))
}

// installed has a release confirmed in slot a.
func (d *desk) installed(version, role string) {
	d.Helper()
	d.release(version, role)
	p := player{agent: slot.Open(d.state()).Agent(slot.Package), child: &slot.Child{Slot: slot.Package}}
	if !p.installs(filepath.Join(d.dir, version)) {
		d.Fatalf("release %s is not installed", version)
	}
	if err := slot.Open(d.state()).Agent(slot.A).Confirm(); err != nil {
		d.Fatal(err)
	}
}

// launched is a launcher that runs.
type launched struct {
	*desk
	cmd    *exec.Cmd
	lines  chan string // of stdout
	stderr bytes.Buffer
	ended  chan struct{}
}

// launch starts the launcher, by a program and arguments before it if there are any.
func (d *desk) launch(before ...string) *launched {
	d.Helper()
	argv := append(before, os.Args[0], d.state(), filepath.Join(d.dir, "package/limber"))
	l := &launched{desk: d, cmd: exec.Command(argv[0], argv[1:]...)}
	l.lines, l.ended = make(chan string, 100), make(chan struct{})
	l.cmd.Env = append(append(os.Environ(), playEnv+"=launcher"), d.env...)
	l.cmd.Stderr = &l.stderr
	l.cmd.WaitDelay = 10 * time.Second // for those that left their group
	l.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Cloneflags: d.clone}
	out, err := l.cmd.StdoutPipe()
	if err == nil {
		err = l.cmd.Start()
	}
	if errors.Is(err, syscall.EPERM) && d.clone != 0 {
		d.Skip("only root makes a namespace")
	} else if err != nil {
		d.Fatal(err)
	}
	go func() {
		for in := bufio.NewScanner(out); in.Scan(); {
			l.lines <- in.Text()
		}
		l.cmd.Wait()
		close(l.ended)
	}()
	d.Cleanup(func() {
		l.cmd.Process.Kill()
		<-l.ended
	})
	return l
}

// until waits for a line on stdout that begins so, and returns what follows.
func (l *launched) until(begins string) string {
	l.Helper()
	late := time.After(time.Minute)
	for {
		select {
		case line := <-l.lines:
			if rest, ok := strings.CutPrefix(line, begins); ok {
				return strings.TrimSpace(rest)
			}
		case <-l.ended:
			l.Fatalf("it ended before it said %q; %s", begins, &l.stderr)
		case <-late:
			l.Fatalf("it does not say %q", begins)
		}
	}
}

// stops sends a signal and returns the exit code.
func (l *launched) stops(s syscall.Signal) int {
	l.Helper()
	l.cmd.Process.Signal(s)
	return l.ends()
}

func (l *launched) ends() int {
	l.Helper()
	select {
	case <-l.ended:
	case <-time.After(time.Minute):
		l.Fatal("it does not end")
	}
	return l.cmd.ProcessState.ExitCode()
}

// wantGone waits until a process is no more, or waits for whoever is its parent now.
func (d *desk) wantGone(pid string) {
	d.Helper()
	late := time.After(time.Minute)
	for {
		b, err := os.ReadFile("/proc/" + pid + "/stat")
		if err != nil || bytes.Contains(b, []byte(") Z ")) {
			return
		}
		select {
		case <-time.After(time.Millisecond):
		case <-late:
			d.Fatalf("process %s is still there", pid)
		}
	}
}

func (d *desk) phase() slot.Phase {
	d.Helper()
	p, err := slot.Open(d.state()).Phase()
	if err != nil {
		d.Error(err)
	}
	return p
}

// wants checks the phase, and where current leads.
func (d *desk) wants(phase string, n slot.Name) {
	d.Helper()
	p := d.phase()
	if p.Phase != phase || p.Slot != n {
		d.Errorf("got %s in slot %s, want %s in %s", p.Phase, p.Slot, phase, n)
	}
	to, _ := os.Readlink(filepath.Join(d.state(), "slots/current"))
	if want := strings.TrimPrefix(string(n), string(slot.Package)); to != want {
		d.Errorf("current leads to %q, want %q", to, want)
	}
}

func TestAGoodReleaseTakesOver(t *testing.T) {
	t.Parallel()
	d := newDesk(t, "tells")
	d.release("2", "tells")
	l := d.launch()
	l.until("serves a")
	if code := l.stops(syscall.SIGTERM); code != 0 {
		t.Errorf("got exit code %d", code)
	}
	d.wants(slot.Confirmed, slot.A)
	l = d.launch() // and again after a start
	l.until("serves a")
	l.stops(syscall.SIGINT)
}

func TestABadReleaseGivesWayToTheOneBeforeWhichTellsWhy(t *testing.T) {
	for role, want := range map[string]string{
		"exits":         `2 rolled-back crash ""`,
		"crashes":       `2 rolled-back crash "boom\n"`,
		"hangs":         `2 rolled-back hang "waiting for nothing\n"`,
		"closes":        `2 rolled-back hang ""`,
		"forks hangs":   `2 rolled-back hang "waiting for nothing\n"`,
		"ignores hangs": `2 rolled-back hang "waiting for nothing\n"`,
		"canary":        `2 rolled-back canary "boom: canary\n"`,
		"no_link":       `2 undecided no_link "boom: no_link\n"`,
	} {
		t.Run(role, func(t *testing.T) {
			t.Parallel()
			d := newDesk(t, "good")
			d.release("2", role)
			if strings.Contains(want, "hang") {
				d.env = append(d.env, hastyEnv+"=1")
			}
			l := d.launch()
			if got := l.until("told "); got != want {
				t.Errorf("got %s, want %s", got, want)
			}
			l.until("serves package")
			l.stops(syscall.SIGTERM)
			if p := d.phase(); !p.IsRefused(p.Digest) {
				t.Error("it is not refused")
			}
		})
	}
}

func TestWithALinkTheOneBeforeHasAVerdictStand(t *testing.T) {
	t.Parallel()
	d := newDesk(t, "good")
	d.release("2", "no_link")
	d.env = append(d.env, linkEnv+"=1")
	l := d.launch()
	if got, want := l.until("told "), `2 rolled-back no_link "boom: no_link\n"`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	l.until("serves package")
	l.stops(syscall.SIGHUP)
	d.wants(slot.RolledBack, slot.Package)
}

func TestAReleaseThatIsNoProgramGivesWay(t *testing.T) {
	t.Parallel()
	d := newDesk(t, "good")
	d.release("2", "good")
	d.write("2/limber", "no program", 0o755)
	l := d.launch()
	got := l.until("told ")
	if !strings.HasPrefix(got, "2 rolled-back crash ") || !strings.Contains(got, "exec format error") {
		t.Errorf("got %s, want why it could not be started", got)
	}
	l.until("serves package")
	l.stops(syscall.SIGTERM)
}

func TestT5_AConfirmedReleaseThatCannotBeStartedAnyMoreGivesWayForAsLong(t *testing.T) {
	t.Parallel()
	d := newDesk(t, "package")
	d.installed("1", "good")
	program := filepath.Join(d.state(), "slots/a/limber")
	whole, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(program, bytes.Repeat([]byte{1}, len(whole)), 0o755); err != nil { // as a worn disk has it
		t.Fatal(err)
	}
	d.env = nil
	l := d.launch()
	l.until("serves package")
	says := "exec format error: it cannot run"
	if code := l.stops(syscall.SIGTERM); code != 0 || !strings.Contains(l.stderr.String(), says) {
		t.Errorf("got exit code %d, %s", code, &l.stderr)
	}
	d.wants(slot.Confirmed, slot.A)
	if err := os.WriteFile(program, whole, 0o755); err != nil {
		t.Fatal(err)
	}
	l = d.launch()
	l.until("serves a")
	l.stops(syscall.SIGTERM)
}

func TestMegabytesOnStderrArePassedOnAndTheLastOfThemHeld(t *testing.T) {
	t.Parallel()
	d := newDesk(t, "good")
	d.release("2", "shouts crashes")
	l := d.launch()
	told := l.until("told ")
	l.until("serves package")
	l.stops(syscall.SIGTERM)
	if got := len(d.phase().Last.Tail); got != slot.MaxTail || !strings.HasSuffix(told, `the last words\nboom\n"`) {
		t.Errorf("got %d bytes, %.100s; want 16 KiB up to the last words", got, told)
	}
	if got := bytes.Count(l.stderr.Bytes(), []byte("another line that nobody reads\n")); got != 300_000 {
		t.Errorf("%d lines came through, want 300000", got)
	}
}

func TestNothingOfAProgramIsLeftWhenTheNextStarts(t *testing.T) {
	t.Parallel()
	d := newDesk(t, "good")
	d.release("2", "forks crashes")
	l := d.launch()
	left := l.until("forked ")
	l.until("serves package")
	l.wantGone(left)
	l.stops(syscall.SIGTERM)
}

// What leaves its group is not found, but nothing waits for it.
func TestASecondLauncherOfADeviceEndsBeforeItSpoilsATrial(t *testing.T) {
	t.Parallel()
	d := newDesk(t, "good")
	first := d.launch()
	first.until("serves package")
	second := d.launch()
	if code := second.ends(); code != 99 || !strings.Contains(second.stderr.String(), "another limber-boot runs") {
		t.Errorf("got exit code %d, %s", code, &second.stderr)
	}
	first.stops(syscall.SIGTERM)
	d.launch().until("serves package")
}

func TestAProgramThatIsGoneIsSentNothingAsItsNumberMayBeAnothers(t *testing.T) {
	t.Parallel()
	other := exec.Command("sleep", "3600")
	other.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	p := &child{pid: other.Process.Pid}
	p.gone.Store(true)
	p.Signal(syscall.SIGTERM)
	p.Kill()
	if err := other.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if other.Wait(); !strings.Contains(other.ProcessState.String(), "interrupt") {
		t.Errorf("it got %v", other.ProcessState)
	}
}

func TestWhoHoldsThePipesOfAProgramThatIsGoneHoldsNothingUp(t *testing.T) {
	t.Parallel()
	d := newDesk(t, "good")
	d.release("2", "leaves canary")
	l := d.launch()
	var pid int
	fmt.Sscan(l.until("forked "), &pid)
	defer syscall.Kill(pid, syscall.SIGKILL)
	l.until("serves package")
	l.cmd.Process.Signal(syscall.SIGTERM)
	syscall.Kill(pid, syscall.SIGKILL) // it has stdout of this test as well
	l.ends()
	d.wants(slot.RolledBack, slot.Package)
}

func TestAProgramThatIgnoresBeingAskedToStopIsKilled(t *testing.T) {
	t.Parallel()
	d := newDesk(t, "good")
	d.installed("2", "ignores")
	d.env = append(d.env, hastyEnv+"=1")
	l := d.launch()
	l.until("serves a")
	if code := l.stops(syscall.SIGTERM); code != 128+9 {
		t.Errorf("got exit code %d, want 137", code)
	}
}

func TestTheProgramEndsWithItsLauncher(t *testing.T) {
	t.Parallel()
	d := newDesk(t, "good")
	l := d.launch()
	pid := l.until("serves package")
	l.cmd.Process.Kill()
	l.ends() // when nobody has its stdout any more
	l.wantGone(pid)
}

// As the first process of a container it has orphans, of whom it must take leave.
func TestAsPID1TheLauncherReapsWhoeverIsLeftToIt(t *testing.T) {
	t.Parallel()
	d := newDesk(t, "orphans")
	d.clone = syscall.CLONE_NEWPID
	l := d.launch()
	l.until("serves package")
	late := time.After(time.Minute)
	for {
		tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", l.cmd.Process.Pid))
		var all []string
		for _, path := range tasks {
			b, _ := os.ReadFile(path)
			all = append(all, strings.Fields(string(b))...)
		}
		if len(all) == 1 { // the program
			break
		}
		select {
		case <-time.After(time.Millisecond):
		case <-late:
			t.Fatalf("its children are %q", all)
		}
	}
	if code := l.stops(syscall.SIGTERM); code != 0 {
		t.Errorf("got exit code %d", code)
	}
}

func TestTheProgramMaySpeakToSystemd(t *testing.T) {
	t.Parallel()
	d := newDesk(t, "tells")
	path := filepath.Join(d.dir, "notify")
	pc, err := net.ListenPacket("unixgram", path)
	if err != nil {
		t.Fatal(err)
	}
	defer pc.Close()
	d.env = append(d.env, "NOTIFY_SOCKET="+path, "WATCHDOG_PID=1")
	l := d.launch()
	if got, want := l.until("environment "), path+" . true"; got != want {
		t.Errorf("got %s, want %s: no WATCHDOG_PID, and a stderr that blocks", got, want)
	}
	l.until("serves package")
	l.stops(syscall.SIGTERM)
}

func TestADeviceWhoseRecordsAreSpoiltRunsWhatCanRun(t *testing.T) {
	for name, tt := range map[string]struct {
		spoil func(slots string) error
		runs  string
		says  string
	}{
		"damaged phase": {damagePhase, "a", "slot a runs, by the link current"},
		"damaged phase, dangling current": {func(s string) error {
			return errors.Join(damagePhase(s), remove("a")(s))
		}, "package", "slot a"},
		"no phase":        {remove("phase.json"), "a", ""},
		"no slot":         {remove("a"), "package", "slot a"},
		"no program":      {remove("a/limber"), "package", "slot a"},
		"wrong mode":      {func(s string) error { return os.Chmod(s+"/a/limber", 0o600) }, "package", "slot a"},
		"another user's":  {func(s string) error { return os.Lchown(s+"/a/limber", 65534, 65534) }, "package", "slot a"},
		"no current":      {remove("current"), "a", ""},
		"no slots at all": {remove(""), "package", ""},
		"current a folder": {func(s string) error {
			return errors.Join(remove("current")(s), os.Mkdir(s+"/current", 0o700))
		}, "a", "current"},
		"current elsewhere": {func(s string) error {
			return errors.Join(remove("current")(s), remove("phase.json")(s), os.Symlink("/tmp", s+"/current"))
		}, "package", ""},
		"no program of the package": {remove("../../package/limber"), "a", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDesk(t, "good")
			d.installed("2", "good")
			d.env = d.env[:1] // nobody wants it any more
			slots := filepath.Join(d.state(), "slots")
			err := errors.Join(os.Symlink("a", filepath.Join(slots, "current")), tt.spoil(slots))
			if errors.Is(err, syscall.EPERM) {
				t.Skip("only root gives a file away")
			} else if err != nil {
				t.Fatal(err)
			}
			l := d.launch()
			l.until("serves " + tt.runs)
			l.stops(syscall.SIGTERM)
			said := l.stderr.String()
			lines := strings.Count(said, "\n")
			if !strings.Contains(said, tt.says) || lines > 2 || tt.says == "" && lines > 0 {
				t.Errorf("got %q, want it to say %q", said, tt.says)
			}
		})
	}
}

func damagePhase(slots string) error {
	return os.WriteFile(filepath.Join(slots, "phase.json"), []byte("{"), 0o600)
}

func remove(name string) func(slots string) error {
	return func(slots string) error { return os.RemoveAll(filepath.Join(slots, name)) }
}
