package agent

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"

	"github.com/limber-edge/limber/agent/control"
	"github.com/limber-edge/limber/agent/governor"
	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/family/ort"
	"github.com/limber-edge/limber/store"
)

// Config is what a device is told. Default is complete; a file changes single
// keys of it; Validate judges it all at once.
type Config struct {
	Fleet    string   `toml:"fleet"`
	Device   string   `toml:"device"`
	Groups   []string `toml:"groups"` // "@name"; everybody is in @all
	State    string   `toml:"state"`  // folder
	Mode     string   `toml:"mode"`   // until an operator or the schedule sets another
	LogLevel string   `toml:"log_level"`

	Broker    Broker           `toml:"broker"`
	Jobs      Jobs             `toml:"jobs"`
	Frames    Frames           `toml:"frames"`
	Outbox    Outbox           `toml:"outbox"`
	Telemetry Telemetry        `toml:"telemetry"`
	Metrics   Metrics          `toml:"metrics"`
	Governor  Governor         `toml:"governor"`
	Runtime   Runtime          `toml:"runtime"`
	Power     Power            `toml:"power"`
	Schedule  control.Schedule `toml:"schedule,omitempty"`
	Sources   Sources          `toml:"source,omitempty"`
}

// Duration is a time.Duration that is written "200ms" or "5s".
type Duration = control.Duration

// Broker is the connection to the broker.
type Broker struct {
	mqtt.Broker
	KeepAlive    Duration `toml:"keep_alive"`
	ReconnectMin Duration `toml:"reconnect_min"` // ceiling of the first pause
	ReconnectMax Duration `toml:"reconnect_max"` // ceiling of any pause, unless another client has the same id
}

// Jobs bounds what may wait.
type Jobs struct {
	Queue      int `toml:"queue"`       // jobs
	QueueMiB   int `toml:"queue_mib"`   // MiB of encoded frames
	PayloadMiB int `toml:"payload_mib"` // MiB of one frame
}

// Outbox bounds what waits for a broken link.
type Outbox struct {
	MiB          int      `toml:"mib"`         // MiB of all together; the oldest results go first, then the oldest events
	ResultsMiB   int      `toml:"results_mib"` // MiB of results alone; 0: no bound of their own, likewise
	EventsMiB    int      `toml:"events_mib"`  // MiB of events alone
	ResultsCount int      `toml:"results_count"`
	ResultsAge   Duration `toml:"results_age"` // running time; 0: no bound
	EventsAge    Duration `toml:"events_age"`
	FreeMiB      int      `toml:"free_mib"`      // MiB that stay free on the file system of the state
	DurableFirst bool     `toml:"durable_first"` // an answer is held back until it is on the disk
	// How fast results that were made without the link are sent, a second; 0: as the link takes them
	ReplayPerS int `toml:"replay_per_s"`
	ReplayKiBS int `toml:"replay_kib_s"`
}

// options are the bounds as the store has them.
func (o Outbox) options() store.OutboxOptions {
	return store.OutboxOptions{
		Quota: int64(o.MiB) << 20, Results: int64(o.ResultsMiB) << 20, Events: int64(o.EventsMiB) << 20,
		Count: o.ResultsCount, ResultsAge: o.ResultsAge.Duration, EventsAge: o.EventsAge.Duration,
		Free: int64(o.FreeMiB) << 20, DurableFirst: o.DurableFirst,
	}
}

// Telemetry is what the device tells of itself.
type Telemetry struct {
	Every Duration `toml:"every"`
}

// Governor is what it may do beyond its mode, and what is kept of its decisions.
type Governor struct {
	// Cascade is the probability from which on the smallest member's answer is
	// taken; below it the member that was chosen looks as well. 0 is no cascade.
	Cascade float64 `toml:"cascade"`
	LogMiB  int     `toml:"log_mib"` // MiB of each decisions*.log and its .log.1; 0 is no log
}

// Runtime is how members run.
type Runtime struct {
	Threads int `toml:"threads"` // inside one inference on the CPU; 0: one, or more while others leave processors free
	// Providers are execution providers by preference. The CPU is the last: it
	// serves until another one is ready, and where none is.
	Providers []string `toml:"providers"`
}

