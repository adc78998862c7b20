package brokerconfig

import (
	"os"
	"strconv"
	"strings"
	"testing"
)

// mosquittoSetting returns the value of a word in the file that is shipped.
func mosquittoSetting(tb testing.TB, word string) string {
	tb.Helper()
	text, err := os.ReadFile("mosquitto/mosquitto.conf")
	if err != nil {
		tb.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, word+" "); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

func TestShippedMosquittoLosesAtMostAMinuteToAPowerCut(t *testing.T) {
	if got := mosquittoSetting(t, "persistence"); got != "true" {
		t.Errorf("persistence: got %q, want true", got)
	}
	text := mosquittoSetting(t, "autosave_interval") // seconds; 0 is never, none is 30 minutes
	if got, err := strconv.Atoi(text); err != nil || got < 1 || got > 60 {
		t.Errorf("autosave_interval: got %q, want 1 to 60", text)
	}
	if got := mosquittoSetting(t, "autosave_on_changes"); got == "true" {
		t.Error("autosave_on_changes: got true, which makes the interval a count of changes")
	}
}
