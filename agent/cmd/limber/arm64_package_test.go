//go:build torture

package main

import (
	"bufio"
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/limber-edge/limber/broker-config/brokertest"
	"github.com/limber-edge/limber/family/familytest"
	"github.com/limber-edge/limber/family/resident"
)

// mustUnpack builds the package for arm64 and is a board with it, whose program finds the
// library that came along.
func mustUnpack(t *testing.T) board {
	t.Helper()
	b := mustEmulator(t)
	dir := t.TempDir()
	build := exec.CommandContext(t.Context(), "../../../firmware/packaging/deb.sh", "arm64", dir)
	build.Env = append(os.Environ(), "VERSION=1.0.0")
	var errs bytes.Buffer
	build.Stderr = &errs
	out, err := build.Output()
	if err != nil {
		t.Fatalf("build the package: %v\n%s%s", err, out, errs.String())
	}
	root := filepath.Join(dir, "root")
	if out, err := exec.CommandContext(t.Context(), "dpkg-deb", "-x", strings.TrimSpace(string(out)), root).
		CombinedOutput(); err != nil {
		t.Fatalf("unpack the package: %v\n%s", err, out)
	}
	b.program, b.library = filepath.Join(root, "usr", "bin", "limber"), ""
	return b
}

func TestPackageForArm64AnswersAFrameAndComputesTheLogitsOfAmd64(t *testing.T) {
	b := mustUnpack(t)
	if out := b.mustRun(t, "version"); !strings.Contains(out, "limber 1.0.0 linux/arm64") {
		t.Errorf("got version %q", out)
	}
	b.mustAnswer(t)
	dir := filepath.Join(fixtures, "imagenet")
	cases, _ := familytest.Cases(t, dir)
	for _, c := range cases[:2] { // the largest and the smallest
		out := t.TempDir()
		there, here := filepath.Join(out, "arm64.f32"), filepath.Join(out, "amd64.f32")
		b.mustRun(t, logitsCommand(t, dir, c, there)...)
		own := exec.CommandContext(t.Context(), os.Args[0], logitsCommand(t, dir, c, here)...)
		if out, err := own.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		if off := resident.Distance(familytest.Floats(t, there), familytest.Floats(t, here)); !(off <= 1e-4) {
			t.Errorf("%s: a logit is %.2g standard deviations from that of amd64, want at most 1e-4", c.Logits, off)
		}
	}
}

// mustAnswer has an agent of the board answer a frame through a broker.
func (b board) mustAnswer(t *testing.T) {
	t.Helper()
	m := brokertest.StartMosquitto(t)
	url := "mqtt://" + m.Addr
	agent := b.command(t, "agent", "--state", mustSmallest(t), "--broker", url)
	log, err := agent.StderrPipe()
	if err == nil {
		err = agent.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	said := new(bytes.Buffer)
	lines := bufio.NewScanner(io.TeeReader(log, said))
	for !strings.Contains(lines.Text(), "msg=ready") {
		if !lines.Scan() {
			t.Fatalf("the agent ended before a member was ready: %v\n%s", agent.Wait(), said)
		}
	}
	frame, _ := mustFrame(t, 1)
	got := limber(t, "publish", "--broker", url, "--deadline", "60s", "--json", frame)
	agent.Process.Signal(syscall.SIGTERM)
	for lines.Scan() {
	}
	if err := agent.Wait(); err != nil || got.code != exitDone || !strings.Contains(got.stdout, `"status":"ok"`) {
		t.Errorf("got %+v, want an answer, and an orderly end: %v\n%s", got, err, said)
	}
}