// Power is what its owner lets operators do to the board.
type Power struct {
	SetMode bool `toml:"set_mode"` // change its power mode, for all programs
}

// Default is the device `desk` of the fleet `demo`, which meets `limber broker`
// on this machine.
func Default() Config {
	link := mqtt.Default()
	return Config{
		Fleet: wire.DefaultFleet, Device: wire.DefaultDevice, Groups: []string{}, State: stateFolder(), Mode: "balanced",
		LogLevel: "info",
		Broker: Broker{
			Broker: mqtt.DefaultBroker(), KeepAlive: Duration{Duration: link.KeepAlive},
			ReconnectMin: Duration{Duration: link.BackoffMin}, ReconnectMax: Duration{Duration: link.BackoffMax},
		},
		Jobs:   Jobs{Queue: 1024, QueueMiB: 64, PayloadMiB: 4},
		Frames: Frames{Keep: KeepNewest, Orientation: OrientEXIF},
		Outbox: Outbox{MiB: 64, ResultsAge: Duration{Duration: 24 * time.Hour},
			EventsAge: Duration{Duration: 7 * 24 * time.Hour}, FreeMiB: 256, ReplayPerS: 200, ReplayKiBS: 1024},
		Telemetry: Telemetry{Every: Duration{Duration: 5 * time.Second}},
		Runtime:   Runtime{Providers: []string{ort.CPU}},
	}
}

// stateFolder is where a device keeps its state if nothing else is said: the
// system's place for root, the XDG place for everybody else.
func stateFolder() string {
	if os.Geteuid() == 0 {
		return "/var/lib/limber"
	}
	if dir := os.Getenv("XDG_STATE_HOME"); dir != "" {
		return filepath.Join(dir, "limber")
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "limber-state" // no home: beside where it was started
	}
	return filepath.Join(home, ".local", "state", "limber")
}

// maxConfig bounds the configuration file, in bytes.
const maxConfig = 1 << 20

// ReadConfig reads a TOML file over the defaults. Unknown keys are errors with
// their line.
func ReadConfig(path string) (Config, error) {
	info, err := os.Stat(path)
	if err == nil && info.Size() > maxConfig {
		err = fmt.Errorf("%s has %d bytes, more than %d", path, info.Size(), maxConfig)
	}
	var b []byte
	if err == nil {
		b, err = os.ReadFile(path)
	}
	if err != nil {
		return Config{}, fmt.Errorf("configuration: %w", err)
	}
	c, err := parseConfig(b)
	if err != nil {
		return Config{}, fmt.Errorf("configuration %s: %w", path, err)
	}
	return c, nil
}

func parseConfig(b []byte) (Config, error) {
	c := Default()
	dec := toml.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	err := dec.Decode(&c)
	var strict *toml.StrictMissingError
	var wrong *toml.DecodeError
	switch {
	case errors.As(err, &strict):
		var errs []error
		for _, e := range strict.Errors {
			line, _ := e.Position()
			errs = append(errs, fmt.Errorf("line %d: unknown key %s", line, strings.Join(e.Key(), ".")))
		}
		return Config{}, errors.Join(errs...)
	case errors.As(err, &wrong):
		line, _ := wrong.Position()
		return Config{}, fmt.Errorf("line %d: %s", line, plain(wrong))
	case err != nil: // of a type of ours, and without the key
		var doc map[string]any
		if toml.Unmarshal(b, &doc) == nil {
			err = fmt.Errorf("%s: %w", culprit(doc, refused), err)
		}
		return Config{}, err
	}
	return c, nil
}

// refused tells whether a document cannot be decoded.
func refused(doc map[string]any) bool {
	b, err := toml.Marshal(doc)
	return err != nil || toml.Unmarshal(b, new(Config)) != nil
}

// culprit names a key that is the reason why a document is refused.
func culprit(doc map[string]any, refused func(map[string]any) bool) string {
	for key, value := range doc {
		if !refused(map[string]any{key: value}) {
			continue
		}
		if table, ok := value.(map[string]any); ok {
			return key + "." + culprit(table, func(in map[string]any) bool { return refused(map[string]any{key: in}) })
		}
		tables, _ := value.([]any)
		for _, each := range tables {
			within := func(in map[string]any) bool { return refused(map[string]any{key: []any{in}}) }
			if table, ok := each.(map[string]any); ok && within(table) {
				return key + "." + culprit(table, within)
			}
		}
		return key
	}
	return ""
}

