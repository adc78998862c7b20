package boot

import (
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/limber-edge/limber/firmware/slot"
)

// child is a process in a group of its own, which ends with this one.
type child struct {
	pid   int
	gone  atomic.Bool // its number may be another's
	beats *os.File    // the pipe
	tail  tail
	ended chan ending
}

// startProcess starts a program with stdin, stdout and, through a pipe, stderr of this one.
func (l *launcher) startProcess(c choice) (process, error) {
	var beats, words [2]int // read, write
	if err := syscall.Pipe2(beats[:], syscall.O_CLOEXEC); err != nil {
		return nil, err
	}
	defer syscall.Close(beats[1])
	if err := syscall.Pipe2(words[:], syscall.O_CLOEXEC); err != nil {
		syscall.Close(beats[0])
		return nil, err
	}
	defer syscall.Close(words[1])
	argv := append([]string{c.path}, l.cfg.Argv[1:]...)
	pid, _, err := syscall.StartProcess(c.path, argv, &syscall.ProcAttr{
		Env:   environ(os.Environ(), c.slot, l.cfg.State),
		Files: []uintptr{0, 1, uintptr(words[1]), uintptr(beats[1])},
		Sys:   &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL},
	})
	if err != nil {
		syscall.Close(beats[0])
		syscall.Close(words[0])
		return nil, fmt.Errorf("start %s: %w", c.path, err)
	}
	syscall.SetNonblock(beats[0], true)
	syscall.SetNonblock(words[0], true) // so that its reader can be ended
	p := &child{pid: pid, beats: os.NewFile(uintptr(beats[0]), "heartbeats"), ended: make(chan ending, 1)}
	go p.await(os.NewFile(uintptr(words[0]), "stderr"), l)
	return p, nil
}

// environ is the environment of a program that runs from a slot. systemd's WATCHDOG_PID
// names this process, while the program is the one that has something to say; without it,
// what it says is taken.
func environ(ours []string, n slot.Name, state string) (env []string) {
	for _, kv := range ours {
		switch name, _, _ := strings.Cut(kv, "="); name {
		case "WATCHDOG_PID", slot.EnvSlot, slot.EnvFD, slot.EnvState:
		default:
			env = append(env, kv)
		}
	}
	return append(env, slot.EnvSlot+"="+string(n), slot.EnvFD+"=3", slot.EnvState+"="+state)
}

// drain is how long the last words of a program are waited for, once it is gone: somebody
// that it started and that left its group may hold the pipe for ever.
const drain = time.Second

// await reports the end of the process, when nothing of its group is left.
func (p *child) await(words *os.File, l *launcher) {
	read := make(chan struct{})
	go func() {
		defer close(read)
		p.tail.follow(words, l.stderr)
	}()
	status := reap(p.pid)
	p.Kill() // what it started and left behind
	p.gone.Store(true)
	select {
	case <-read:
	case <-time.After(drain):
	}
	words.Close()
	p.beats.Close()
	e := told(status)
	e.tail = p.tail.String()
	p.ended <- e
}

// reap waits for a process, and takes leave of all others whose parent has become this one,
// as PID 1 of a container must.
func reap(pid int) (status syscall.WaitStatus) {
	for {
		switch got, err := syscall.Wait4(-1, &status, 0, nil); {
		case err == syscall.EINTR:
		case err != nil || got == pid:
			return status
		}
	}
}

// told puts the end of a process in words.
func told(s syscall.WaitStatus) ending {
	if s.Signaled() {
		return ending{code: 128 + int(s.Signal()), how: s.Signal().String()}
	}
	return ending{code: s.ExitStatus(), how: fmt.Sprintf("exit code %d", s.ExitStatus())}
}

func (p *child) Signal(s os.Signal) {
	if n, ok := s.(syscall.Signal); ok && !p.gone.Load() {
		syscall.Kill(p.pid, n)
	}
}

func (p *child) Kill() {
	if !p.gone.Load() {
		syscall.Kill(-p.pid, syscall.SIGKILL)
	}
}

func (p *child) Beats() bool {
	pipe, err := p.beats.SyscallConn()
	if err != nil {
		return false
	}
	n := 0
	pipe.Read(func(fd uintptr) bool { // it is closed when the process has ended
		var b [512]byte
		n, _ = syscall.Read(int(fd), b[:])
		return true
	})
	return n > 0
}

func (p *child) Ended() <-chan ending { return p.ended }
