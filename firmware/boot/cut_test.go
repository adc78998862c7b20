package boot

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/limber-edge/limber/firmware/slot"
)

// A power cut ends all processes at once: the launcher and the program that it started are
// killed with SIGKILL before each system call that changes a file, which is after the one
// before. strace counts the calls of one thread by their names, so each process in turn is
// put under it: the launcher by the test, a program by itself, as only then its number is
// known to the launcher. Only calls about the state count: Go's own are a matter of chance.

// traced are the system calls that change files, and those with the same name that do not.
const traced = "openat,write,pwrite64,fsync,fdatasync,fchmod,fchmodat,ftruncate," +
	"renameat,renameat2,unlinkat,symlinkat,mkdirat"

// A moment is a system call of a process in an update.
type moment struct {
	process string // "launcher", or the role of a program and the phase in which it starts
	call    string
	nth     int // of those with the same name in this process, about the state
	line    string
}

// The process to be put under strace, and the arguments of strace, in one word.
func (m moment) env(args ...string) string {
	return cutEnv + "=" + strings.Join(append([]string{m.process}, args...), "\n")
}

// underStrace runs this program again under strace, if it is the one that is meant. When
// it is killed, so is the launcher, unless it is to die alone.
func underStrace(cut string) {
	words := strings.Split(cut, "\n")
	phase, _ := slot.Open(os.Args[2]).Phase()
	if words[0] != roleOf(os.Args[1])+" "+phase.Phase {
		return
	}
	if _, err := os.Stat(os.Getenv(aloneEnv)); err == nil { // it did
		return
	}
	os.Unsetenv(cutEnv)
	c := exec.Command("strace", append(append([]string{"-D"}, words[1:]...), os.Args...)...)
	c.Stdin, c.Stdout, c.Stderr = os.Stdin, os.Stdout, os.Stderr
	c.ExtraFiles = []*os.File{os.NewFile(3, "heartbeats")}
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	err := c.Run()
	if ws, ok := c.ProcessState.Sys().(syscall.WaitStatus); err != nil && ok && ws.Signaled() {
		if alone := os.Getenv(aloneEnv); alone != "" {
			note(alone, "killed")
		} else {
			syscall.Kill(os.Getppid(), syscall.SIGKILL)
		}
	}
	os.Exit(c.ProcessState.ExitCode())
}

// launchAt starts the launcher, with strace and its arguments at a process.
func (d *desk) launchAt(m moment, args ...string) *launched {
	d.Helper()
	if m.process == "launcher" {
		return d.launch(append([]string{"strace", "-D"}, args...)...)
	}
	was := d.env
	d.env = append(d.env[:len(d.env):len(d.env)], m.env(args...))
	defer func() { d.env = was }()
	return d.launch()
}

// moments are all system calls of an update that change something in the state folder.
func moments(t *testing.T, role string) (all []moment) {
	t.Helper()
	processes := []string{"launcher", "good idle", role + " trial"}
	if role != "good" {
		processes = append(processes, "good rolled-back")
	}
	for _, process := range processes {
		d := newDesk(t, "good")
		d.release("2", role)
		l := d.launchAt(moment{process: process}, append(d.about(), "-y", "-o", d.trace(), "-e", "trace="+traced)...)
		l.until("serves " + endsIn(role))
		l.stops(syscall.SIGTERM)
		all = append(all, d.calls(process)...)
	}
	return all
}

func (d *desk) trace() string { return filepath.Join(d.dir, "trace") }

// calls reads what strace wrote of a process, as far as it changes something in the state.
func (d *desk) calls(process string) (all []moment) {
	trace, err := os.ReadFile(d.trace())
	if err != nil {
		d.Fatal(err)
	}
	nth, short := map[string]int{}, strings.NewReplacer(d.state()+"/", "", d.state(), ".")
	for line := range strings.Lines(string(trace)) {
		call, args, ok := strings.Cut(line, "(")
		if !ok || !strings.Contains(args, d.state()) {
			continue
		}
		nth[call]++
		if call != "openat" || strings.Contains(args, "O_CREAT") {
			all = append(all, moment{process, call, nth[call], short.Replace(line)})
		}
	}
	return all
}

