package check

import (
	"context"

	"golang.org/x/sys/unix"
)

// lockedMemory is what units of this program let be locked: more than the weights of the
// smallest member of a family have, which are 20 MB in that of OFA-MobileNetV3.
const lockedMemory = 64 << 20

// Memlock looks at how much memory this process may lock.
type Memlock struct {
	Want uint64 // bytes
}

// Run implements Check.
func (m Memlock) Run(context.Context) Finding {
	const check = "memlock"
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &limit); err != nil {
		return fails(check, Warning, "run this as the agent's user", "the limit of locked memory is not known: %v", err)
	}
	switch {
	case limit.Cur == unix.RLIM_INFINITY:
		return holds(check, Warning, "memory may be locked without a limit")
	case limit.Cur >= m.Want:
		return holds(check, Warning, "%d MiB may be locked", limit.Cur>>20)
	case unix.Geteuid() == 0:
		return holds(check, Warning, "root is not bound by the limit of %d KiB", limit.Cur>>10)
	}
	return fails(check, Warning, "LimitMEMLOCK=64M in the unit, as the package has it; in this shell ulimit -l 65536",
		"only %d KiB may be locked, so the smallest member may have to be read from the disk when memory is short",
		limit.Cur>>10)
}
