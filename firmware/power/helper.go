package power

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// HelperConfig is what a helper goes by.
type HelperConfig struct {
	Allow []string // power modes that it may set
	Peers []uint32 // users that it serves
	// Reboot lets it reboot the board for a mode that takes it, where that is asked for
	Reboot bool
}

// Helper sets power modes for a process that has not the rights itself:
//
//	agent ── {"set":"MODE_15W"} ──▶ who is it? ▶ a line? ▶ allowed? ▶ Setter ▶ nvpmodel
//	      ◀─ {"ok":true,"mode":"MODE_15W"} ─┘
//
// It serves one connection at a time and one line on each. What a peer says reaches a
// program only by being one of the names in Allow.
type Helper struct {
	cfg      HelperConfig
	setter   *Setter
	log      *slog.Logger
	patience time.Duration // with a peer that sends or takes a line
}

// linePatience is how long a peer may take to send its line, and then to take the answer.
const linePatience = 5 * time.Second

// NewHelper assembles a helper for a board.
func NewHelper(b *Board, cfg HelperConfig, log *slog.Logger) *Helper {
	return &Helper{cfg, &Setter{b, cfg.Reboot, toolPatience}, log, linePatience}
}

// Run serves until ctx ends, and closes the listener. Being asked to stop is no error.
func (h *Helper) Run(ctx context.Context, l *net.UnixListener) error {
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	for {
		conn, err := l.AcceptUnix()
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("power helper: %w", err)
		case err != nil: // such as too many open files: that may pass
			h.log.Warn("connection not taken", "err", err)
			pause(ctx, time.Second)
			continue
		}
		h.serve(ctx, conn)
	}
}

// pause waits, until ctx ends at most.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// serve answers one peer.
func (h *Helper) serve(ctx context.Context, conn *net.UnixConn) {
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(h.patience))
	change, now, err := h.obey(ctx, conn)
	answer := reply{OK: err == nil, Mode: now}
	if err != nil {
		answer.Reason, answer.Detail = Reason(err), err.Error()
		h.log.Warn("power mode not set", "mode", change.Mode, "err", err)
	} else {
		h.log.Info("power mode set", "mode", change.Mode, "in_force", now, "at_reboot", change.AtReboot)
	}
	line, err := json.Marshal(answer)
	if err != nil {
		panic("power: a reply cannot be encoded: " + err.Error())
	}
	conn.SetDeadline(time.Now().Add(h.patience))
	if _, err := conn.Write(append(line, '\n')); err != nil {
		h.log.Warn("answer not taken", "err", err)
	}
}

// obey does what one peer asks for.
func (h *Helper) obey(ctx context.Context, conn *net.UnixConn) (c Change, now string, err error) {
	uid, err := peerOf(conn)
	if err != nil {
		return c, "", err
	}
	if !slices.Contains(h.cfg.Peers, uid) {
		return c, "", refuse(ErrForbidden, "user %d may not set power modes: only root and the user of the agent may", uid)
	}
	line, err := readLine(conn)
	if err == nil {
		c, err = parseLine(line)
	}
	if err != nil {
		return c, "", refuse(errInvalid, "%w", err)
	}
	if !slices.Contains(h.cfg.Allow, c.Mode) {
		return c, "", refuse(ErrForbidden, "power mode %s: the helper on this device may only set %s, see its --allow",
			c.Mode, strings.Join(h.cfg.Allow, ", "))
	}
	conn.SetDeadline(time.Time{})
	waited, stop := whileThere(ctx, conn)
	defer stop()
	now, err = h.setter.Set(waited, c)
	return c, now, err
}

// lookPace is how often a helper looks whether its peer still waits.
const lookPace = 100 * time.Millisecond

// whileThere is a context that ends when the peer hangs up, as an agent does whose command
// has expired: nothing is done later that nobody waits for. A peer that only says no more
// still waits. After stop nothing uses the connection any more.
func whileThere(ctx context.Context, conn *net.UnixConn) (waited context.Context, stop func()) {
	waited, cancel := context.WithCancel(ctx)
	var look sync.WaitGroup
	look.Go(func() {
		defer cancel()
		for waited.Err() == nil {
			if _, err := conn.Write(nil); errors.Is(err, syscall.EPIPE) {
				return
			}
			pause(waited, lookPace)
		}
	})
	return waited, func() {
		cancel()
		look.Wait()
	}
}

// readLine reads a line, or what there is until the other side has said all: half an
// object is none.
func readLine(r io.Reader) ([]byte, error) {
	line, err := bufio.NewReaderSize(io.LimitReader(r, maxLine), maxLine).ReadSlice('\n')
	switch {
	case err == nil:
		return line, nil
	case len(line) == maxLine:
		return nil, fmt.Errorf("the line has more than %d bytes", maxLine)
	case len(line) > 0 && errors.Is(err, io.EOF):
		return line, nil
	}
	return nil, fmt.Errorf("the line has no end after %d bytes: %w", len(line), err)
}

// peerOf is the user at the other end of a connection, as the kernel knows it.
func peerOf(conn *net.UnixConn) (uid uint32, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *syscall.Ucred
	failed := raw.Control(func(fd uintptr) {
		cred, err = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	})
	if err = errors.Join(failed, err); err != nil {
		return 0, fmt.Errorf("who asks is not known: %w", err)
	}
	return cred.Uid, nil
}
