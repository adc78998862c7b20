//go:build !torture

package uplink

// lateResults is how many wait for the link; more in `make torture`.
const lateResults = 5_000
