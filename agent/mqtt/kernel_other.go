//go:build !linux

package mqtt

import (
	"net"
	"time"
)

// networkRoundTrip is not known here.
func networkRoundTrip(net.Conn) time.Duration { return 0 }
