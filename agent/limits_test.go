package agent_test

import (
	"fmt"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/limber-edge/limber/agent/wire"
)

// allow sets how many files the device may have open.
func (p *process) allow(files uint64) (before uint64) {
	p.tb.Helper()
	var old unix.Rlimit
	err := unix.Prlimit(p.cmd.Process.Pid, unix.RLIMIT_NOFILE, nil, &old)
	if err == nil {
		err = unix.Prlimit(p.cmd.Process.Pid, unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: files, Max: old.Max}, nil)
	}
	if err != nil {
		p.tb.Fatalf("limit of open files: %v", err)
	}
	return old.Cur
}

func TestR7_ADeviceThatMayOpenNoFileServesOnAndReconnectsWhenItMay(t *testing.T) {
	t.Parallel()
	s := newSoak(t)
	s.run(20, 0)
	before := s.device.holds()
	most := s.device.allow(3)
	s.run(200, 0) // over the connection that it has
	number := s.client.connection()
	s.cable.reset()
	lost := s.client.until(patience, func() bool { return s.client.state.State == wire.Lost })
	idle(t.Context(), time.Second) // its pauses are of a tenth, at most
	for n := range 50 {
		s.client.job(t.Context(), fmt.Sprintf("behind-%d", n), 0)
	}
	if s.client.connection() != number || !lost {
		t.Errorf("got connection %d, lost %v; want none after %d", s.client.connection(), lost, number)
	}
	s.device.allow(most)
	s.online(number + 1)
	s.answered(0)
	if after := s.device.holds(); after.Files > before.Files {
		t.Errorf("got %+v, want no more files than before: %+v", after, before)
	}
	s.device.stop()
}
