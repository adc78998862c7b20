//go:build torture

package uplink

// lateResults is how many wait for the link.
const lateResults = 100_000
