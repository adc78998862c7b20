package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/limber-edge/limber/agent/sim"
	"github.com/limber-edge/limber/family"
)

func TestASimulatedFleetIsSeenAndCounted(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ran := limber(t, "sim", "-n", "3", "--for", "2s", "--json", "--pack", dir)
	var said []simSummary
	for line := range strings.Lines(ran.stdout) {
		var s simSummary
		if err := json.Unmarshal([]byte(line), &s); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		said = append(said, s)
	}
	if ran.code != exitDone || len(said) != 3 {
		t.Fatalf("got exit %d, %q, %q; want an address, all online, and totals", ran.code, ran.stdout, ran.stderr)
	}
	if !strings.HasPrefix(said[0].Broker, "mqtt://127.0.0.1:") || said[1].Online != 3 || !(said[1].OnlineS > 0) {
		t.Errorf("got %+v and %+v", said[0], said[1])
	}
	if last := said[2]; last.Seen != 3 || last.Counts == nil || last.Counts.Births != 3 || last.Counts.Ends != 0 {
		t.Errorf("got %+v, want three births, all seen", last)
	}
	for _, name := range []string{"day", "night"} {
		f, err := family.Open(filepath.Join(dir, name+".family"))
		if err != nil {
			t.Fatal(err)
		}
		if f.Name != name {
			t.Errorf("got family %s, want %s", f.Name, name)
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestSimulatedDevicesComeToABrokerWithCertificatesOfTheirOwn(t *testing.T) {
	t.Parallel()
	dir := mustCerts(t, "--device", sim.Name(0), "--device", sim.Name(1), "--operator", "operator", "--operator", "alice")
	fieldBrokers(t, dir, func(t *testing.T, addr string) {
		url := "mqtts://" + addr
		for _, of := range [][]string{{"--broker", url}, login(dir, "alice", url)} {
			got := limber(t, append([]string{"sim", "-n", "2", "--certs", dir, "--for", "2s"}, of...)...)
			if got.code != exitDone || !strings.Contains(got.stdout, "2 devices seen online") {
				t.Errorf("%q: got %+v, want both online", of, got)
			}
		}
		limber(t, "sim", "-n", "3", "--certs", dir, "--broker", url).complained(t, exitFailed, "sim-0002.crt: no such file",
			"`limber broker certs --out "+dir+" --device sim-0002` makes it")
	})
	limber(t, "sim", "--certs", dir).complained(t, exitUsage, "--certs: wants the --broker")
}

// TestAReleaseIsRehearsedFromTheCommandLine has one fail that the profile does not name.
func TestAReleaseIsRehearsedFromTheCommandLine(t *testing.T) {
	for _, tt := range []struct{ trial, says string }{
		{"night", "wants a family of the profile or a version"},
		{"nihgt=canary", "wants a family of the profile or a version"},
		{"1.5.0=rain", `release "1.5.0": fails "rain": wants one of`},
		{"night=crash", `family "night": fails "crash": wants misses or canary`},
		{"day=misses", "devices start with it"},
	} {
		limber(t, "sim", "--trial", tt.trial).complained(t, exitUsage, "--trial", tt.says)
	}
	y := mustYard(t, "--trial", "1.5.0=hang")
	serveFleet(t, "fleet", "serve", "--state", filepath.Join(t.TempDir(), "state"), "--broker", y.url)
	got := y.limber(t, "rollout", "start", "--release", "1.5.0", "--repo", "repo", "--where", "arch=*", "--id", "bad",
		"--gate", "success=0.95", "--wait")
	shown := y.limber(t, "rollout", "show", "bad")
	if got.code != exitFailed || !strings.Contains(shown.stdout, "release 1.5.0 did not prove itself: hang") {
		t.Errorf("got %+v, and %s; want that it hung at the canary", got, shown.stdout)
	}
}

func TestASimulationThatCannotBeIsRefused(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "profile.json")
	if err := os.WriteFile(file, []byte(`{"families":[]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	limber(t, "sim", "-n", "0").complained(t, exitUsage, "-n 0: wants 1 to")
	limber(t, "sim", "--churn", "1").complained(t, exitUsage, `--churn "1": wants a share such as 1%`)
	limber(t, "sim", "--for", "-1s").complained(t, exitUsage, "must not be under 0")
	limber(t, "sim", "--fleet", "a/b").complained(t, exitUsage, `--fleet "a/b"`)
	limber(t, "sim", "--profile", file).complained(t, exitFailed, file, "0 families", "deadline_ms 0")
}

func TestReadmeShowsTheProfileOfTheSimulator(t *testing.T) {
	readme, err := os.ReadFile("../../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(readme), string(sim.Example)) {
		t.Error("README has another profile than `limber sim --help`")
	}
}
