package config_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent/config"
	"github.com/limber-edge/limber/agent/mqtt"
)

// configFile writes a configuration.
func configFile(tb testing.TB, text string) string {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), "limber.toml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		tb.Fatal(err)
	}
	return path
}

func TestDefaultIsValidAndReadsBack(t *testing.T) {
	want := config.Default()
	if err := want.Validate(); err != nil {
		t.Error(err)
	}
	b, err := want.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := config.Read(configFile(t, string(b))); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
	if got, err := config.Read(configFile(t, "")); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("empty file: got %+v, %v; want the default", got, err)
	}
}

func TestConfigChangesSingleKeys(t *testing.T) {
	got, err := config.Read(configFile(t, "device = \"cam-1\"\ngroups = [\"@gate\"]\n[broker]\nkeep_alive = \"7s\"\n"))
	want := config.Default()
	want.Device, want.Groups, want.Broker.KeepAlive.Duration = "cam-1", []string{"@gate"}, 7*time.Second
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
}

func TestT4_ConfigIsReadStrictly(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"misspelt key", "device = \"a\"\nflet = \"b\"", "line 2: unknown key flet"},
		{"misspelt key in a table", "[jobs]\nqueue = 5\nqueu = 5", "line 3: unknown key jobs.queu"},
		{"two of them", "a = 1\nb = 2", "line 2: unknown key b"},
		{"string for a number", "[jobs]\nqueue = \"many\"", "line 2: jobs.queue: wants a whole number, got a value of type string"},
		{"fraction for a number", "[jobs]\nqueue = 1.5", "line 2: jobs.queue: wants a whole number, got a value of type float"},
		{"number for a string", "fleet = 3", "line 1: fleet: wants a string, got a value of type integer"},
		{"no part of the day", "[updates]\nwindow = \"2-5\"", `line 2: updates.window: 2-5 is not a part of the day such as "02:00-05:00"`},
		{"number for a part of the day", "[updates]\nwindow = 2", `updates.window: 2 is not a part of the day`},
		{"number for yes or no", "[power]\nset_mode = 1", "line 2: power.set_mode: wants true or false, got a value of type integer"},
		{"number for keep", "[power]\nset_mode = true\nkeep = 1", "line 3: power.keep: wants true or false, got a value of type integer"},
		{"yes for a socket", "[power]\nsocket = true", "line 2: power.socket: wants a string, got a value of type bool"},
		{"misspelt key of a source", "[[source]]\nname = \"a\"\ntopik = \"b\"", "line 3: unknown key source.topik"},
		{"string for a rate", "[[source]]\nmax_fps = \"fast\"", "line 2: source.max_fps: wants a number, got a value of type string"},
		{"string for a top-1", "[[source]]\nmin_top1 = \"good\"", "line 2: source.min_top1: wants a number, got a value of type string"},
		{"number for sources", "source = 3", "line 1: source: wants a table, got a value of type integer"},
		{"string for a list", "groups = \"@a\"", "line 1: groups: wants a list of strings, got a value of type string"},
		{"table for a broker", "[broker.url]\na = 1", "broker.url"},
		{"numbers for brokers", "[broker]\nurl = [1]", "line 2: broker.url: wants a string, got a value of type integer"},
		{"number for a table", "jobs = 3", "line 1: jobs: wants a table, got a value of type integer"},
		{"date for a duration", "[telemetry]\nevery = 1979-05-27", `line 2: telemetry.every: wants a duration such as "5s", got a value of type local date`},
		{"number too large", "[jobs]\nqueue = 99999999999999999999", "line 2: jobs.queue: decimal number is too large"},
		{"number for a duration", "[telemetry]\nevery = 5", `telemetry.every: 5 is not a duration such as "200ms" or "5s"`},
		{"number for an age", "[outbox]\nmib = 5\nresults_age = -5", `outbox.results_age: -5 is not a duration`},
		{"number for a duration in a list", "[[source]]\nname = \"a\"\n[[source]]\ndeadline = true", `source.deadline: true is not a duration`},
		{"string for a size", "[outbox]\nfree_mib = \"much\"", "line 2: outbox.free_mib: wants a whole number, got a value of type string"},
		{"wrong age", "[outbox]\nevents_age = \"soon\"", `line 2: outbox.events_age: soon is not a duration such as "200ms" or "5s"`},
		{"wrong duration", "[telemetry]\nevery = \"soon\"", `line 2: telemetry.every: soon is not a duration such as "200ms" or "5s"`},
		{"table twice", "[jobs]\nqueue = 1\n[jobs]\nqueue = 2", "line 3: jobs: table jobs already exists"},
		{"control character", "fleet = \"a\x00\"", "line 1: basic strings cannot have control characters"},
		{"key twice", "device = \"a\"\ndevice = \"b\"", "line 2"},
		{"not TOML", "device: cam", "line 1"},
		{"too large", "#" + strings.Repeat(" ", 1<<20), "more than 1048576"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := config.Read(configFile(t, tt.text)); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want an error with %q", err, tt.want)
			}
		})
	}
	if _, err := config.Read(filepath.Join(t.TempDir(), "none.toml")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing file: got %v", err)
	}
}