// about has strace look at calls about the state alone: every path that there is in an update.
func (d *desk) about() (args []string) {
	for _, path := range []string{"", "slots", "slots/phase.json", "slots/current", "slots/a", "slots/a/release.json",
		"slots/a/limber", "slots/a/libonnxruntime.so.1.30.0", "slots/a/share", "slots/a/share/notice"} {
		path = filepath.Join(d.state(), path)
		args = append(args, "-P", path, "-P", path+".new", "-P", strings.Replace(path, "slots/a", "slots/a.new", 1))
	}
	return append(args, "-P", filepath.Join(d.state(), "slots/a.new/release.json.new"))
}

// TestM17_NothingIsRecordedBeforeWhatItSaysIsOnTheDisk looks at what a power cut may lose
// besides: all that no fsync came after.
func TestM17_NothingIsRecordedBeforeWhatItSaysIsOnTheDisk(t *testing.T) {
	needStrace(t)
	t.Parallel()
	for _, role := range []string{"good", "canary"} {
		disk := map[string]unsynced{}
		for _, m := range moments(t, role) {
			if disk[m.process] == nil {
				disk[m.process] = unsynced{}
			}
			if wrong := disk[m.process].do(m); wrong != "" {
				t.Errorf("%s: %s%s", m.process, m.line, wrong)
			}
		}
		for process, left := range disk {
			if len(left) > 0 {
				t.Errorf("%s ends and %v is not on the disk", process, left)
			}
		}
	}
}

// unsynced are the files, and folders, of which something is not on the disk.
type unsynced map[string]bool

var quoted, opened = regexp.MustCompile(`"([^"]*)"`), regexp.MustCompile(`<([^>]*)>`)

// do has a call take effect, and says what is wrong with it.
func (u unsynced) do(m moment) (wrong string) {
	file := func(of *regexp.Regexp, n int) string { return of.FindAllStringSubmatch(m.line, -1)[n][1] }
	below := func() string { // AT_FDCWD, and a path; or a folder, and a name in it
		if strings.Contains(m.line, "AT_FDCWD") {
			return file(quoted, 0)
		}
		return filepath.Join(file(opened, 0), file(quoted, 0))
	}
	if strings.Contains(m.line, "= -1") {
		return ""
	}
	switch m.call {
	case "openat":
		path := file(opened, strings.Count(m.line, ">")-1) // of what it returns
		if path == "slots/phase.json.new" && len(u) > 0 {
			wrong = fmt.Sprintf("records while %v is not on the disk", u)
		}
		u[path], u[filepath.Dir(path)] = true, true
	case "write", "fchmod":
		u[file(opened, 0)] = true
	case "fsync":
		delete(u, file(opened, 0))
	case "mkdirat":
		u[filepath.Dir(below())] = true
	case "symlinkat":
		u[filepath.Dir(file(quoted, 1))] = true
	case "unlinkat":
		delete(u, below())
		u[filepath.Dir(below())] = true
	case "renameat":
		from, to := file(quoted, 0), file(quoted, 1)
		for path := range u {
			if path == from || strings.HasPrefix(path, from+"/") {
				wrong = fmt.Sprintf("renames while %s is not on the disk", path)
			}
		}
		u[filepath.Dir(to)] = true
	default:
		wrong = "is a call of which this test does not know what becomes"
	}
	return wrong
}

func endsIn(role string) string {
	if role == "good" {
		return "a"
	}
	return string(slot.Package)
}

// wantEnd has a device whose update was disturbed go on with it, and checks how it ends.
func (d *desk) wantEnd(role string) {
	d.Helper()
	if p := d.phase(); p.Slot == slot.A {
		if _, err := slot.Open(d.state()).Release(slot.A); err != nil {
			d.Errorf("phase %s: %v", p.Phase, err)
		}
	}
	refused, starts := len(d.phase().Refused) > 0, d.starts(role)
	l := d.launch()
	l.until("serves " + endsIn(role))
	if code := l.stops(syscall.SIGTERM); code != 0 {
		d.Errorf("got exit code %d", code)
	}
	if role == "good" {
		d.wants(slot.Confirmed, slot.A)
		return
	}
	d.wants(slot.RolledBack, slot.Package)
	if now := d.starts(role); now > 3 || refused && now > starts {
		d.Errorf("it was started %d times, %d of them before the cut, when it was refused: %v", now, starts, refused)
	}
}

