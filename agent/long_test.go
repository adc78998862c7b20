//go:build !torture

package agent_test

// times is how much longer the bursts of these tests are in `make torture`.
const times = 1
