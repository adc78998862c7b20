package main

import (
	"iter"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/limber-edge/limber/agent/fleet"
	"github.com/limber-edge/limber/store"
)

// ran is what one call of the program left.
type ran struct {
	code           int
	stdout, stderr string
}

func limber(t *testing.T, args ...string) ran {
	t.Helper()
	var stdout, stderr strings.Builder
	code := run(t.Context(), args, &stdout, &stderr)
	return ran{code, stdout.String(), stderr.String()}
}

// complained checks that a call failed as it should: nothing printed, and one
// message that holds every part wanted.
func (r ran) complained(t *testing.T, code int, parts ...string) {
	t.Helper()
	if r.code != code || r.stdout != "" || !strings.HasPrefix(r.stderr, "limber: ") {
		t.Errorf("got exit %d, stdout %q, stderr %q; want exit %d and a message alone", r.code, r.stdout, r.stderr, code)
	}
	for _, part := range parts {
		if !strings.Contains(r.stderr, part) {
			t.Errorf("got message %q, want it to say %q", r.stderr, part)
		}
	}
}

func TestWrongUsageExitsWith2(t *testing.T) {
	for _, tt := range []struct {
		name string
		args []string
		says string
	}{
		{"unknown command", []string{"fly"}, "there is no `limber fly`; see `limber --help`"},
		{"unknown sub-command", []string{"family", "fly"}, "there is no `limber family fly`"},
		{"unknown flag", []string{"version", "--loud"}, "see `limber version --help`"},
		{"flag that wants a number", []string{"family", "build", "--size", "six"}, "--size"},
		{"argument too many", []string{"version", "now"}, "limber version wants no arguments, got 1"},
		{"access list for nothing", []string{"broker", "acl"}, "--for is missing"},
		{"logits without flags", []string{"family", "logits"}, "is missing"},
		{"desired mode that is none", []string{"fleet", "set", "desk", "--mode", "blanced"}, `--mode: mode "blanced" is not known; supported are balanced`},
		{"name of a device that is none", []string{"agent", "--check", "--device", "a b"}, `device: "a b" is not`},
		{"deadlines of a queue", []string{"bench", "governor", "--trace", "t", "--top1", "1", "--queue", "--deadlines", "3"}, "leave out --deadlines"},
		{"shadow that is over at once", []string{"bench", "shadow", "--slot", "10ms"}, "--slot: 10ms is under 1s"},
		{"overload that is over at once", []string{"bench", "overload", "--slot", "10ms"}, "--slot: 10ms is under 1s"},
		{"command that is good for no time", []string{"fleet", "mode", "desk", "balanced", "--ttl", "0"}, "--ttl: must be over 0"},
		{"command that is over", []string{"fleet", "goal", "desk", "--prefer", "energy", "--ttl", "-5s"}, "--ttl: must be over 0"},
		{"power mode without a name", []string{"fleet", "power", "desk", ""}, `"" is not a power mode; see`},
		{"power mode now and later", []string{"fleet", "power", "desk", "MAXN", "--at-reboot", "--allow-reboot"}, "both --at-reboot and --allow-reboot"},
		{"helper that may set nothing", []string{"power-helper"}, "--allow is missing"},
		{"helper for what is no mode", []string{"power-helper", "--allow", "MAXN,a b"}, `--allow: "a b" is not a power mode`},
		{"reports awaited in the past", []string{"fleet", "set", "desk", "--mode", "balanced", "--wait", "-1s"}, "--wait: must be over 0"},
		{"telemetry awaited in the past", []string{"fleet", "explain", "desk", "--wait", "-1s"}, "--wait: must be over 0"},
		{"devices by what no device has", []string{"fleet", "ls", "--where", "colour=red"}, "--where: position 1: \"colour\" is none of device"},
		{"a place under which a caret stands", []string{"fleet", "watch", "--where", "state=on,mode=x"}, "lost\n  state=on,mode=x\n        ^\n"},
		{"a place behind letters of two bytes", []string{"fleet", "events", "--where", "label.site=münchen, x"}, "\n  label.site=münchen, x\n                       ^\n"},
		{"severity that is none", []string{"fleet", "events", "--severity", "bad"}, `--severity: "bad" is none of info, warning, error`},
		{"device to be shown that is none", []string{"fleet", "show", "@all"}, `"@all" is no device`},
		{"telemetry for less than no time", []string{"fleet", "show", "desk", "--wait", "-1s"}, "--wait: must not be under 0"},
		{"label for nobody", []string{"fleet", "label"}, "wants a device"},
		{"label that is none", []string{"fleet", "label", "desk", "berlin"}, `"berlin" is no label: want KEY=VALUE`},
		{"group to be forgotten", []string{"fleet", "forget", "@all"}, `"@all" is no device`},
		{"verb that is none", []string{"fleet", "cmd", "a/b", "desk"}, `"a/b" is no verb`},
		{"payload that is none", []string{"fleet", "cmd", "mode", "desk", "--payload", "balanced"}, "--payload: JSON is malformed"},
		{"device awaited in the past", []string{"publish", "cat.jpg", "--wait", "-1s"}, "--wait: must be over 0"},
		{"goal with a deadline too short", []string{"fleet", "goal", "desk", "--deadline", "100us"}, "--deadline: 100µs is not from 1ms to 10m0s"},
		{"job with a deadline too long", []string{"publish", "cat.jpg", "--deadline", "11m"}, "--deadline: 11m0s is not from 1ms to 10m0s"},
		{"nothing to publish", []string{"publish"}, "limber publish"},
	} {
		t.Run(tt.name, func(t *testing.T) { limber(t, tt.args...).complained(t, exitUsage, tt.says) })
	}
}

