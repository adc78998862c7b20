package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// locked runs `limber agent lock` on a state folder.
func locked(ctx context.Context, dir string, args ...string) (stderr string, code int) {
	var out, errs bytes.Buffer
	code = run(ctx, append([]string{"agent", "lock", "--state", dir}, args...), &out, &errs)
	return errs.String(), code
}

// flock takes the update lock of a state folder as the device does, without waiting.
func flock(t *testing.T, dir string) (release func(), err error) {
	t.Helper()
	file, err := os.OpenFile(filepath.Join(dir, "update.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	return func() { file.Close() }, syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
}

func TestALockedCommandRunsUnderTheLockAndItsExitCodeIsPassedOn(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "update.lock")
	for _, tt := range []struct {
		name    string
		command []string
		code    int
		stderr  string
	}{
		{"done", []string{"--", "true"}, 0, "is held while true runs"},
		{"its own code", []string{"--", "sh", "-c", "exit 7"}, 7, "is held while sh runs"},
		{"a signal", []string{"--", "sh", "-c", "kill -9 $$"}, 137, ""},
		{"the lock", []string{"--", "flock", "-n", "-x", path, "true"}, 1, ""},
		{"another of its kind", []string{"--", "flock", "-n", "-s", path, "true"}, 0, ""},
		{"no such command", []string{"--", "no-such-command"}, exitFailed, "no-such-command"},
		{"no dashes", []string{"true"}, exitUsage, "wants its command behind --, got 1 argument;"},
	} {
		if errs, code := locked(t.Context(), dir, tt.command...); code != tt.code || !strings.Contains(errs, tt.stderr) {
			t.Errorf("%s: got exit %d, %q; want %d with %q", tt.name, code, errs, tt.code, tt.stderr)
		}
		release, err := flock(t, dir)
		if err != nil {
			t.Errorf("%s: the lock is still held: %v", tt.name, err)
		}
		release()
	}
	errs, code := locked(t.Context(), filepath.Join(dir, "none"), "--", "true")
	if code != exitFailed || !strings.Contains(errs, "no such file") {
		t.Errorf("without a state: got exit %d, %q", code, errs)
	}
}

func TestALockWithoutACommandIsHeldUntilASignal(t *testing.T) {
	ctx, signal := context.WithCancel(t.Context())
	defer signal()
	dir, said := t.TempDir(), newSpoken()
	ended := make(chan int, 1)
	go func() { ended <- run(ctx, []string{"agent", "lock", "--state", dir}, said, said) }()
	said.await(t, "is held until a signal comes")
	release, err := flock(t, dir)
	if err == nil {
		t.Error("it is not held")
	}
	release()
	signal()
	if code := <-ended; code != exitDone {
		t.Errorf("got exit %d, want 0", code)
	}
}

func TestALockThatWaitsSaysForWhat(t *testing.T) {
	ctx, signal := context.WithCancel(t.Context())
	defer signal()
	dir, said := t.TempDir(), newSpoken()
	release, err := flock(t, dir)
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	ended := make(chan int, 1)
	go func() { ended <- run(ctx, []string{"agent", "lock", "--state", dir, "--", "true"}, said, said) }()
	said.await(t, "waiting: a family or release is being activated")
	signal()
	if code := <-ended; code != exitFailed {
		t.Errorf("interrupted: got exit %d, want 1", code)
	}
}

// spoken hands on what a command writes.
type spoken struct{ lines chan string }

func newSpoken() *spoken { return &spoken{make(chan string, 100)} }

func (s *spoken) Write(b []byte) (int, error) {
	s.lines <- string(b)
	return len(b), nil
}

func (s *spoken) await(t *testing.T, text string) {
	t.Helper()
	for {
		select {
		case line := <-s.lines:
			if strings.Contains(line, text) {
				return
			}
		case <-t.Context().Done():
			t.Fatalf("it did not say %q", text)
		}
	}
}
