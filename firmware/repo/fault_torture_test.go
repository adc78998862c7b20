//go:build torture

package repo

// everyFault is how many places for a fault there are to one that is tried.
const everyFault = 1