func TestVersionNamesProgramAndPlatform(t *testing.T) {
	got := limber(t, "version")
	if fields := strings.Fields(got.stdout); got.code != exitDone || got.stderr != "" || len(fields) != 4 ||
		fields[0] != "limber" || !strings.Contains(fields[2], "/") || !strings.HasPrefix(fields[3], "go") {
		t.Errorf("got %+v; want exit 0 and `limber VERSION OS/ARCH goVERSION`", got)
	}
}

func TestEveryCommandHasHelpWithExamples(t *testing.T) {
	for c := range everyCommand(newRoot()) {
		args := strings.Fields(c.CommandPath())[1:]
		got := limber(t, append(args, "--help")...)
		if got.code != exitDone || got.stderr != "" || !strings.Contains(got.stdout, "Examples:\n  limber ") || !strings.Contains(got.stdout, "Flags:") {
			t.Errorf("%s --help: got %+v, want exit 0 and help with examples", c.CommandPath(), got)
		}
		if c.HasSubCommands() && c.Name() != "broker" && c.Name() != "agent" { // which run one
			if alone := limber(t, args...); alone != got {
				t.Errorf("%s: got %+v, want what its --help prints, and exit 0", c.CommandPath(), alone)
			}
		}
	}
}

// A text in backquotes is what pflag takes for the name of a flag's value.
func TestTheHelpOfAFlagNamesItsValueInAWord(t *testing.T) {
	for c := range everyCommand(newRoot()) {
		c.Flags().VisitAll(func(f *pflag.Flag) {
			if name, _ := pflag.UnquoteUsage(f); strings.Contains(name, " ") {
				t.Errorf("%s --%s: its value is called %q", c.CommandPath(), f.Name, name)
			}
		})
	}
}

// TestEveryCommandWithWhereTellsWhatItTakes looks at the conditions of the help, too.
func TestEveryCommandWithWhereTellsWhatItTakes(t *testing.T) {
	said := 0
	for line := range strings.Lines(whereHelp) {
		if example := strings.Fields(line); strings.HasPrefix(line, "  ") && strings.Contains(example[0], "=") {
			said++
			if _, err := fleet.ParseWhere(example[0]); err != nil {
				t.Errorf("%s: %v", example[0], err)
			}
		}
	}
	commands := 0
	for c := range everyCommand(newRoot()) {
		if c.Flags().Lookup("where") != nil {
			commands++
			args := append(strings.Fields(c.CommandPath())[1:], "--where", "shade=red")
			limber(t, args...).complained(t, exitUsage, "is none of device")
			if !strings.Contains(c.Long, whereHelp) {
				t.Errorf("%s: its help does not tell what --where takes", c.CommandPath())
			}
		}
	}
	if said < 15 || commands < 4 {
		t.Errorf("got %d conditions and %d commands, want them all", said, commands)
	}
}

func TestArgumentsTooManyExitWith2(t *testing.T) {
	for c := range everyCommand(newRoot()) {
		if c.HasSubCommands() || c.Name() == "publish" || c.Name() == "label" { // files, labels
			continue
		}
		args := append(strings.Fields(c.CommandPath())[1:], "a", "b", "c")
		limber(t, args...).complained(t, exitUsage, "got 3")
	}
}

// everyCommand goes through the commands that people are told of.
func everyCommand(c *cobra.Command) iter.Seq[*cobra.Command] {
	return func(yield func(*cobra.Command) bool) {
		open := []*cobra.Command{c}
		for len(open) > 0 {
			c, open = open[0], open[1:]
			if !c.Hidden && !yield(c) {
				return
			}
			open = append(open, c.Commands()...)
		}
	}
}

