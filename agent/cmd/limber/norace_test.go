//go:build !race

package main

// filmed is how many test images are made into frames: all that the program carries.
const filmed = 1000
