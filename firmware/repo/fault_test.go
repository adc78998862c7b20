package repo

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent/blob"
)

// The environment of the run that meets faults.
const (
	faultyDir  = "REPO_TEST_FOLDER"
	faultyRoot = "REPO_TEST_ROOT"
	faultyURL  = "REPO_TEST_URL"
)

// TestFaultyChild is the run that meets them: a device that brings up to date what it keeps.
func TestFaultyChild(t *testing.T) {
	dir := os.Getenv(faultyDir)
	if dir == "" {
		t.Skip("runs only as a child")
	}
	runtime.LockOSThread() // so that its system calls are counted in one place
	root, err := ReadRoot(os.Getenv(faultyRoot))
	if err != nil {
		t.Fatal(err)
	}
	allowed, err := blob.ParseAllowed([]string{os.Getenv(faultyURL)})
	if err != nil {
		t.Fatal(err)
	}
	c, err := NewClient(Config{Dir: dir, Root: root, Sources: []string{os.Getenv(faultyURL)}},
		Deps{blob.New(blob.Config{Allowed: allowed}, nowhere{}, discard()), func() time.Time { return today.Add(time.Hour) },
			func() time.Time { return time.Time{} }}, discard())
	if err == nil {
		err = c.Refresh(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
}

// A process is killed, or finds the disk full, at each of its system calls that change a
// file.
func TestM17_AKillOrAFullDiskAtAnyChangeLeavesTheMetadataBeforeOrTheNext(t *testing.T) {
	if _, err := exec.LookPath("strace"); err != nil {
		t.Skip("strace is not installed; see apt-get install strace")
	}
	for _, fault := range []string{"signal=SIGKILL", "error=ENOSPC"} {
		t.Run(fault, func(t *testing.T) {
			t.Parallel()
			d := newDesk(t)
			d.release("1.0.0")
			v := d.device()
			v.takes("1.0.0")
			kept, old := v.dir, d.backup()
			d.edit(func(r *Repository) error { return r.Renew(Root, Targets, Families) })
			d.release("1.0.1")
			faults, seen := 0, map[int64]int{}
			for _, call := range []string{"write", "fsync", "renameat", "unlinkat", "mkdirat"} {
				for n := 1; ; n += everyFault {
					v.dir = filepath.Join(t.TempDir(), "repo")
					if err := os.CopyFS(v.dir, os.DirFS(kept)); err != nil {
						t.Fatal(err)
					}
					if !v.failsAt(fault, call, n) {
						break
					}
					if n > 100 {
						t.Fatalf("%s has no end", call)
					}
					faults++
					seen[v.whole(fmt.Sprint(call, " ", n), old)]++
				}
			}
			if faults < 30/everyFault || len(seen) != 2 {
				t.Errorf("it had %d faults, and left the timestamps %v; want at least %d, and two", faults, seen, 30/everyFault)
			}
		})
	}
}

// failsAt has a run meet a fault at the n-th call of a system call; false: it has fewer.
func (v *device) failsAt(fault, call string, n int) bool {
	v.Helper()
	c := exec.CommandContext(v.Context(), "strace", "-f", "-qq", "-o", os.DevNull, "-e", "trace="+call, "-e",
		fmt.Sprintf("inject=%s:%s:when=%d", call, fault, n), os.Args[0], "-test.run", "^TestFaultyChild$")
	c.Env = append(os.Environ(), faultyDir+"="+v.dir, faultyURL+"="+v.url, "GORACE=atexit_sleep_ms=0",
		faultyRoot+"="+filepath.Join(v.desk.dir, "metadata/1.root.json"))
	out, err := c.CombinedOutput()
	if bytes.Contains(out, []byte("PTRACE_TRACEME")) {
		v.Skipf("no process may be traced here: %s", out)
	}
	return err != nil
}

// whole wants what a fault left to be good for a start, and returns its timestamp.
func (v *device) whole(fault string, old map[string][]byte) (timestamp int64) {
	v.Helper()
	v.clock = today.Add(time.Hour)
	v.keeps("1.0.0")
	b := v.local(timestampFile, maxTimestamp)
	timestamp = headOf(b).Signed.Version
	v.only(old)
	if err := v.Refresh(v.Context()); timestamp > 2 && (err == nil || !strings.Contains(err.Error(), "must be >=")) {
		v.Errorf("%s: with timestamp %d it goes back to an older one: %v", fault, timestamp, err)
	}
	v.serve(nil)
	v.takes("1.0.1")
	v.keeps("1.0.1")
	for _, file := range v.files() {
		if strings.HasSuffix(file, partSuffix) {
			v.Errorf("%s: %s stays", fault, file)
		}
	}
	return timestamp
}