// The T4 rows that concern TOML: YAML's alias bombs do not exist in it.
func TestT4_ConfigurationErrorsNameTheLine(t *testing.T) {
	for _, tt := range []struct {
		name, toml string
		says       []string
	}{
		{"unknown key", "fleet = \"demo\"\n\nfleat = \"demo\"\n", []string{"line 3", "unknown key fleat"}},
		{"unknown key in a table", "[broker]\nurl = \"mqtt://h:1\"\nretries = 3\n", []string{"line 3", "unknown key broker.retries"}},
		{"two unknown keys", "a = 1\nb = 2\n", []string{"line 1: unknown key a", "line 2: unknown key b"}},
		{"wrong type", "[jobs]\nqueue = \"many\"\n", []string{"line 2"}},
		{"no TOML", "fleet: demo\n", []string{"line 1"}},
		{"key twice", "fleet = \"a\"\nfleet = \"b\"\n", []string{"line 2"}},
		{"values out of range", "device = \"a/b\"\n[jobs]\nqueue = 0\n", []string{`device: "a/b"`, "jobs.queue: 0"}},
		{"no time of day", "fleet = \"demo\"\n[[schedule]]\nat = \"7 am\"\nmode = \"balanced\"\n", []string{"line 3: schedule.at: 7 am is not a time of day"}},
		{"no day", "[[schedule]]\nat = \"07:00\"\ndays = [\"monday\"]\n", []string{"line 3: schedule.days: monday is none of mon"}},
		{"unknown key in a scheduled goal", "[[schedule]]\nat = \"07:00\"\n[schedule.goal]\nfloor = 0.5\n", []string{"line 4: unknown key schedule.goal.floor"}},
		{"schedules that say nothing", "[[schedule]]\nat = \"07:00\"\n[[schedule]]\nat = \"07:00\"\nmode = \"warp\"\n",
			[]string{"schedule: entry 1: neither mode nor goal", "schedule: entry 2: mode \"warp\"", "entries 1 and 2 have a moment in common, 07:00"}},
		{"10 MB", strings.Repeat("# padding\n", 1<<20), []string{"more than 1048576"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "limber.toml")
			mustWrite(t, path, []byte(tt.toml))
			limber(t, "agent", "--check", "--config", path, "--state", t.TempDir()).complained(t, exitFailed, tt.says...)
		})
	}
	t.Run("missing file", func(t *testing.T) {
		limber(t, "agent", "--check", "--config", filepath.Join(t.TempDir(), "none.toml")).complained(t, exitFailed, "none.toml")
	})
}

func TestCheckPrintsAConfigurationThatIsReadAgain(t *testing.T) {
	t.Setenv("ONNXRUNTIME_LIB", filepath.Join(t.TempDir(), "none.so"))
	first := limber(t, "agent", "--check", "--device", "cam-17", "--state", t.TempDir())
	if first.code != exitDone || !strings.Contains(first.stdout, "cam-17") || !strings.Contains(first.stdout, "# no inference: ") {
		t.Fatalf("got %+v; want exit 0, the device, and that there is no runtime", first)
	}
	path := filepath.Join(t.TempDir(), "limber.toml")
	mustWrite(t, path, []byte(first.stdout))
	if again := limber(t, "agent", "--check", "--config", path); again != first {
		t.Errorf("got %+v; want what was read: %+v", again, first)
	}
}

func TestCheckPrintsTheScheduleAndWhatItAsksForNow(t *testing.T) {
	path := filepath.Join(t.TempDir(), "limber.toml")
	mustWrite(t, path, []byte("[[schedule]]\nat = \"22:00\"\n[schedule.goal]\nmin_top1 = 0.75\nprefer = \"energy\"\n"))
	got := limber(t, "agent", "--check", "--config", path, "--state", t.TempDir())
	if got.code != exitDone || !strings.Contains(got.stdout, "[[schedule]]\nat = '22:00'") || !strings.Contains(got.stdout, "# schedule: since ") ||
		!strings.Contains(got.stdout, " 22:00 a top-1 of 0.75, rather energy, from ") {
		t.Errorf("got %+v; want the schedule, and what is in force", got)
	}
}

func TestT7_SecondAgentOnAStateFolderExitsWith3(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	st, err := store.Open(dir, store.Options{}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	limber(t, "agent", "--profile", "--state", dir).complained(t, exitLocked, "in use by another process")
	if got := limber(t, "agent", "--check", "--state", dir); got.code != exitDone || !strings.Contains(got.stdout, "an agent is running") {
		t.Errorf("got %+v; want --check to work beside a running agent", got)
	}
}

func mustWrite(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}
