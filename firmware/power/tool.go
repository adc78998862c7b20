package power

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// tool is NVIDIA's program for power modes.
const tool = "usr/sbin/nvpmodel"

// pipePatience is how long the output of a tool that has ended may stay open: what it
// started may hold it.
const pipePatience = 100 * time.Millisecond

// run runs the tool with nothing of this process's environment, answers what it asks,
// and is what it printed, as far as that is kept. When ctx ends the tool is killed with
// what it started.
func (b *Board) run(ctx context.Context, answer string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, b.path(tool), args...)
	cmd.Env = []string{}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.Stdin, cmd.WaitDelay = strings.NewReader(answer), pipePatience
	var out head
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	if errors.Is(err, exec.ErrWaitDelay) { // it ended well
		err = nil
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = refuse(ErrUnsupported, "%w: install NVIDIA's package nvidia-l4t-nvpmodel", err)
	}
	return string(out), err
}

// head is the beginning of an output: a tool says what matters in a few lines.
type head []byte

// maxHead is how much of it is kept, in bytes.
const maxHead = 64 << 10

// Write implements io.Writer.
func (h *head) Write(b []byte) (int, error) {
	*h = append(*h, b[:min(len(b), maxHead-len(*h))]...)
	return len(b), nil
}

// lastLine is the end of a program's output, which says what went wrong, without what is
// beyond lineMost of it: it goes into an answer that is bounded.
func lastLine(out string) string {
	lines := strings.Split(strings.TrimSpace(out), "\n")
	return fmt.Sprintf("%.*s", lineMost, strings.TrimSpace(lines[len(lines)-1]))
}

// lineMost is how much of a line of a tool is told, in characters: each may take six bytes
// of an answer.
const lineMost = 400