func TestC9_ConfigIsJudgedAtOnce(t *testing.T) {
	c := config.Default()
	c.Fleet, c.Device, c.Mode, c.State = "a/b", "", "warp", ""
	c.Groups = []string{"gate", "@all"}
	c.Jobs.Queue, c.Jobs.PayloadMiB, c.Runtime.Threads, c.Outbox.MiB = 0, 17, 1_000_000, 0
	c.Governor.LogMiB = 1025
	c.Updates.KiBS, c.Updates.Sources, c.Updates.Repository = -1, []string{"ftp://a"}, []string{"file:///etc"}
	c.Power = config.Power{AllowReboot: true, Keep: true, Socket: "power.sock"}
	c.Telemetry.Every.Duration, c.Jobs.QueueMiB = 0, 2
	c.Runtime.Providers = []string{"cuda"}
	err := c.Validate()
	if err == nil {
		t.Fatal("no complaint")
	}
	for _, key := range []string{"fleet:", "device:", "mode:", "state:", "groups:", "@all", "jobs.queue:", "jobs.payload_mib:", "jobs.queue_mib:", "runtime.threads:", "runtime.providers:", "outbox.mib:", "telemetry.every:", "governor.log_mib:", "updates.kib_s:", "updates.sources:", "power.allow_reboot:", "power.keep:", "power.socket:", "updates.repository: source"} {
		if !strings.Contains(err.Error(), key) {
			t.Errorf("no complaint about %s in:\n%v", key, err)
		}
	}
}

func TestAGroupThatCannotBeIsComplainedAboutOnce(t *testing.T) {
	for want, groups := range map[string][]string{
		"groups: everybody is in @all, leave it out": {"@all"},
		"groups: @gate is named twice":               {"@gate", "@yard", "@gate"},
		`groups: "gate" is not @ and a name`:         {"gate"},
	} {
		c := config.Default()
		c.Groups = groups
		if err := c.Validate(); err == nil || err.Error() != want {
			t.Errorf("%q: got %v, want %s", groups, err, want)
		}
	}
}

func TestBrokersAreAListOrATextWithCommas(t *testing.T) {
	want := mqtt.URLs{"mqtt://a", "mqtts://b:8884", "wss://c/mqtt"}
	for _, text := range []string{
		`url = ["mqtt://a", "mqtts://b:8884", "wss://c/mqtt"]`, `url = "mqtt://a,mqtts://b:8884, wss://c/mqtt"`,
	} {
		c, err := config.Read(configFile(t, "[broker]\n"+text))
		if err != nil || !slices.Equal(c.Broker.URL, want) {
			t.Errorf("%s: got %q, %v; want %q", text, c.Broker.URL, err, want)
		}
		if err := c.Validate(); err != nil {
			t.Errorf("%s: %v", text, err)
		}
		if b, err := c.Marshal(); err != nil || !strings.Contains(string(b), "url = 'mqtt://a,mqtts://b:8884,wss://c/mqtt'") {
			t.Errorf("%s: written as %s, %v; want all of them", text, b, err)
		}
	}
}

func TestC9_LimitsOfTheOutboxAreJudgedBeforeTheStart(t *testing.T) {
	for key, change := range map[string]func(*config.Outbox){
		"outbox.mib: 0 ":             func(o *config.Outbox) { o.MiB = 0 },
		"outbox.mib: -1 ":            func(o *config.Outbox) { o.MiB = -1 },
		"outbox.results_mib: -1 ":    func(o *config.Outbox) { o.ResultsMiB = -1 },
		"outbox.events_mib: 65537 ":  func(o *config.Outbox) { o.EventsMiB = 65537 },
		"outbox.results_count: -5 ":  func(o *config.Outbox) { o.ResultsCount = -5 },
		"outbox.results_age: -1h0m0": func(o *config.Outbox) { o.ResultsAge.Duration = -time.Hour },
		"outbox.events_age: 5ms ":    func(o *config.Outbox) { o.EventsAge.Duration = 5 * time.Millisecond },
		"outbox.free_mib: -1 ":       func(o *config.Outbox) { o.FreeMiB = -1 },
		"outbox.replay_per_s: -1 ":   func(o *config.Outbox) { o.ReplayPerS = -1 },
		"outbox.replay_kib_s: -1 ":   func(o *config.Outbox) { o.ReplayKiBS = -1 },
	} {
		c := config.Default()
		change(&c.Outbox)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), key) {
			t.Errorf("got %v, want a complaint about %s", err, key)
		}
	}
	c := config.Default()
	c.Outbox = config.Outbox{MiB: 1}
	if err := c.Validate(); err != nil {
		t.Errorf("without limits but one: %v", err)
	}
}

