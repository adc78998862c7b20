package boot

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/limber-edge/limber/firmware/slot"
)

// This test binary plays the launcher and the programs that it starts: a program is a
// script whose first line names this binary, and whose second names its role. What they
// do with files they do on their first thread, which is the one that strace follows.

const (
	playEnv  = "BOOT_TEST"       // launcher or program
	hastyEnv = "BOOT_TEST_HASTY" // heartbeats are due soon
	cutEnv   = "BOOT_TEST_CUT"   // the process to be put under strace, and how: see cut_test.go
	aloneEnv = "BOOT_TEST_ALONE" // it dies alone
	linkEnv  = "BOOT_TEST_LINK"  // there is a link
	bootEnv  = "BOOT_TEST_BOOT"  // names the machine's run
	wantEnv  = "BOOT_TEST_WANT"  // folder of a release that an old program installs
)

var _ = firstThread()

func firstThread() bool {
	if os.Getenv(playEnv) != "" {
		runtime.LockOSThread()
	}
	return true
}

func TestMain(m *testing.M) {
	switch os.Getenv(playEnv) {
	case "launcher":
		os.Setenv(playEnv, "program")
		os.Exit(playLauncher())
	case "program":
		if cut := os.Getenv(cutEnv); cut != "" {
			underStrace(cut)
		}
		os.Exit(play(os.Args[1], os.Args[2]))
	}
	os.Exit(m.Run())
}

// timing is that of a device with short pauses, and with short heartbeats where it is to be
// seen that they stay away: a busy machine may hold back some.
func timing() Timing {
	t := DefaultTiming()
	t.Pause, t.Most, t.Stop = 10*time.Millisecond, 100*time.Millisecond, 5*time.Second
	if os.Getenv(hastyEnv) != "" {
		t.Beat, t.First, t.Stop = 100*time.Millisecond, 600*time.Millisecond, 100*time.Millisecond
	}
	return t
}

// playLauncher is limber-boot, with the state folder and the program of the package.
func playLauncher() int {
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	state, program := os.Args[1], os.Args[2]
	code, err := Run(Config{State: state, Argv: []string{program, state}, Boot: os.Getenv(bootEnv), Timing: timing()},
		signals, os.Stderr)
	if err != nil {
		tell(os.Stderr, err)
		return 99
	}
	return code
}

// roleOf is the second line of a program.
func roleOf(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	return strings.Split(string(b), "\n")[1]
}

// script is a program that plays a role.
func script(role string) string { return "#!" + os.Args[0] + "\n" + role + "\n" }

// A player is a program that runs.
type player struct {
	agent *slot.Agent
	child *slot.Child
	asked chan os.Signal
}

// play does what a role is known for, once for each of its words, and then what a good
// agent does.
func play(path, state string) int {
	p := player{child: slot.Launched(), asked: make(chan os.Signal, 8)}
	signal.Notify(p.asked, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	if p.child == nil || p.child.State != state {
		return 98
	}
	p.agent = slot.Open(state).Agent(p.child.Slot)
	note(filepath.Join(filepath.Dir(state), "starts"), roleOf(path))
	for _, word := range strings.Fields(roleOf(path)) {
		if code := p.do(word); code >= 0 {
			return code
		}
	}
	go func() {
		for {
			p.child.Beat()
			<-time.After(timing().Beat / 2)
		}
	}()
	return p.serve()
}

// tell prints a line from another thread than the one whose writes may fail.
func tell(w io.Writer, words ...any) {
	told := make(chan bool)
	go func() {
		fmt.Fprintln(w, words...)
		close(told)
	}()
	<-told
}

// note adds a line to a file.
func note(path, line string) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err == nil {
		fmt.Fprintln(f, line)
		f.Close()
	}
}

