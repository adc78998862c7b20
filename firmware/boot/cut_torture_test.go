//go:build torture

package boot

// everyFull is how many moments of an update there are to one at which the disk is full.
const everyFull = 1
