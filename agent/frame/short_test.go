//go:build !torture

package frame

// flipStep is the distance of the flipped bits that are tried, in the list of those
// that Pillow was asked about.
const flipStep = 5
