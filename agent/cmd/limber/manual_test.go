package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/limber-edge/limber/agent/config"
)

// TestEveryCommandHasAManualPageThatManReads also looks for what its help says.
func TestEveryCommandHasAManualPageThatManReads(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	says(t, exitDone, "", "manual", "--out", dir)
	man, err := exec.LookPath("man")
	for c := range everyCommand(newRoot()) {
		page := filepath.Join(dir, "man", pageOf(c)+".1")
		source, missing := os.ReadFile(page)
		if missing != nil {
			t.Error(missing)
			continue
		}
		if ours := "\"" + config.Default().State + "\")"; strings.Contains(string(source), ours) {
			t.Errorf("%s has %s, the folder of who built it", page, ours)
		}
		if err != nil {
			continue // man is not installed
		}
		read := exec.CommandContext(t.Context(), man, "--warnings", "-E", "UTF-8", "-l", page)
		read.Env = append(os.Environ(), "MANWIDTH=100", "LC_ALL=C.UTF-8")
		out, err := read.CombinedOutput()
		if err != nil {
			t.Errorf("%s: %v", page, err)
		}
		for line := range strings.Lines(string(out)) { // a JSON object in a text is longer than a line
			if strings.HasPrefix(line, "troff: ") && !strings.Contains(line, "can't break line") {
				t.Errorf("%s: %s", page, line)
			}
		}
		for line := range strings.Lines(c.Example) {
			if !strings.Contains(string(out), strings.TrimSpace(line)) {
				t.Errorf("%s lacks the example %s", page, line)
			}
		}
	}
	for _, name := range []string{"limber.bash", "_limber", "limber.fish"} {
		b, err := os.ReadFile(filepath.Join(dir, "completion", name))
		if err != nil || !strings.Contains(string(b), "limber") {
			t.Errorf("completion %s: %v, %.100s", name, err, b)
		}
	}
}

// TestWhatTheUnitsStartIsACommandLineThatIsTaken reads it, as far as reading goes.
func TestWhatTheUnitsStartIsACommandLineThatIsTaken(t *testing.T) {
	for unit, want := range map[string]string{"limber": "agent", "limber-power": "power-helper"} {
		text, err := os.ReadFile("../../../firmware/packaging/root/lib/systemd/system/" + unit + ".service")
		if err != nil {
			t.Fatal(err)
		}
		_, line, _ := strings.Cut(string(text), "\nExecStart=")
		line, _, _ = strings.Cut(line, "\n")
		_, line, ok := strings.Cut(line, "/usr/bin/limber ")
		line = strings.ReplaceAll(line, " $LIMBER_POWER_FLAGS", "")
		c, rest, err := newRoot().Find(strings.Fields(line))
		if err == nil {
			err = c.ParseFlags(rest)
		}
		if !ok || err != nil || c.Name() != want {
			t.Errorf("%s: got %q, %v; want a command line of limber %s", unit, line, err, want)
		}
	}
}
