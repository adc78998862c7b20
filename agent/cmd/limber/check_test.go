package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestADeviceThatRunsIsFitAndOneWithoutABrokerIsNot reads the lines that a program reads.
func TestADeviceThatRunsIsFitAndOneWithoutABrokerIsNot(t *testing.T) {
	d := mustDesk(t)
	for _, tt := range []struct {
		broker string
		code   int
	}{{d.url, exitDone}, {"mqtt://127.0.0.1:1", exitFailed}} {
		// a process of its own, as this one has ONNX Runtime open
		c := exec.CommandContext(t.Context(), os.Args[0], "check", "--json", "--state", d.state, "--broker", tt.broker)
		out, _ := c.Output()
		if got := c.ProcessState.ExitCode(); got != tt.code {
			t.Errorf("%s: exit %d, want %d\n%s", tt.broker, got, tt.code, out)
		}
		var names []string
		for line := range strings.Lines(string(out)) {
			var f map[string]any
			if err := json.Unmarshal([]byte(line), &f); err != nil || len(f) != 5 {
				t.Errorf("got %s (%v), want an object of five", line, err)
			}
			names = append(names, f["check"].(string))
			if f["check"] == "lock" && !strings.Contains(f["detail"].(string), "the agent, has the state") {
				t.Errorf("got %s, want that an agent runs", line)
			}
		}
		const want = "runtime providers clock disk memlock broker certificate access power slots lock"
		if got := strings.Join(names, " "); got != want {
			t.Errorf("got checks %s, want %s", got, want)
		}
	}
}

func TestAConfigurationThatIsWrongIsNotChecked(t *testing.T) {
	file := filepath.Join(t.TempDir(), "limber.toml")
	mustWrite(t, file, []byte("color = 1\n"))
	if got := limber(t, "check", "--config", file); got.code != exitFailed || !strings.Contains(got.stderr, "color") {
		t.Errorf("got %+v, want exit 1 and the key", got)
	}
}
