//go:build linux && !torture

package release

// everyState is how many states that a kill may leave there are to one that is started from.
const everyState = 4

// everyWrite is how many calls that a full disk fails there are to one that is failed.
const everyWrite = 5

// madeBefore is whether the databases are there before a run, whose journal takes its room
// with 256 writes.
func madeBefore() []bool { return []bool{true} }