// starts counts those of the programs of a role.
func (d *desk) starts(role string) int {
	b, err := os.ReadFile(filepath.Join(d.dir, "starts"))
	if err != nil {
		d.Fatal(err)
	}
	return strings.Count("\n"+string(b), "\n"+role+"\n")
}

// A trouble comes at each moment of an update that succeeds and of one that goes back, or at
// one of so many.
type trouble struct {
	every  int
	inject string // as strace takes it, with the number of the call
	alone  bool   // a program that is killed is so without its launcher
	seen   func(*launched, moment)
}

func TestM17_APowerCutAtAnyMomentOfAnUpdateStartsTheOldOrTheNew(t *testing.T) {
	trouble{every: 1, inject: "signal=SIGKILL:when=%d", seen: func(l *launched, _ moment) {
		if code := l.ends(); code != -1 {
			l.Fatalf("it ended with exit code %d, not by the cut; %s", code, &l.stderr)
		}
	}}.comes(t)
}

func TestM17_AProgramThatDiesAtAnyMomentOfAnUpdateIsStartedAgain(t *testing.T) {
	trouble{every: everyTrouble, inject: "signal=SIGKILL:when=%d", alone: true, seen: func(l *launched, m moment) {
		if m.process == "launcher" { // with which its program dies
			l.ends()
			return
		}
		l.until("serves ")
		l.stops(syscall.SIGTERM)
		if _, err := os.Stat(l.killed()); err != nil {
			l.Fatal("it was not killed")
		}
	}}.comes(t)
}

func TestM17_AWriteThatFindsTheDiskFullLeavesTheOldOrTheNew(t *testing.T) {
	trouble{every: everyTrouble, inject: "error=ENOSPC:when=%d", seen: servesMeanwhile}.comes(t)
}

func TestM17_ADiskThatIsFullFromAnyMomentOnLeavesTheOldOrTheNew(t *testing.T) {
	trouble{every: everyTrouble, inject: "error=ENOSPC:when=%d+", seen: servesMeanwhile}.comes(t)
}

func servesMeanwhile(l *launched, _ moment) {
	l.until("serves ")
	l.stops(syscall.SIGTERM)
	if b, err := os.ReadFile(l.trace()); !bytes.Contains(b, []byte("(INJECTED)")) {
		l.Fatalf("no call was failed: %v", err)
	}
}

// comes has it come, and the update go on after it.
func (tr trouble) comes(t *testing.T) {
	needStrace(t)
	t.Parallel()
	for _, role := range []string{"good", "canary"} {
		t.Run(role, func(t *testing.T) {
			t.Parallel()
			all := moments(t, role)
			if strings.HasPrefix(tr.inject, "signal") { // before and after an fsync a kill leaves the same
				all = slices.DeleteFunc(all, func(m moment) bool { return m.call == "fsync" })
			}
			t.Logf("%d system calls change a file", len(all))
			if len(all) < 40 {
				t.Errorf("got %d system calls, want 40 or more", len(all))
			}
			for i, m := range all {
				if i%tr.every == 0 {
					t.Run(fmt.Sprint(i, " ", m.process, " ", m.call), func(t *testing.T) { tr.comesAt(t, m, role) })
				}
			}
		})
	}
}

func (tr trouble) comesAt(t *testing.T, m moment, role string) {
	t.Parallel()
	d := newDesk(t, "good")
	d.release("2", role)
	if tr.alone {
		d.env = append(d.env, aloneEnv+"="+d.killed())
	}
	tr.seen(d.launchAt(m, append(d.about(), "-o", d.trace(), "-e", "trace="+m.call,
		"-e", "inject="+m.call+":"+fmt.Sprintf(tr.inject, m.nth))...), m)
	d.wantEnd(role)
	if t.Failed() {
		t.Log(m.line)
	}
}

// killed is a file that is there once a program was killed alone.
func (d *desk) killed() string { return filepath.Join(d.dir, "killed") }

func needStrace(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("strace"); err != nil {
		t.Skip("strace is not installed; see apt-get install strace")
	}
}
