package slot

import (
	"os"
	"strconv"
	"syscall"
)

// What limber-boot tells the program that it starts, by its environment.
const (
	EnvSlot  = "LIMBER_BOOT_SLOT"  // the Name that it runs from
	EnvFD    = "LIMBER_BOOT_FD"    // the pipe for its heartbeats
	EnvState = "LIMBER_BOOT_STATE" // the state folder, absolute
)

// Child is a program that limber-boot started.
type Child struct {
	Slot  Name
	State string // the folder whose slots limber-boot acts on; empty: an older one did not say
	fd    int
}

// Launched returns this program as limber-boot started it, or nil if somebody else did. It
// takes that out of the environment: a program that this one starts is no child of
// limber-boot, and a number of a file means nothing there.
func Launched() *Child {
	n := Name(os.Getenv(EnvSlot))
	fd, err := strconv.Atoi(os.Getenv(EnvFD))
	os.Unsetenv(EnvSlot)
	os.Unsetenv(EnvFD)
	state := os.Getenv(EnvState)
	os.Unsetenv(EnvState)
	var st syscall.Stat_t
	if err != nil || !known(n) || syscall.Fstat(fd, &st) != nil || st.Mode&syscall.S_IFMT != syscall.S_IFIFO {
		return nil
	}
	syscall.CloseOnExec(fd)
	syscall.SetNonblock(fd, true) // a launcher that is held up holds nobody up
	return &Child{n, state, fd}
}

// Beat says that this program is alive. One that was begun is due every five seconds from
// then on; three that are missed end it. Nobody's child has no need of it.
func (c *Child) Beat() {
	if c != nil {
		syscall.Write(c.fd, []byte{0}) // a full pipe says it as well; a launcher that is gone hears nothing
	}
}
