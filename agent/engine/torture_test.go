//go:build torture

package engine

// everyMoment is how many moments of an occasion there are to one at which it is tested.
const everyMoment = 1

// comparedFrames is how many real frames both families answer.
const comparedFrames = 1000
