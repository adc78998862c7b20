// Package load burdens this machine on purpose, as other programs on a device
// would, and takes the burden away again.
//
//	script ──Parse──▶ stages ──Set──▶ hogs: processes of this program that compute, or copy
//	                              └─▶ a control group that limits this process's share of the CPU
//
// The one rule: nothing outlives who asked for it. A hog ends with its standard
// input, which the kernel closes however its parent ended; the group is left before
// it is removed.
//
// Hogs are processes of the very program that starts them: it must answer to the
// arguments `hog KIND` by calling Burden.
package load

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Load is what burdens the machine now.
type Load struct {
	hogs  Hogs
	group cgroup
}

// Prepare finds out whether the stages can be had here, before anything is
// measured. What it made, Clear takes away.
func (l *Load) Prepare(stages []Stage) error {
	quota := 0
	for _, s := range stages {
		quota = max(quota, s.Quota)
	}
	if quota == 0 {
		return nil
	}
	return l.group.create(quota)
}

// Set changes to what a stage asks for. The group is left before a hog starts,
// which would be limited together with the members else.
func (l *Load) Set(s Stage) error {
	errs := []error{l.group.leave()}
	for _, kind := range Kinds() {
		errs = append(errs, l.hogs.Set(kind, s.Hogs[kind]))
	}
	if s.Quota > 0 {
		errs = append(errs, l.group.enter(s.Quota))
	}
	return errors.Join(errs...)
}

// Clear ends all of it.
func (l *Load) Clear() error { return errors.Join(l.group.leave(), l.hogs.Clear(), l.group.remove()) }

// Stage is a stretch of constant load in a script.
type Stage struct {
	Length time.Duration
	Hogs   map[Kind]int
	Quota  int // percent of one CPU that the measured process may use; 0 is no limit
}

// Count is how many things burden the machine in a stage.
func (s Stage) Count() (n int) {
	for _, h := range s.Hogs {
		n += h
	}
	if s.Quota > 0 {
		n++
	}
	return n
}

// DefaultScript has one, two and four CPU hogs, with pauses.
const DefaultScript = "12s idle, 8s cpu:1, 12s idle, 8s cpu:2, 12s idle, 8s cpu:4, 12s idle"

// Parse reads a script such as "10s idle, 8s cpu:2, 8s memory:1+low:2,
// 8s quota:30".
func Parse(script string) (stages []Stage, err error) {
	for n, part := range strings.Split(script, ",") {
		s, err := parseStage(strings.Fields(part))
		if err != nil {
			return nil, fmt.Errorf("stage %d, %q: %w", n+1, strings.TrimSpace(part), err)
		}
		stages = append(stages, s)
	}
	if stages[0].Count() > 0 {
		return nil, errors.New("the first stage must be idle: it gives the members' profile")
	}
	return stages, nil
}

func parseStage(words []string) (s Stage, err error) {
	if len(words) != 2 {
		return s, errors.New("wants a duration and a load, such as 8s cpu:2")
	}
	if s.Length, err = time.ParseDuration(words[0]); err != nil || s.Length <= 0 || s.Length > time.Hour {
		return s, fmt.Errorf("%q is not a duration of at most an hour", words[0])
	}
	if words[1] == "idle" {
		return s, nil
	}
	s.Hogs = map[Kind]int{}
	for _, item := range strings.Split(words[1], "+") {
		name, count, _ := strings.Cut(item, ":")
		n, err := strconv.Atoi(count)
		kind := Kind(name)
		switch {
		case err != nil || n < 1 || n > 100:
			return s, fmt.Errorf("%q wants a number from 1 to 100 after a colon", item)
		case name == "quota":
			s.Quota = n
		case slices.Contains(Kinds(), kind):
			s.Hogs[kind] = n
		default:
			return s, fmt.Errorf("%q is none of idle, %v, quota", name, Kinds())
		}
	}
	return s, nil
}
