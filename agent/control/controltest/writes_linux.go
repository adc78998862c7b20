package controltest

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// StopAtWrites runs one of the caller's tests in a process of its own, with more in its
// environment. strace stops it after each of some system calls, which are separated by
// commas, and it goes on when look returns.
func StopAtWrites(tb testing.TB, test, calls string, env []string, look func()) {
	tb.Helper()
	c := exec.CommandContext(tb.Context(), "strace", "-f", "-qq", "-o", os.DevNull, "-e", "trace="+calls,
		"-e", "inject="+calls+":signal=SIGSTOP", os.Args[0], "-test.run", "^"+test+"$")
	c.Env = append(append(os.Environ(), "GORACE=atexit_sleep_ms=0"), env...)
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	if err := c.Start(); err != nil {
		tb.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- c.Wait() }()
	for still := 0; ; still++ {
		select {
		case err := <-ended:
			if !bytes.Contains(out.Bytes(), []byte("PASS")) { // strace itself may stumble over the last stop
				tb.Fatalf("the run ended with %v: %s", err, out.Bytes())
			}
			return
		case <-time.After(time.Millisecond):
		}
		child := childOf(c.Process.Pid)
		if child == 0 || !halted(child) || stateOf(fmt.Sprintf("/proc/%d/stat", c.Process.Pid)) != 'S' {
			still = 0
		}
		if still < 3 { // strace, which waits, halts it at each of its calls, for a moment
			continue
		}
		look()
		still = 0
		syscall.Kill(child, syscall.SIGCONT)
	}
}

// childOf is the process that another one started; 0 for none yet.
func childOf(pid int) (child int) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		return 0
	}
	fmt.Sscan(string(b), &child)
	return child
}

// halted tells whether all threads of a process are stopped, by who traces it. Before strace
// does that, its child stops by itself and waits for it: woken then, it would run untraced.
func halted(pid int) bool {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	for _, path := range threads {
		if stateOf(path) != 't' {
			return false
		}
	}
	return err == nil && len(threads) > 0
}

// stateOf is that of a thread, from its stat in /proc; 0 where it is gone.
func stateOf(path string) byte {
	b, err := os.ReadFile(path)
	_, rest, ok := strings.Cut(string(b), ") ")
	if err != nil || !ok {
		return 0
	}
	return rest[0]
}
