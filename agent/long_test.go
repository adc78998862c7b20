//go:build !torture

package agent_test

import (
	"testing"
	"time"
)

// times is how much longer the bursts of these tests are in `make torture`.
const times = 1

// A soak begins with so many jobs, and then holds what is left behind by others.
const (
	soakBefore, soakJobs, soakConnections = 300, 1000, 30
	soakRest                              = time.Second
	soakHeld                              = 2     // senders of broken connections that the library still holds
	soakResident                          = false // whether resident memory is judged
)

// sites are where devices are killed; in `make torture` the broker is killed as well.
func sites() map[string]func(testing.TB) site {
	return map[string]func(testing.TB) site{"mosquitto": steady}
}
