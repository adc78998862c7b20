// Package systemd tells the service manager how this process is, as sd_notify(3) has it:
// datagrams of NAME=VALUE to the socket that NOTIFY_SOCKET names.
//
//	Insist(Ready) ──▶ Watch: WATCHDOG=1, as long as the work goes on ──▶ Tell(Stopping)
//
// The rule that makes the watchdog worth having: it is fed because work was done, or
// because there was none, and never because time went by. A process whose work stands
// still goes silent, and is started anew.
package systemd

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"strconv"
	"time"
)

// What the manager is told.
const (
	Ready    = "READY=1"
	Stopping = "STOPPING=1"
	alive    = "WATCHDOG=1"
)

// Manager is the one that waits for this process. The zero value is none, which can be
// told everything.
type Manager struct {
	socket string        // its path, or @ and an abstract name
	within time.Duration // it wants to hear within; 0: it does not watch
}

// FromEnvironment finds the manager in the environment of a process and its parent, a
// launcher that hands it on. Another process's watchdog is not fed; the error says that
// the environment is not what systemd makes of it.
func FromEnvironment(getenv func(string) string, pid, parent int) (Manager, error) {
	m := Manager{socket: getenv("NOTIFY_SOCKET")}
	if m.socket == "" {
		return m, nil
	}
	if m.socket[0] != '/' && m.socket[0] != '@' {
		return Manager{}, fmt.Errorf("NOTIFY_SOCKET=%s: neither a path nor an abstract name", m.socket)
	}
	usec := getenv("WATCHDOG_USEC")
	whose, err := strconv.Atoi(cmp.Or(getenv("WATCHDOG_PID"), strconv.Itoa(pid)))
	if usec == "" || err == nil && whose != pid && whose != parent {
		return m, nil
	}
	n, err2 := strconv.ParseInt(usec, 10, 64)
	if err != nil || err2 != nil || n <= 0 || n > int64(24*time.Hour/time.Microsecond) {
		return Manager{}, fmt.Errorf("WATCHDOG_USEC=%s, WATCHDOG_PID=%s: want microseconds of at most a day and a process",
			usec, getenv("WATCHDOG_PID"))
	}
	m.within = time.Duration(n) * time.Microsecond
	return m, nil
}

// patience is how long the manager may take to take a datagram.
const patience = time.Second

// Tell sends the manager a state.
func (m Manager) Tell(state string) error {
	if m.socket == "" {
		return nil
	}
	if err := m.send(state); err != nil {
		return fmt.Errorf("tell the service manager %s: %w", state, err)
	}
	return nil
}

// Insist tells the manager a state until it is taken or ctx ends. missed is called with why it
// was not at first.
func (m Manager) Insist(ctx context.Context, state string, missed func(error)) {
	for first := true; ctx.Err() == nil; first = false {
		err := m.Tell(state)
		if err == nil {
			return
		}
		if first {
			missed(err)
		}
		select {
		case <-time.After(patience):
		case <-ctx.Done():
		}
	}
}

func (m Manager) send(state string) error {
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: m.socket, Net: "unixgram"})
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	_, err = conn.Write([]byte(state))
	return err
}

// looks is how often the work is looked at within the time that the manager waits.
const looks = 4

// Watch feeds the watchdog until ctx ends. moved tells whether the work went on since it
// was asked last, or there was none; it is called by one goroutine. What could not be
// sent is missed, and that is what the watchdog is for.
func (m Manager) Watch(ctx context.Context, moved func() bool) {
	if m.within == 0 {
		return
	}
	look := time.NewTicker(max(time.Millisecond, m.within/looks))
	defer look.Stop()
	for {
		select {
		case <-look.C:
			if moved() {
				_ = m.Tell(alive)
			}
		case <-ctx.Done():
			return
		}
	}
}
