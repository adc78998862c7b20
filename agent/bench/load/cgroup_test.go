package load

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestAGroupThatCannotBeMadeSaysWhatToDo(t *testing.T) {
	for _, tt := range []struct {
		name string
		file string // of the group around it, of which only version 2 has a list of controllers
		says string
	}{
		{"version 2, the controller is not handed down", "cgroup.controllers",
			"echo +cpu > /sys/fs/cgroup/cgroup.subtree_control"},
		{"version 1, a kernel without quotas", "cpu.shares", "CFS_BANDWIDTH"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			parent := t.TempDir()
			if err := os.WriteFile(filepath.Join(parent, tt.file), []byte("cpu"), 0o600); err != nil {
				t.Fatal(err)
			}
			var c cgroup
			if err := c.createIn(parent, 50); err == nil || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("got %v, want an error that says %q", err, tt.says)
			}
			left, err := os.ReadDir(parent)
			if err != nil || len(left) != 1 || c.dir != "" {
				t.Errorf("got %v, %v; want no group left behind", left, err)
			}
		})
	}
}

// mustGroups are the control groups of a process.
func mustGroups(t *testing.T, pid int) string {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestTheGroupHoldsTheMembersAndNoHogs(t *testing.T) {
	outside := mustGroups(t, os.Getpid())
	var l Load
	quiet, limited := Stage{}, Stage{Quota: 90, Hogs: map[Kind]int{CPU: 1}}
	more := Stage{Quota: 80, Hogs: map[Kind]int{CPU: 1, Low: 1}}
	if err := l.Prepare([]Stage{quiet, limited, more}); err != nil {
		t.Skipf("no quota can be set here: %v", err)
	}
	dir := l.group.dir
	for i, s := range []Stage{quiet, limited, more, quiet, more} {
		if err := l.Set(s); err != nil {
			t.Fatal(err)
		}
		if in := strings.Contains(mustGroups(t, os.Getpid()), filepath.Base(dir)); in != (s.Quota > 0) {
			t.Errorf("stage %d: this process is in the group: %v, want %v", i, in, s.Quota > 0)
		}
		for _, h := range l.hogs.running {
			if got := mustGroups(t, h.cmd.Process.Pid); got != outside {
				t.Errorf("stage %d: a hog is in\n%s\nwant\n%s", i, got, outside)
			}
		}
	}
	if err := l.Clear(); err != nil {
		t.Error(err)
	}
	if exists(dir) || mustGroups(t, os.Getpid()) != outside {
		t.Errorf("the group is left, or this process is in it:\n%s", mustGroups(t, os.Getpid()))
	}
}

func TestOnlyAQuotaNeedsAGroup(t *testing.T) {
	stages, err := Parse(DefaultScript)
	if err != nil || slices.ContainsFunc(stages, func(s Stage) bool { return s.Quota > 0 }) {
		t.Fatalf("got %+v, %v; want no quota", stages, err)
	}
	var l Load
	if err := l.Prepare(stages); err != nil || l.group.dir != "" {
		t.Errorf("got %v and the group %q, want none", err, l.group.dir)
	}
}
