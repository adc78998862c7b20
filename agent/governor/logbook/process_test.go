package logbook

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
)

// envReplay names a log that the test binary is to repeat, instead of testing.
const envReplay = "LIMBER_TEST_REPLAY"

func TestMain(m *testing.M) {
	path := os.Getenv(envReplay)
	if path == "" {
		os.Exit(m.Run())
	}
	f, err := os.Open(path)
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	sum, err := Replay(f, ignore)
	fmt.Println(sum.Decisions, sum.Rounded > 0, err)
}

// replayed is what another process says of a log.
func replayed(t *testing.T, log string, command ...string) string {
	t.Helper()
	c := exec.CommandContext(t.Context(), command[0], command[1:]...)
	c.Env = append(os.Environ(), envReplay+"="+log)
	out, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return string(out)
}

func mustLog(t *testing.T, jobs int) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "decisions.log")
	if err := os.WriteFile(path, written(t, 1, jobs), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestALogIsRepeatedBitForBitInAnotherProcess(t *testing.T) {
	if got, want := replayed(t, mustLog(t, 1000), os.Args[0]), "1000 false <nil>\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// An arm64 processor, as in a Jetson, rounds a product and a sum at once.
func TestALogIsRepeatedOnAnotherArchitecture(t *testing.T) {
	qemu, err := exec.LookPath("qemu-aarch64")
	if err != nil || runtime.GOARCH != "amd64" {
		t.Skip("needs amd64 and qemu-aarch64: install Debian's qemu-user")
	}
	binary := filepath.Join(t.TempDir(), "arm64.test")
	build := exec.CommandContext(t.Context(), "go", "test", "-c", "-o", binary, ".")
	build.Env = append(os.Environ(), "GOARCH=arm64", "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build for arm64: %v\n%s", err, out)
	}
	if got, want := replayed(t, mustLog(t, 1000), qemu, binary), "1000 true <nil>\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