// do does what a word of a role says, and returns an exit code, or -1 to go on.
func (p *player) do(word string) int {
	switch word {
	case "exits":
		return 0
	case "crashes":
		tell(os.Stderr, "boom")
		return 7
	case "hangs":
		tell(os.Stderr, "waiting for nothing")
		select {}
	case "waits": // too short a time to hang
		tell(os.Stdout, "waits")
		select {}
	case "closes": // its heartbeat pipe
		p.child.Beat()
		syscall.Close(3)
		select {}
	case "ignores":
		signal.Ignore(os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	case "shouts":
		fmt.Fprint(os.Stderr, strings.Repeat("another line that nobody reads\n", 100_000)+"the last words\n")
	case "forks":
		p.fork(&syscall.SysProcAttr{})
	case "leaves": // its group
		p.fork(&syscall.SysProcAttr{Setsid: true})
	case "orphans": // a process whose parent has gone, and which goes then
		exec.Command("sh", "-c", "exec >&- 2>&-; (read line) < /proc/self/environ &").Run()
	case "canary", "no_link":
		if phase, _ := p.agent.Phase(); phase.InTrial() {
			tell(os.Stderr, "boom:", word)
			p.try(func() error { return p.agent.Fail(slot.Reason(word)) })
			return 1
		}
	case "tells": // what it was given
		tell(os.Stdout, "environment", os.Getenv("NOTIFY_SOCKET"), os.Getenv("WATCHDOG_PID")+".", blocking(2))
	}
	return -1
}

// blocking tells whether an open file is.
func blocking(fd uintptr) bool {
	flags, _, _ := syscall.Syscall(syscall.SYS_FCNTL, fd, syscall.F_GETFL, 0)
	return flags&syscall.O_NONBLOCK == 0
}

// fork starts a process that holds all that this one has open, for an hour.
func (p *player) fork(attr *syscall.SysProcAttr) {
	fork := exec.Command("sleep", "3600")
	fork.Stdout, fork.Stderr, fork.SysProcAttr = os.Stdout, os.Stderr, attr
	fork.ExtraFiles = []*os.File{os.NewFile(3, "heartbeats")}
	if err := fork.Start(); err != nil {
		tell(os.Stdout, "fork", err)
		return
	}
	tell(os.Stdout, "forked", fork.Process.Pid)
}

// serve is what a good agent does: it has itself confirmed, decides and tells what there
// is, installs what it is to, and runs until it is asked to stop.
func (p *player) serve() int {
	phase, _ := p.agent.Phase()
	switch {
	case phase.InTrial() && phase.Slot == p.child.Slot:
		p.try(p.agent.Confirm)
	case phase.Provisional && os.Getenv(linkEnv) != "":
		p.try(p.agent.Stand)
	case phase.Provisional:
		p.try(p.agent.Withdraw)
	}
	if last, _, ok := p.agent.Untold(); ok {
		tell(os.Stdout, "told", last.Version, last.Outcome, last.Reason, strconv.Quote(last.Tail))
		p.try(p.agent.Told)
	}
	if p.installs(os.Getenv(wantEnv)) {
		return 0
	}
	tell(os.Stdout, "serves", p.child.Slot, os.Getpid())
	<-p.asked
	return 0
}

// try tries three times, as a disk may have room again.
func (p *player) try(do func() error) bool {
	for range 3 {
		err := do()
		if err == nil {
			return true
		}
		tell(os.Stderr, err)
	}
	return false
}

// installs installs the release in a folder, and tells whether another program is to run now.
func (p *player) installs(from string) bool {
	if from == "" || p.child.Slot == slot.A {
		return false
	}
	r, err := releaseIn(from)
	phase, _ := p.agent.Phase()
	if err != nil || phase.IsRefused(r.Digest) || phase.InTrial() {
		tell(os.Stdout, "declines", phase.Phase, err)
		return false
	}
	open := func(f slot.File) (io.ReadCloser, error) { return os.Open(filepath.Join(from, f.Path)) }
	switched := phase.Phase == slot.Undecided || p.try(func() error { return p.agent.Fetch(r.Version, r.Digest, nil) }) &&
		p.try(func() error { return p.agent.Stage(context.Background(), r, open) })
	return switched && p.try(func() error { return p.agent.Switch(time.Minute) })
}

// releaseIn is the release whose files lie in a folder; its name is the version.
func releaseIn(dir string) (slot.Release, error) {
	r := slot.Release{Version: filepath.Base(dir), Digest: digestOf([]byte(dir))}
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		info, err2 := e.Info()
		if err := errors.Join(err, err2); err != nil {
			return err
		}
		f := slot.File{Path: path[len(dir)+1:], Digest: digestOf(b), Bytes: int64(len(b)), Mode: info.Mode()}
		r.Files = append(r.Files, f)
		return nil
	})
	return r, err
}

func digestOf(b []byte) string {
	sum := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(sum[:])
}
