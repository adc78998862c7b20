package main

import (
	"encoding/json"
	"io"
	"strings"
	"testing"

	"github.com/limber-edge/limber/broker-config/brokercheck"
)

func TestACheckedBrokerIsALineForEachCheckAndExit1WhereOneFails(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		device  string
		code    int
		skipped int
		fails   []string
	}{
		{"", exitDone, 2, nil},
		{"cam-1", exitDone, 0, nil},
		{"operator", exitFailed, 0, []string{"denied_subscribe", "denied_publish"}}, // who may do everything
	} {
		t.Run("device "+tt.device, func(t *testing.T) {
			t.Parallel()
			got := limber(t, "broker", "check", "--broker", mustBroker(t), "--device-user", tt.device, "--json")
			if got.code != tt.code {
				t.Errorf("exit %d, want %d: %s", got.code, tt.code, got.stderr)
			}
			var names, fails []string
			skipped := 0
			for _, r := range mustReadResults(t, got.stdout) {
				names = append(names, r.Check)
				if !r.OK {
					fails = append(fails, r.Check)
					t.Logf("%s: %s", r.Check, r.Got)
				}
				if r.Got == "skipped" {
					skipped++
				}
			}
			if want := strings.Join(brokercheck.Names(), " "); strings.Join(names, " ") != want {
				t.Errorf("checked %v, want %s", names, want)
			}
			if strings.Join(fails, " ") != strings.Join(tt.fails, " ") || skipped != tt.skipped {
				t.Errorf("%v fail and %d are skipped, want %v and %d", fails, skipped, tt.fails, tt.skipped)
			}
		})
	}
}

// mustReadResults reads what --json prints.
func mustReadResults(t *testing.T, text string) (results []brokercheck.Result) {
	t.Helper()
	for dec := json.NewDecoder(strings.NewReader(text)); ; {
		dec.DisallowUnknownFields()
		var r brokercheck.Result
		if err := dec.Decode(&r); err == io.EOF {
			return results
		} else if err != nil {
			t.Fatal(err)
		}
		results = append(results, r)
	}
}

func TestACheckedBrokerIsATableWithRemedies(t *testing.T) {
	t.Parallel()
	broker := mustBroker(t)
	got := limber(t, "broker", "check", "--broker", broker, "--device-user", "operator")
	if got.code != exitFailed || !strings.Contains(got.stderr, "2 of 16 checks do not hold for the broker "+broker) {
		t.Errorf("exit %d, %q; want 1 and how many fail", got.code, got.stderr)
	}
	lines := strings.Split(strings.TrimSpace(got.stdout), "\n")
	if len(lines) != 1+len(brokercheck.Names()) {
		t.Fatalf("got %d lines, want a head and one for each check:\n%s", len(lines), got.stdout)
	}
	for i, name := range brokercheck.Names() {
		line, holds := lines[i+1], "yes"
		if strings.HasPrefix(name, "denied_") {
			holds = "no"
		}
		f, remedy := strings.Fields(line), strings.Contains(line, "access list")
		if f[0] != name || f[1] != holds || remedy != (holds == "no") {
			t.Errorf("line %d is %q, want %s %s, with a remedy where it fails", i+1, line, name, holds)
		}
	}
}

func TestABrokerThatIsNotThereCannotBeChecked(t *testing.T) {
	limber(t, "broker", "check", "--broker", "127.0.0.1:1").complained(t, exitFailed, "127.0.0.1:1", "refused")
	limber(t, "broker", "check", "--device-cert-file", "/nowhere.crt").complained(t, exitFailed, "/nowhere.crt")
}
