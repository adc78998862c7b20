//go:build torture

package bench

// filmed is how many test images are made into frames: all that the program carries.
const filmed, sameLeast = 1000, 98.5
