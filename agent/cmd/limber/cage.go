package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// cage limits this process's share of the CPU through a control group of its
// own, of whichever version the machine has.
type cage struct {
	dir    string // of the group; empty when there is none
	parent string // group to go back to
}

// cagePeriod is how often the share is counted anew, in microseconds; the
// kernel's default.
const cagePeriod = 100_000

// set allows percent of one CPU; 0 ends the limit.
func (c *cage) set(percent int) error {
	if percent == 0 && c.dir == "" {
		return nil
	}
	if err := c.enter(); err != nil {
		return fmt.Errorf("limit the CPU share (this takes root): %w", err)
	}
	quota := cagePeriod * percent / 100
	if name := filepath.Join(c.dir, "cpu.max"); exists(name) {
		limit := "max"
		if percent > 0 {
			limit = strconv.Itoa(quota)
		}
		return os.WriteFile(name, fmt.Appendf(nil, "%s %d", limit, cagePeriod), 0)
	}
	if percent == 0 {
		quota = -1
	}
	return os.WriteFile(filepath.Join(c.dir, "cpu.cfs_quota_us"), []byte(strconv.Itoa(quota)), 0)
}

// enter makes the group, once, and moves this process into it.
func (c *cage) enter() error {
	if c.dir != "" {
		return nil
	}
	parent, err := cpuGroup()
	if err != nil {
		return err
	}
	dir := filepath.Join(parent, fmt.Sprintf("limber-bench-%d", os.Getpid()))
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	c.dir, c.parent = dir, parent
	return join(dir)
}

// leave goes back and removes the group.
func (c *cage) leave() error {
	if c.dir == "" {
		return nil
	}
	if err := join(c.parent); err != nil {
		return fmt.Errorf("leave %s: %w", c.dir, err)
	}
	dir := c.dir
	c.dir = ""
	return os.Remove(dir)
}

func join(group string) error {
	return os.WriteFile(filepath.Join(group, "cgroup.procs"), []byte(strconv.Itoa(os.Getpid())), 0)
}

// cpuGroup is the folder of the group that limits this process's CPU now.
func cpuGroup() (string, error) {
	b, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return "", err
	}
	const root = "/sys/fs/cgroup"
	for line := range strings.Lines(string(b)) {
		part := strings.SplitN(strings.TrimSpace(line), ":", 3) // number:controllers:path
		if len(part) != 3 {
			continue
		}
		for _, controller := range strings.Split(part[1], ",") {
			if dir := filepath.Join(root, part[1], part[2]); controller == "cpu" && exists(dir) {
				return dir, nil
			}
		}
	}
	for line := range strings.Lines(string(b)) {
		if path, ok := strings.CutPrefix(strings.TrimSpace(line), "0::"); ok {
			return filepath.Join(root, path), nil
		}
	}
	return "", fmt.Errorf("/proc/self/cgroup names no group with a CPU controller")
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
