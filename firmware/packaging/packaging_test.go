// Package packaging makes the Debian packages: see deb.sh. What is in root is installed as
// it is, what is in DEBIAN is dpkg's. Nothing here is part of a program.
package packaging

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/limber-edge/limber/agent/config"
)

const units = "root/lib/systemd/system"

func mustRead(tb testing.TB, path string) string {
	tb.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		tb.Fatal(err)
	}
	return string(b)
}

func mustWrite(tb testing.TB, path, text string, mode os.FileMode) {
	tb.Helper()
	err := os.MkdirAll(filepath.Dir(path), 0o755)
	if err == nil {
		err = os.WriteFile(path, []byte(text), mode)
	}
	if err != nil {
		tb.Fatal(err)
	}
}

// need skips a test where a program is missing.
func need(tb testing.TB, programs ...string) {
	tb.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			tb.Skipf("no %s: install Debian's package of it", p)
		}
	}
}

// mustRun runs a program and returns what it said.
func mustRun(tb testing.TB, name string, args ...string) string {
	tb.Helper()
	out, err := exec.CommandContext(tb.Context(), name, args...).CombinedOutput()
	if err != nil {
		tb.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

func TestUnitsAreWhatSystemdUnderstandsAndAreConfined(t *testing.T) {
	need(t, "systemd-analyze")
	dir := t.TempDir()
	// The programs that they start, as systemd looks whether they are there.
	programs := map[string]string{}
	for _, name := range []string{"/usr/bin/limber", "/usr/lib/limber/limber-boot"} {
		programs[name] = filepath.Join(dir, filepath.Base(name))
		mustWrite(t, programs[name], "#!/bin/sh\n", 0o755)
	}
	found, err := os.ReadDir(units)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range found {
		text := mustRead(t, filepath.Join(units, f.Name()))
		for name, here := range programs {
			text = strings.ReplaceAll(text, "="+name+" ", "="+here+" ")
			text = strings.ReplaceAll(text, " "+name+" ", " "+here+" ")
		}
		mustWrite(t, filepath.Join(dir, f.Name()), text, 0o644)
	}
	for _, f := range found {
		unit := filepath.Join(dir, f.Name())
		if out := mustRun(t, "systemd-analyze", "verify", "--man=no", unit); strings.Contains(out, f.Name()) {
			t.Errorf("%s: %s", f.Name(), out)
		}
		if filepath.Ext(unit) == ".service" {
			mustRun(t, "systemd-analyze", "security", "--no-pager", "--offline=true", "--threshold=30", unit)
		}
	}
}

// TestTheUnitOfTheAgentLeavesToItWhatItCanDoBetter: a device without a network starts, and
// what becomes of a release that takes too much memory is the launcher's to judge.
func TestTheUnitOfTheAgentLeavesToItWhatItCanDoBetter(t *testing.T) {
	unit := mustRead(t, filepath.Join(units, "limber.service"))
	for _, target := range []string{"time-sync.target", "network-online.target"} {
		if strings.Contains(unit, target) {
			t.Errorf("it waits for %s, which may never come", target)
		}
	}
	if !strings.Contains(unit, "\nOOMPolicy=continue\n") {
		t.Error("the kernel's end of one process stops the launcher, whose count of starts forgets a clean stop")
	}
}

func TestTheConfigurationOfThePackageIsValidAlsoWithWhatItProposes(t *testing.T) {
	text := mustRead(t, "root/etc/limber/limber.toml")
	var proposed []string
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, "#"); ok && !strings.HasPrefix(rest, " ") && !strings.Contains(rest, "_file") {
			line = rest
		}
		proposed = append(proposed, line)
	}
	for _, text := range []string{text, strings.Join(proposed, "")} {
		path := filepath.Join(t.TempDir(), "limber.toml")
		mustWrite(t, path, text, 0o644)
		cfg, err := config.Read(path)
		if err == nil {
			err = cfg.Validate()
		}
		if err != nil {
			t.Errorf("%v in\n%s", err, text)
		}
	}
}

func TestTheScriptsOfAMaintainerAreThoseOfAShell(t *testing.T) {
	for _, name := range []string{"postinst", "prerm", "postrm"} {
		mustRun(t, "sh", "-n", filepath.Join("DEBIAN", name))
	}
	mustRun(t, "bash", "-n", "deb.sh")
	for line := range strings.Lines(mustRead(t, "DEBIAN/conffiles")) {
		if _, err := os.Stat(filepath.Join("root", strings.TrimSpace(line))); err != nil {
			t.Error(err)
		}
	}
}
