package power

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Permission is what the owner of a device allows. Its zero value allows
// nothing.
type Permission struct {
	SetMode bool // change the power mode of the whole board
}

// Errors that a caller branches on.
var (
	ErrForbidden = errors.New("changing the power mode was not allowed on this device")
	ErrReboot    = errors.New("it takes a reboot, which is left to the operator")
	ErrUnknown   = errors.New("this board has no such power mode")
)

// Setter changes the power mode of a board.
type Setter struct{ board *Board }

// Setter gives the means to change the mode, with a permission only: without
// one the error is ErrForbidden.
func (b *Board) Setter(p Permission) (*Setter, error) {
	if !p.SetMode {
		return nil, ErrForbidden
	}
	return &Setter{b}, nil
}

// Set puts a mode of Modes in force and makes sure that it is. It never
// reboots: the error wraps ErrReboot where the mode takes one, and ErrUnknown
// where there is no such mode. What fails half way leaves some processors
// limited and others not; the error says so. Where ctx ends nvpmodel is killed,
// and the error wraps ctx's.
func (s *Setter) Set(ctx context.Context, mode string) error {
	m := s.board.Modes()
	if id, ok := m.ids[mode]; ok {
		return s.nvpmodel(ctx, mode, id)
	}
	for _, step := range steps {
		if mode == clockMode(step) && m.ids == nil && len(m.Names) > 0 {
			return s.limit(mode, step)
		}
	}
	return fmt.Errorf("power mode %s: %w; there are %s", mode, ErrUnknown, strings.Join(m.Names, ", "))
}

// pipePatience is how long the output of an nvpmodel that has ended may stay open:
// what it started may hold it.
const pipePatience = 100 * time.Millisecond

// nvpmodel asks NVIDIA's tool. Its question whether to reboot now is answered
// with no; some modes are not taken then.
func (s *Setter) nvpmodel(ctx context.Context, mode string, id int) error {
	cmd := exec.CommandContext(ctx, s.board.path("usr/sbin/nvpmodel"), "-m", strconv.Itoa(id))
	cmd.Stdin, cmd.WaitDelay = strings.NewReader("no\n"), pipePatience
	out, err := cmd.CombinedOutput()
	if bytes.Contains(bytes.ToLower(out), []byte("reboot")) {
		return fmt.Errorf("power mode %s: %w: run nvpmodel -m %d on the device and confirm", mode, ErrReboot, id)
	}
	switch {
	case errors.Is(err, exec.ErrWaitDelay): // it ended well
	case err != nil && ctx.Err() != nil:
		return fmt.Errorf("power mode %s: nvpmodel did not end in time and was killed: %w", mode, ctx.Err())
	case err != nil:
		return fmt.Errorf("power mode %s: nvpmodel: %w: %s", mode, err, lastLine(out))
	}
	if now := s.board.Modes().Current; now != mode {
		return fmt.Errorf("power mode %s: nvpmodel is content, but %s is in force", mode, now)
	}
	return nil
}

// limit sets the highest clock of every processor.
func (s *Setter) limit(mode string, step int) error {
	for _, dir := range s.board.glob(cpufreq) {
		full, ok := number(filepath.Join(dir, "cpuinfo_max_freq"))
		if !ok {
			continue
		}
		khz := strconv.Itoa(int(math.Round(full * float64(step) / 100)))
		path := filepath.Join(dir, "scaling_max_freq")
		if err := os.WriteFile(path, []byte(khz), 0o600); err != nil {
			return fmt.Errorf("power mode %s: %w; processors before this one have it", mode, err)
		}
	}
	if now := s.board.Modes().Current; now != mode {
		return fmt.Errorf("power mode %s: the kernel took it, but holds the clock elsewhere", mode)
	}
	return nil
}

// lastLine is the end of a program's output, which says what went wrong.
func lastLine(out []byte) string {
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	return strings.TrimSpace(lines[len(lines)-1])
}
