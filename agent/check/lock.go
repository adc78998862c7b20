package check

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Lock tells who has the state folder and the update lock. It reads what the kernel says
// of them: to try the locks would be to hold them for a moment, and an agent that starts
// in that moment would end.
type Lock struct {
	State string // folder
	Root  string // of the file system, for tests
}

// Run implements Check. That an agent has the state is as it should be; that somebody
// keeps it from updating may be forgotten.
func (l Lock) Run(context.Context) Finding {
	const check = "lock"
	held, err := l.read()
	if err != nil {
		return fails(check, Warning, "run this as the agent's user", "who has the state is not known: %v", err)
	}
	agent, running := held[filepath.Join(l.State, "limber.db")]
	if who, ok := held[filepath.Join(l.State, "update.lock")]; ok && who != agent {
		return fails(check, Warning, "end it, or wait: see `limber agent lock --help`",
			"process %d holds the update lock: no other family or release is activated", who)
	}
	if running {
		return holds(check, Warning, "process %d, the agent, has the state", agent)
	}
	return holds(check, Warning, "nobody has the state or the update lock")
}

// read tells which process has a lock on which of the files.
func (l Lock) read() (map[string]int, error) {
	f, err := os.Open(filepath.Join(l.Root, "proc", "locks"))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	held := map[string]int{}
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		file, pid, ok := parseLock(lines.Text())
		if !ok {
			continue
		}
		for _, name := range []string{"limber.db", "update.lock"} {
			path := filepath.Join(l.State, name)
			if is, err := file.is(path); err != nil {
				return nil, err
			} else if is {
				held[path] = pid
			}
		}
	}
	return held, lines.Err()
}

// inode is a file by its number on a device.
type inode struct {
	major, minor uint32
	number       uint64
}

func (i inode) is(path string) (bool, error) {
	var st unix.Stat_t
	err := unix.Stat(path, &st)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	} else if err != nil {
		return false, fmt.Errorf("look at %s: %w", path, err)
	}
	dev := uint64(st.Dev)
	return i == inode{unix.Major(dev), unix.Minor(dev), st.Ino}, nil
}

// parseLock reads a line of /proc/locks, such as
//
//	1: FLOCK  ADVISORY  WRITE 15542 fe:00:806989 0 EOF
//
// A line of who waits has an arrow before the kind, and is none that is held.
func parseLock(line string) (file inode, pid int, ok bool) {
	words := strings.Fields(line)
	if len(words) < 6 || words[1] != "FLOCK" {
		return inode{}, 0, false
	}
	pid, err := strconv.Atoi(words[4])
	parts := strings.Split(words[5], ":")
	if err != nil || len(parts) != 3 {
		return inode{}, 0, false
	}
	major, err1 := strconv.ParseUint(parts[0], 16, 32)
	minor, err2 := strconv.ParseUint(parts[1], 16, 32)
	number, err3 := strconv.ParseUint(parts[2], 10, 64)
	return inode{uint32(major), uint32(minor), number}, pid, errors.Join(err1, err2, err3) == nil
}
