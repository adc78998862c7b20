//go:build linux && !torture

package release

// everyState is how many states that a kill may leave there are to one that is started from.
const everyState = 4

// everyWrite is how many calls that a full disk fails there are to one that is failed.
const everyWrite = 3
