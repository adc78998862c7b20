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

import "errors"

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
func (l *Load) Clear() error {
	return errors.Join(l.group.leave(), l.hogs.Clear(), l.group.remove())
}
