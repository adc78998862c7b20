//go:build !torture

package bench

// filmed is how many test images are made into frames: under the race detector each
// takes ten times as long. One of their answers by each member may be another.
const filmed, sameLeast = 10, 90
