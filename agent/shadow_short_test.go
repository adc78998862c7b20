//go:build !torture

package agent_test

// comparedFrames is how many frames both families answer.
const comparedFrames = 60
