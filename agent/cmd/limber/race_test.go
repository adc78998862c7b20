//go:build race

package main

// filmed is how many test images are made into frames: under the race detector each
// takes ten times as long.
const filmed = 100
