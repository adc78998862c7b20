//go:build torture

package boot

// everyTrouble is how many moments of an update there are to one that is disturbed otherwise
// than by a power cut.
const everyTrouble = 1
