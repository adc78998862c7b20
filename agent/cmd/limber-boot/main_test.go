package main

import (
	"bufio"
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestTheLauncherIsSmallAndStaticAndOfTheStandardLibrary(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "limber-boot")
	build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-o", path, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	info, err := os.Stat(path)
	if err != nil || info.Size() >= 5_000_000 {
		t.Errorf("got %d bytes, %v; want less than 5 MB", info.Size(), err)
	}
	program, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer program.Close()
	if libraries, err := program.ImportedLibraries(); err != nil || len(libraries) > 0 {
		t.Errorf("it loads %q, %v", libraries, err)
	}
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	const ours = "github.com/limber-edge/limber/firmware/"
	for path := range strings.Lines(string(out)) {
		first, _, _ := strings.Cut(path, "/")
		if strings.Contains(first, ".") && !strings.HasPrefix(path, ours) && !strings.Contains(path, "limber-boot") {
			t.Errorf("it has %s", path)
		}
	}
}

func TestWrongUsageExitsWith2(t *testing.T) {
	for _, args := range [][]string{{}, {"--state", "x"}, {"program"}, {"--stat", "x", "program"}, {"--state"}} {
		var stdout, stderr strings.Builder
		code := run(args, nil, &stdout, &stderr)
		if code != exitUsage || !strings.Contains(stderr.String(), "usage: limber-boot --state DIR -- PROGRAM") {
			t.Errorf("%q: got exit code %d, %q", args, code, &stderr)
		}
	}
}

func TestVersionAndHelpExitWith0(t *testing.T) {
	var stdout, stderr strings.Builder
	if code := run([]string{"--version"}, nil, &stdout, &stderr); code != 0 || stdout.String() != "limber-boot unknown\n" {
		t.Errorf("got exit code %d, %q", code, &stdout)
	}
	if code := run([]string{"--help"}, nil, &stdout, &stderr); code != 0 || !strings.Contains(stderr.String(), "usage: ") {
		t.Errorf("got exit code %d, %q", code, &stderr)
	}
}

func mustBuild(t *testing.T) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "limber-boot")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", path, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return path
}

func TestALauncherThatNobodyReadsGoesOn(t *testing.T) {
	t.Parallel()
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer write.Close()
	read.Close()
	once := filepath.Join(t.TempDir(), "once")
	c := exec.CommandContext(t.Context(), mustBuild(t), "--state", t.TempDir(), "--", "sh", "-c",
		`echo words >&2; mkdir "$0" && exit 3; echo again; exec cat`, once)
	c.Stderr = write
	if _, err := c.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := c.StdoutPipe()
	if err == nil {
		err = c.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	if said, err := bufio.NewReader(out).ReadString('\n'); said != "again\n" {
		t.Errorf("got %q, %v; want the program started again", said, err)
	}
	c.Process.Signal(syscall.SIGTERM)
	if c.Wait(); c.ProcessState.ExitCode() != 128+int(syscall.SIGTERM) {
		t.Errorf("got %v, want the exit code of the program", c.ProcessState)
	}
}

// The program of the package gets the arguments as they are, and its exit code is that of
// the launcher once it was asked to stop.
func TestTheProgramGetsItsArgumentsAndSaysHowItEnds(t *testing.T) {
	t.Parallel()
	c := exec.CommandContext(t.Context(), mustBuild(t), "--state", t.TempDir(), "--", "sh", "-c",
		`trap 'exit 5' TERM; echo "$@"; read line`, "sh", "--config", "a b")
	if _, err := c.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := c.StdoutPipe()
	if err == nil {
		err = c.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	said := make([]byte, len("--config a b\n"))
	if _, err := out.Read(said); err != nil || string(said) != "--config a b\n" {
		t.Errorf("got %q, %v", said, err)
	}
	c.Process.Signal(syscall.SIGTERM)
	if c.Wait(); c.ProcessState.ExitCode() != 5 {
		t.Errorf("got %v, want exit code 5", c.ProcessState)
	}
}
