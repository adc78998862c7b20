//go:build !torture

package store

// flipTimes is how many bits are flipped.
const flipTimes = 400