func TestProvidersEndWithTheCPU(t *testing.T) {
	for _, tt := range []struct {
		names []string
		good  bool
	}{
		{[]string{"cpu"}, true}, {[]string{"tensorrt", "cuda", "cpu"}, true}, {nil, false}, {[]string{"cuda"}, false},
		{[]string{"cpu", "cuda"}, false}, {[]string{"cuda", "cuda", "cpu"}, false}, {[]string{"gpu", "cpu"}, false},
	} {
		c := config.Default()
		c.Runtime.Providers = tt.names
		if err := c.Validate(); (err == nil) != tt.good {
			t.Errorf("%q: got %v, want good: %t", tt.names, err, tt.good)
		}
	}
}

func TestC9_BrokerIsJudgedBeforeTheStart(t *testing.T) {
	for name, change := range map[string]func(*config.Config){
		"no broker":          func(c *config.Config) { c.Broker.URL = nil },
		"a number":           func(c *config.Config) { c.Broker.URL = mqtt.URLs{"1883"} },
		"other protocol":     func(c *config.Config) { c.Broker.URL = mqtt.URLs{"http://127.0.0.1"} },
		"reconnect backward": func(c *config.Config) { c.Broker.ReconnectMax.Duration = time.Millisecond },
		"no keep alive":      func(c *config.Config) { c.Broker.KeepAlive.Duration = 0 },
		"no password file":   func(c *config.Config) { c.Broker.PasswordFile = filepath.Join(c.State, "none") },
		"group named twice":  func(c *config.Config) { c.Groups = []string{"@gate", "@gate"} },
	} {
		c := config.Default()
		c.State = t.TempDir()
		change(&c)
		if err := c.Validate(); err == nil {
			t.Errorf("%s: no complaint", name)
		}
	}
}

func FuzzRead(f *testing.F) {
	b, err := config.Default().Marshal()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte("[[schedule]]\nat = \"07:00\"\ndays = [\"mon\"]\n[schedule.goal]\ndeadline = \"50ms\"\nmin_top1 = 0.5\n[[schedule]]\nat = \"22:00\"\nmode = \"balanced\"\n"))
	f.Add([]byte("[[source]]\nname = \"a\"\ntopic = \"cam/+/jpg\"\nmin_top1 = 0.0\nmax_fps = 2.5\ndeadline = \"50ms\"\n[frames]\nkeep = \"all\"\n"))
	f.Add([]byte("[broker]\nurl = 'mqtt://h'\n"))
	f.Add([]byte("[broker]\nurl = ['mqtt://h', 'ws://h/x']\n"))
	f.Add([]byte("[broker]\nurl = ['a,b', ' c']\n"))
	f.Add([]byte("[updates]\nsources = ['https://h/x']\nkib_s = 5\nwindow = '22:00-04:00'\nallow_force = true\n"))
	f.Add([]byte("device = \"a\"\nflet = \"b\""))
	path := filepath.Join(f.TempDir(), "limber.toml")
	f.Fuzz(func(t *testing.T, text []byte) {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := config.Read(path)
		if err != nil || c.Validate() != nil {
			return
		}
		back, err := c.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, back, 0o600); err != nil {
			t.Fatal(err)
		}
		if again, err := config.Read(path); err != nil || !reflect.DeepEqual(again, c) {
			t.Errorf("read %+v, wrote it, read %+v, %v", c, again, err)
		}
	})
}

func TestC9_APowerHelperIsASocketOrNone(t *testing.T) {
	for socket, sound := range map[string]bool{"": true, "/run/limber/power.sock": true, "power.sock": false,
		"/" + strings.Repeat("a", 106): true, "/" + strings.Repeat("a", 107): false} {
		c := config.Default()
		c.Power = config.Power{SetMode: true, AllowReboot: true, Keep: true, Socket: socket}
		if err := c.Validate(); (err == nil) != sound || err != nil && !strings.HasPrefix(err.Error(), "power.socket: ") {
			t.Errorf("%q: got %v, want sound %t", socket, err, sound)
		}
	}
}

func TestWhoMaySignIsAFileThatIsLookedAtBefore(t *testing.T) {
	for _, tt := range []struct{ name, root, repository, want string }{
		{"no file", "/nowhere/root.json", "http://a/r", "updates.root_file: open /nowhere/root.json"},
		{"something else", configFile(t, "{}"), "http://a/r", "is not the root of a repository"},
		{"no repository", "/nowhere/root.json", "", "updates.root_file: wants updates.repository"},
		{"nobody who signs", "", "http://a/r", "updates.repository: without updates.root_file"},
	} {
		c := config.Default()
		c.Updates.RootFile = tt.root
		if tt.repository != "" {
			c.Updates.Repository = []string{tt.repository}
		}
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q", tt.name, err, tt.want)
		}
	}
}
