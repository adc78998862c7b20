//go:build torture

package store

// flipTimes is how many bits are flipped.
const flipTimes = 4000

// shuffles is how many commits of bbolt are checked, with each kind of file.
const shuffles = 200