// plain says what is wrong with a value in the words of the file.
func plain(e *toml.DecodeError) string {
	text := strings.TrimPrefix(e.Error(), "toml: ")
	key := strings.Join(e.Key(), ".")
	if key == "" {
		return text
	}
	given, field, ok := strings.Cut(strings.TrimPrefix(text, "cannot decode TOML "), " into struct field ")
	if !ok {
		return key + ": " + strings.TrimPrefix(text, "toml: ")
	}
	_, kind, _ := strings.Cut(field, " of type ")
	kind = strings.TrimPrefix(kind, "*")
	wants, ok := map[string]string{
		"int": "a whole number", "string": "a string", "[]string": "a list of strings", "bool": "true or false",
		"control.Duration":  `a duration such as "5s"`,
		"control.TimeOfDay": `a time of day such as "07:00"`, "[]control.Weekday": `a list of days such as "mon"`,
		"float64": "a number",
	}[kind]
	if !ok {
		wants = "a table"
	}
	return fmt.Sprintf("%s: wants %s, got a value of type %s", key, wants, given)
}

// Marshal writes the configuration as a file that ReadConfig reads.
func (c Config) Marshal() ([]byte, error) { return toml.Marshal(c) }

// ReservedName tells whether the device has the name of a user of the access list,
// whose rights it would have.
func (c Config) ReservedName() bool { return wire.ValidName(c.Device) && !wire.ValidDevice(c.Device) }

