//go:build !torture

package store

// flipTimes is how many bits are flipped.
const flipTimes = 280

// shuffles is how many commits of bbolt are checked, with each kind of file.
const shuffles = 30
