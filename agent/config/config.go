// Package config is what a device is told before it starts: one file, over defaults
// that are complete.
//
//	Default ◀── Read: the keys of a TOML file ◀── flags
//	   └──▶ Validate ──▶ agent.New, package metrics
//	                        └─ Link, Outbox.Options, Source.Header
//
// A key stands here once: its name, its unit, its default and what it may be. What a
// key means is said where it takes effect; Link, Options and Header are the keys as
// those packages take them.
//
// The rule that makes it correct: nothing is guessed and nothing is let through. An
// unknown key is an error with its line, all complaints come at once, each names its
// key, and what a device would find out only after its start, such as a password file
// that is not there, is looked at before.
package config

import (
	"os"
	"path/filepath"
	"time"

	"github.com/limber-edge/limber/agent/control"
	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/family/ort"
	"github.com/limber-edge/limber/firmware/power"
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
	Updates   Updates          `toml:"updates"`
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

// Options are the bounds as the store has them.
func (o Outbox) Options() store.OutboxOptions {
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
	SetMode     bool   `toml:"set_mode"`     // change its power mode, for all programs
	AllowReboot bool   `toml:"allow_reboot"` // reboot it for a mode that takes it
	Keep        bool   `toml:"keep"`         // the mode that a command set last is set again when the agent starts
	Socket      string `toml:"socket"`       // of the helper that has the rights; empty: there is none
}

// Updates is when and from where its owner has the device take other families, and who
// must have signed them.
type Updates struct {
	RootFile   string         `toml:"root_file"`   // of a repository; empty: families need not be signed
	Repository []string       `toml:"repository"`  // URLs of that repository and of its mirrors
	Sources    []string       `toml:"sources"`     // URLs below which blobs may lie; else the controller is asked
	KiBS       int            `toml:"kib_s"`       // KiB of blobs a second; 0: no bound
	Window     control.Window `toml:"window"`      // in which a family or release may be activated; empty: always
	AllowForce bool           `toml:"allow_force"` // also outside of it and under the lock, where a command says so
	Trial      Duration       `toml:"trial"`       // that another release of the program has to prove itself
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
		Power:     Power{Socket: power.DefaultSocket},
		Updates:   Updates{Repository: []string{}, Sources: []string{}, Trial: Duration{Duration: 5 * time.Minute}},
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

// Address is that of the device.
func (c Config) Address() wire.Address { return wire.Address{Fleet: c.Fleet, Device: c.Device} }

// Link is the configuration of the device's connection.
func (c Config) Link() (mqtt.Config, error) {
	m, err := c.Broker.Config(c.Device)
	if err != nil {
		return mqtt.Config{}, err
	}
	b := c.Broker
	m.KeepAlive, m.BackoffMin, m.BackoffMax = b.KeepAlive.Duration, b.ReconnectMin.Duration, b.ReconnectMax.Duration
	m.MaxPayload = c.Jobs.PayloadMiB << 20
	self := c.Address()
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
