package mqtt

import (
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// networkRoundTrip is the shortest way to the peer and back that the kernel has
// measured of late, between its own segments and their acknowledgements; 0 if that
// is not known. The mean would count how long a peer holds an acknowledgement back.
func networkRoundTrip(conn net.Conn) time.Duration {
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return 0
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return 0
	}
	var shortest time.Duration
	raw.Control(func(fd uintptr) { // its error leaves 0
		if info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
			shortest = time.Duration(info.Min_rtt) * time.Microsecond
		}
	})
	return shortest
}
