package power

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strconv"
	"syscall"
)

// firstInherited is the first file that systemd hands over, see sd_listen_fds(3).
const firstInherited = 3

// Inherited is the socket that systemd listens at for this process; nil if it does not.
// getenv is os.Getenv.
func Inherited(getenv func(string) string) (*net.UnixListener, error) {
	if getenv("LISTEN_PID") != strconv.Itoa(os.Getpid()) {
		return nil, nil
	}
	if n := getenv("LISTEN_FDS"); n != "1" {
		return nil, fmt.Errorf("systemd hands over %q sockets: want one, of ListenStream=", n)
	}
	syscall.CloseOnExec(firstInherited)
	file := os.NewFile(firstInherited, "socket of systemd")
	defer file.Close() // the listener has its own
	l, err := net.FileListener(file)
	if err != nil {
		return nil, fmt.Errorf("socket of systemd: %w", err)
	}
	u, ok := l.(*net.UnixListener)
	if !ok {
		l.Close()
		return nil, fmt.Errorf("systemd hands over a socket of %s: want a path in ListenStream=", l.Addr().Network())
	}
	return u, nil
}

// Listen makes a socket that its owner and a group may use (0660), in the place of one
// that a process left behind. The group is kept if it is under 0.
func Listen(path string, group int) (*net.UnixListener, error) {
	addr := &net.UnixAddr{Name: path, Net: "unix"}
	l, err := net.ListenUnix("unix", addr)
	if errors.Is(err, syscall.EADDRINUSE) && abandoned(addr) {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		l, err = net.ListenUnix("unix", addr)
	}
	if err != nil {
		return nil, err
	}
	if err := give(path, group); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// openPath is O_PATH, which the standard library does not name.
const openPath = 0x200000

// give lets a group use a socket. Whoever may write its folder could have put a link to
// another file in its place: what that leads to stays as it is.
func give(path string, group int) error {
	fd, err := syscall.Open(path, openPath|syscall.O_NOFOLLOW|syscall.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer syscall.Close(fd)
	var is syscall.Stat_t
	if err := syscall.Fstat(fd, &is); err != nil {
		return &os.PathError{Op: "stat", Path: path, Err: err}
	}
	if is.Mode&syscall.S_IFMT != syscall.S_IFSOCK {
		return fmt.Errorf("%s is no socket any more: somebody else may write its folder", path)
	}
	itself := "/proc/self/fd/" + strconv.Itoa(fd)
	err = os.Chmod(itself, 0o660)
	if err == nil && group >= 0 {
		err = os.Chown(itself, -1, group)
	}
	return err
}

// abandoned tells whether there is a socket, and nobody who listens at it.
func abandoned(addr *net.UnixAddr) bool {
	if info, err := os.Lstat(addr.Name); err != nil || info.Mode().Type() != fs.ModeSocket {
		return false
	}
	conn, err := net.DialUnix("unix", nil, addr)
	if err == nil {
		conn.Close()
	}
	return errors.Is(err, syscall.ECONNREFUSED)
}
