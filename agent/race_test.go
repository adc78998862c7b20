//go:build race

package agent_test

// raced: the race detector multiplies what memory is used.
const raced = true

// devicesMost is fewer of them, which share as much.
const devicesMost = 50
