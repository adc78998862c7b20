package power

import (
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
	Reboot  bool // and reboot it for one that takes it, where that is asked for
}

// Change is what is asked of a board.
type Change struct {
	Mode        string `json:"set"`
	AtReboot    bool   `json:"at_reboot,omitempty"`    // leave it to the board's next start
	AllowReboot bool   `json:"allow_reboot,omitempty"` // reboot the board now if the mode takes it
}

// Setter changes the power mode of a board with the rights of this process.
type Setter struct {
	board    *Board
	reboot   bool          // it may
	patience time.Duration // with nvpmodel that sets a mode
}

// toolPatience is how long nvpmodel may take to set a mode.
const toolPatience = 20 * time.Second

// Setter gives the means to change the mode, with a permission only: without
// one the error is ErrForbidden.
func (b *Board) Setter(p Permission) (*Setter, error) {
	if !p.SetMode {
		return nil, ErrForbidden
	}
	return &Setter{b, p.Reboot, toolPatience}, nil
}

// Set puts a mode of Modes in force, makes sure that it is, and returns the one that is
// now, also beside an error. That is another one without an error where the change was
// left to the board's next start, and where AllowReboot was asked for and the board is
// about to restart. Only where nvpmodel has said that the mode is in force it is not asked
// to set it: its status file may name one that waits for the board's next start.
//
// What its error stands for is said by errors.Is and Reason: ErrReboot where the mode
// takes a reboot that was not asked for, ErrUnknown, ErrUnsupported, ErrBusy with more
// than one change in ten seconds or six tries a minute, ErrForbidden for a reboot that
// was not allowed. What fails half way leaves some processors limited and others not;
// the error says so. Where ctx ends, or after 20 s, nvpmodel is killed, and the error
// wraps that of the context.
func (s *Setter) Set(ctx context.Context, c Change) (now string, err error) {
	m := s.board.Modes()
	id, ok := m.ID(c.Mode)
	switch {
	case !ok:
		return m.Current, fmt.Errorf("power mode %.80q: %w; there are %s", c.Mode, ErrUnknown, strings.Join(m.Names, ", "))
	case c.AllowReboot && !s.reboot:
		return m.Current, refuse(ErrForbidden, "power mode %s: rebooting the board was not allowed on this device", c.Mode)
	case c.AtReboot && m.ids == nil:
		return m.Current, refuse(ErrUnsupported, "power mode %s: a limit of the clock ends with a restart: "+
			"power.keep = true sets it again", c.Mode)
	case !c.AtReboot && m.Current == c.Mode && (m.ids == nil || m.sure && m.kept == c.Mode):
		return m.Current, nil
	}
	if err := s.board.changes.begin(time.Now()); err != nil {
		return m.Current, fmt.Errorf("power mode %s: %w", c.Mode, err)
	}
	now, err = s.set(ctx, m, c, id)
	if now != m.Current || c.AtReboot && err == nil {
		s.board.changes.done(time.Now())
	}
	if err != nil {
		return now, fmt.Errorf("power mode %s: %w", c.Mode, withRights(err))
	}
	return now, nil
}

// set makes a change that is sound.
func (s *Setter) set(ctx context.Context, m Modes, c Change, id int) (now string, err error) {
	switch {
	case m.ids == nil:
		err = s.limit(steps[id])
	case c.AtReboot:
		err = s.board.leave(id)
		s.board.Await(c.Mode, m.Current)
		return m.Current, err
	default:
		var restarts bool
		restarts, err = s.nvpmodel(ctx, c, id)
		if restarts {
			s.board.Await(c.Mode, m.Current)
			return m.Current, err
		}
		switch {
		case err == nil:
			s.board.Anew(ctx)
		case !errors.Is(err, context.DeadlineExceeded): // it would hang again
			s.board.Ask(ctx)
		}
	}
	now = s.board.Modes().Current
	if err == nil && now != c.Mode {
		err = fmt.Errorf("it was set without an error, but %s is in force", known(now))
	}
	return now, err
}

// withRights adds what to do where this process may lack the rights.
func withRights(err error) error {
	if os.Geteuid() == 0 || Reason(err) != internal && !errors.Is(err, os.ErrPermission) {
		return err
	}
	return fmt.Errorf("%w; this takes root: have `limber power-helper` run, or the agent as root", err)
}

// nvpmodel asks NVIDIA's tool. Where it takes a reboot it asks whether to do that now,
// and forgets the mode unless the answer is yes; then it reboots the board itself.
func (s *Setter) nvpmodel(ctx context.Context, c Change, id int) (restarts bool, err error) {
	limited, cancel := context.WithTimeout(ctx, s.patience)
	defer cancel()
	answer := "no\n"
	if c.AllowReboot {
		answer = "YES\n"
	}
	out, err := s.board.run(limited, answer, "-m", strconv.Itoa(id))
	asked := takesReboot(out)
	switch {
	case asked && c.AllowReboot && interrupted(limited, err):
		return true, nil // the board goes down, and takes the tool along, or this process
	case err != nil && limited.Err() != nil:
		return false, fmt.Errorf("nvpmodel did not end in time and was killed: %w", limited.Err())
	case asked && !c.AllowReboot:
		return false, fmt.Errorf("%w: --at-reboot leaves it to the board's next start, --allow-reboot reboots it now", ErrReboot)
	case errors.Is(err, ErrUnsupported):
		return false, err
	case err != nil:
		return false, fmt.Errorf("nvpmodel: %w: %s", err, lastLine(out))
	}
	return asked, nil
}

// interrupted tells whether a tool was ended from outside, and not for taking too long.
func interrupted(ctx context.Context, err error) bool {
	exit, ended := errors.AsType[*exec.ExitError](err)
	signalled := ended && exit.ProcessState.ExitCode() < 0
	return signalled && !errors.Is(ctx.Err(), context.DeadlineExceeded)
}

// takesReboot tells whether nvpmodel said so, or asked for one.
func takesReboot(out string) bool {
	out = strings.ToLower(out)
	return strings.Contains(out, "reboot required") || strings.Contains(out, "want to reboot")
}

// limit sets the highest clock of every processor, in percent of the full one.
func (s *Setter) limit(step int) error {
	for _, dir := range s.board.glob(cpufreq) {
		full, ok := number(filepath.Join(dir, "cpuinfo_max_freq"))
		if !ok {
			continue
		}
		khz := strconv.Itoa(int(math.Round(full * float64(step) / 100)))
		path := filepath.Join(dir, "scaling_max_freq")
		if err := os.WriteFile(path, []byte(khz), 0o600); err != nil {
			return fmt.Errorf("%w; processors before this one have it", err)
		}
	}
	return nil
}
