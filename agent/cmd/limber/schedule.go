package main

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// stage is a stretch of constant load in a script.
type stage struct {
	length time.Duration
	hogs   map[hogKind]int
	quota  int // percent of one CPU that the measured process may use; 0 is no limit
}

// load is how many things burden the machine in a stage.
func (s stage) load() (n int) {
	for _, h := range s.hogs {
		n += h
	}
	if s.quota > 0 {
		n++
	}
	return n
}

// parseSchedule reads a script such as "10s idle, 8s cpu:2, 8s memory:1+low:2,
// 8s quota:30".
func parseSchedule(script string) (stages []stage, err error) {
	for n, part := range strings.Split(script, ",") {
		s, err := parseStage(strings.Fields(part))
		if err != nil {
			return nil, fmt.Errorf("stage %d, %q: %w", n+1, strings.TrimSpace(part), err)
		}
		stages = append(stages, s)
	}
	if stages[0].load() > 0 {
		return nil, errors.New("the first stage must be idle: it gives the members' profile")
	}
	return stages, nil
}

func parseStage(words []string) (s stage, err error) {
	if len(words) != 2 {
		return s, errors.New("wants a duration and a load, such as 8s cpu:2")
	}
	if s.length, err = time.ParseDuration(words[0]); err != nil || s.length <= 0 || s.length > time.Hour {
		return s, fmt.Errorf("%q is not a duration of at most an hour", words[0])
	}
	if words[1] == "idle" {
		return s, nil
	}
	s.hogs = map[hogKind]int{}
	for _, item := range strings.Split(words[1], "+") {
		name, count, _ := strings.Cut(item, ":")
		n, err := strconv.Atoi(count)
		kind := hogKind(name)
		switch {
		case err != nil || n < 1 || n > 100:
			return s, fmt.Errorf("%q wants a number from 1 to 100 after a colon", item)
		case name == "quota":
			s.quota = n
		case slices.Contains(hogKinds(), kind):
			s.hogs[kind] = n
		default:
			return s, fmt.Errorf("%q is none of idle, %v, quota", name, hogKinds())
		}
	}
	return s, nil
}

// load is what burdens the machine now.
type load struct {
	hogs hogs
	cage cage
}

// prepare finds out whether the stages can be had here, before anything is
// measured. What it made, clear takes away.
func (l *load) prepare(stages []stage) error {
	quota := 0
	for _, s := range stages {
		quota = max(quota, s.quota)
	}
	if quota == 0 {
		return nil
	}
	return l.cage.build(quota)
}

// set changes to what a stage asks for. The cage is left before a hog starts,
// which would be limited together with the members else.
func (l *load) set(s stage) error {
	errs := []error{l.cage.leave()}
	for _, kind := range hogKinds() {
		errs = append(errs, l.hogs.set(kind, s.hogs[kind]))
	}
	if s.quota > 0 {
		errs = append(errs, l.cage.enter(s.quota))
	}
	return errors.Join(errs...)
}

func (l *load) clear() error {
	return errors.Join(l.cage.leave(), l.hogs.clear(), l.cage.remove())
}
