package check

import (
	"context"
	"time"

	"golang.org/x/sys/unix"
)

// Clock looks at the system's clock.
type Clock struct {
	Built time.Time // when the program was; no time before that is now
}

const setClock = "set the clock, and have it kept: timedatectl set-ntp true"

// Run implements Check. A clock that was never set takes certificates for not valid yet.
func (c Clock) Run(context.Context) Finding {
	const check = "clock"
	now := time.Now().UTC()
	said := now.Format(time.RFC3339)
	if now.Before(c.Built) {
		return fails(check, Error, setClock, "it is %s, before this program was built, %s", said,
			c.Built.UTC().Format(time.RFC3339))
	}
	var kernel unix.Timex // no modes: it is only read
	if _, err := unix.Adjtimex(&kernel); err != nil {
		return holds(check, Error, "it is %s; the kernel does not say whether the clock is kept: %v", said, err)
	}
	if kernel.Status&unix.STA_UNSYNC != 0 {
		return fails(check, Warning, setClock, "it is %s, but nothing keeps the clock synchronised", said)
	}
	return holds(check, Error, "it is %s, synchronised", said)
}
