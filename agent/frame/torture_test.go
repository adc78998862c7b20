//go:build torture

package frame

// flipStep is the distance of the flipped bits that are tried, in the list of those
// that Pillow was asked about.
const flipStep = 1

// bombBytes is what a small PNG unpacks to, and foreignLines how many lines of no
// picture a frame has.
const bombBytes, foreignLines = 64 << 20, 1 << 20
