package load

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// cgroup limits this process's share of the CPU through a control group of its
// own, of whichever version the machine has. A process that is started from
// inside is inside too.
type cgroup struct {
	parent string // the group that this process is in else
	dir    string // of its own; empty: there is none
	inside bool
}

// cpuPeriod is how often the share is counted anew, in microseconds; the
// kernel's default.
const cpuPeriod = 100_000

// create makes the group and tries it with a limit of percent of one CPU. Its
// error says what to do where the machine has no such limit to give.
func (c *cgroup) create(percent int) error {
	parent, err := cpuGroup()
	if err == nil {
		err = c.createIn(parent, percent)
	}
	if err != nil {
		return fmt.Errorf("limit the CPU share (this takes root): %w", err)
	}
	return nil
}

func (c *cgroup) createIn(parent string, percent int) error {
	dir := filepath.Join(parent, fmt.Sprintf("limber-bench-%d", os.Getpid()))
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	c.parent, c.dir = parent, dir
	err := c.enter(percent)
	if err = errors.Join(err, c.leave()); err != nil {
		return errors.Join(err, c.remove())
	}
	return nil
}

// enter moves this process into the group, with percent of one CPU.
func (c *cgroup) enter(percent int) error {
	if err := c.limit(cpuPeriod * percent / 100); err != nil {
		return err
	}
	if err := join(c.dir); err != nil {
		return fmt.Errorf("enter %s: %w", c.dir, err)
	}
	c.inside = true
	return nil
}

// limit allows so many microseconds of CPU a period. The files are not made
// where they are missing: the kernel refuses that without saying why.
func (c *cgroup) limit(quota int) error {
	if name := filepath.Join(c.dir, "cpu.max"); exists(name) {
		return os.WriteFile(name, fmt.Appendf(nil, "%d %d", quota, cpuPeriod), 0)
	}
	if name := filepath.Join(c.dir, "cpu.cfs_quota_us"); exists(name) {
		return os.WriteFile(name, []byte(strconv.Itoa(quota)), 0)
	}
	if exists(filepath.Join(c.parent, "cgroup.controllers")) {
		return fmt.Errorf("groups within %[1]s have no CPU controller; start limber from a shell that was moved "+
			"to the top: "+
			"echo +cpu > %[2]s/cgroup.subtree_control; echo $$ > %[2]s/cgroup.procs", c.parent, groupsRoot)
	}
	return fmt.Errorf("groups within %s have no CPU quota: the kernel was built without CFS_BANDWIDTH", c.parent)
}

func (c *cgroup) leave() error {
	if !c.inside {
		return nil
	}
	if err := join(c.parent); err != nil {
		return fmt.Errorf("leave %s: %w", c.dir, err)
	}
	c.inside = false
	return nil
}

// remove takes the group away, which nobody may be in.
func (c *cgroup) remove() error {
	if c.dir == "" {
		return nil
	}
	dir := c.dir
	c.dir = ""
	return os.Remove(dir)
}

func join(group string) error {
	return os.WriteFile(filepath.Join(group, "cgroup.procs"), []byte(strconv.Itoa(os.Getpid())), 0)
}

// groupsRoot is where the control groups are mounted.
const groupsRoot = "/sys/fs/cgroup"

// cpuGroup is the folder of the group that limits this process's CPU now.
func cpuGroup() (string, error) {
	b, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(b)) {
		part := strings.SplitN(strings.TrimSpace(line), ":", 3) // number:controllers:path
		if len(part) != 3 {
			continue
		}
		for _, controller := range strings.Split(part[1], ",") {
			if dir := filepath.Join(groupsRoot, part[1], part[2]); controller == "cpu" && exists(dir) {
				return dir, nil
			}
		}
	}
	for line := range strings.Lines(string(b)) {
		if path, ok := strings.CutPrefix(strings.TrimSpace(line), "0::"); ok {
			return filepath.Join(groupsRoot, path), nil
		}
	}
	return "", fmt.Errorf("/proc/self/cgroup names no group with a CPU controller")
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
