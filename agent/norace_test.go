//go:build !race

package agent_test

const raced = false

// devicesMost is how many devices fit into one process.
const devicesMost = 200
