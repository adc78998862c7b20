//go:build race

package agent_test

// raced: the race detector multiplies what memory is used.
const raced = true