// Validate joins every complaint.
func (c Config) Validate() error {
	var errs []error
	complain := func(bad bool, format string, args ...any) {
		if bad {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	complain(!wire.ValidName(c.Fleet), "fleet: %q is not [A-Za-z0-9_.-]{1,64}", c.Fleet)
	complain(!wire.ValidName(c.Device), "device: %q is not [A-Za-z0-9_.-]{1,64}", c.Device)
	complain(c.ReservedName(), "device: %q is the user who may do more than a device: give it another name", c.Device)
	for _, g := range c.Groups {
		complain(!wire.ValidGroup(g), "groups: %q is not @ and a name", g)
		complain(g == wire.Everybody, "groups: everybody is in %s, leave it out", g)
	}
	complain(c.State == "", "state: wants a folder")
	_, err := governor.ParseMode(c.Mode)
	complain(err != nil, "mode: %w", err)
	complain(!strings.Contains(" debug info warn error ", " "+c.LogLevel+" "),
		"log_level: %q is not debug, info, warn or error", c.LogLevel)
	within := func(key string, v, least, most int, unit string) {
		complain(v < least || v > most, "%s: %d is not from %d to %d%s", key, v, least, most, unit)
	}
	within("jobs.queue", c.Jobs.Queue, 1, 1<<20, "")
	within("jobs.queue_mib", c.Jobs.QueueMiB, 1, 4096, " MiB")
	within("jobs.payload_mib", c.Jobs.PayloadMiB, 1, 16, " MiB")
	within("outbox.mib", c.Outbox.MiB, 1, 65536, " MiB")
	within("outbox.results_mib", c.Outbox.ResultsMiB, 0, 65536, " MiB")
	within("outbox.events_mib", c.Outbox.EventsMiB, 0, 65536, " MiB")
	within("outbox.results_count", c.Outbox.ResultsCount, 0, 1<<30, "")
	within("outbox.replay_per_s", c.Outbox.ReplayPerS, 0, 1<<20, "")
	within("outbox.replay_kib_s", c.Outbox.ReplayKiBS, 0, 1<<20, " KiB")
	within("outbox.free_mib", c.Outbox.FreeMiB, 0, 1<<20, " MiB")
	aged := func(key string, d time.Duration) {
		complain(d != 0 && (d < time.Second || d > 10*365*24*time.Hour), "%s: %v is not from 1s to ten years, or 0 for "+
			"no bound", key, d)
	}
	aged("outbox.results_age", c.Outbox.ResultsAge.Duration)
	aged("outbox.events_age", c.Outbox.EventsAge.Duration)
	complain(c.Jobs.QueueMiB < c.Jobs.PayloadMiB, "jobs.queue_mib: %d is less than one frame may have, "+
		"jobs.payload_mib = %d", c.Jobs.QueueMiB, c.Jobs.PayloadMiB)
	every := c.Telemetry.Every.Duration
	complain(every < 100*time.Millisecond || every > time.Hour, "telemetry.every: %v is not from 100ms to 1h", every)
	complain(c.Governor.LogMiB < 0 || c.Governor.LogMiB > 1024, "governor.log_mib: %d is not from 1 to 1024 MiB, or 0 "+
		"for no log", c.Governor.LogMiB)
	complain(!(c.Governor.Cascade >= 0 && c.Governor.Cascade <= 1), "governor.cascade: %v is not a probability",
		c.Governor.Cascade)
	complain(c.Runtime.Threads < 0 || c.Runtime.Threads > 64, "runtime.threads: %d is not from 1 to 64, or 0 for what "+
		"the load allows", c.Runtime.Threads)
	complain(!validProviders(c.Runtime.Providers), "runtime.providers: %q: wants names of %q, each once, and %q last: "+
		"it serves until another one is ready",
		c.Runtime.Providers, ort.Providers(), ort.CPU)
	complain(c.Frames.Keep != KeepNewest && c.Frames.Keep != KeepAll, "frames.keep: %q is not %s or %s", c.Frames.Keep,
		KeepNewest, KeepAll)
	complain(c.Frames.Orientation != OrientEXIF && c.Frames.Orientation != OrientStored,
		"frames.orientation: %q is not %s or %s", c.Frames.Orientation, OrientEXIF, OrientStored)
	sources := c.Sources.validate()
	if sources != nil {
		c.Sources = nil // complained about
	}
	return errors.Join(append(errs, c.Metrics.validate(), sources, c.Schedule.Validate(), c.validateLink())...)
}

func validProviders(names []string) bool {
	for i, name := range names {
		if !slices.Contains(ort.Providers(), name) || slices.Contains(names[:i], name) {
			return false
		}
	}
	return len(names) > 0 && names[len(names)-1] == ort.CPU
}

// validateLink says why there can be no connection, with the files it names as
// they are now.
func (c Config) validateLink() error {
	link, err := c.link()
	if err == nil {
		_, err = mqtt.New(link, nil, nil) // starts nothing
	}
	if err != nil {
		return fmt.Errorf("broker: %w", err)
	}
	return nil
}

func (c Config) address() wire.Address { return wire.Address{Fleet: c.Fleet, Device: c.Device} }

// link is the configuration of the device's connection.
func (c Config) link() (mqtt.Config, error) {
	m, err := c.Broker.Config(c.Device)
	if err != nil {
		return mqtt.Config{}, err
	}
	b := c.Broker
	m.KeepAlive, m.BackoffMin, m.BackoffMax = b.KeepAlive.Duration, b.ReconnectMin.Duration, b.ReconnectMax.Duration
	m.MaxPayload = c.Jobs.PayloadMiB << 20
	self := c.address()
	for _, kind := range []wire.Kind{wire.KindJob, wire.KindFrame, wire.KindCmd, wire.KindDesired, wire.KindSynced} {
		m.Subscriptions = append(m.Subscriptions, mqtt.Subscription{Filter: self.Filter(kind), QoS: 1})
	}
	// QoS 0: what does not come is asked for again
	m.Subscriptions = append(m.Subscriptions, mqtt.Subscription{Filter: self.Filter(wire.KindBlob)})
	for _, g := range append([]string{wire.Everybody}, c.Groups...) {
		group := wire.Address{Fleet: c.Fleet, Device: g}
		for _, kind := range []wire.Kind{wire.KindCmd, wire.KindDesired} {
			m.Subscriptions = append(m.Subscriptions, mqtt.Subscription{Filter: group.Filter(kind), QoS: 1})
		}
	}
	for _, s := range c.Sources { // QoS 0: nobody would wait for an old picture
		m.Subscriptions = append(m.Subscriptions, mqtt.Subscription{Filter: s.Topic})
	}
	return m, nil
}
