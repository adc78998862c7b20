package config

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/limber-edge/limber/agent/blob"
	"github.com/limber-edge/limber/agent/governor"
	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/family/ort"
	"github.com/limber-edge/limber/firmware/repo"
)

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
	within("updates.kib_s", c.Updates.KiBS, 0, 1<<20, " KiB")
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
	groups, sources := validateGroups(c.Groups), c.Sources.validate()
	if groups != nil {
		c.Groups = nil // complained about: the link would again
	}
	if sources != nil {
		c.Sources = nil // likewise
	}
	return errors.Join(append(errs, groups, c.Updates.validate(), c.Metrics.validate(), c.Power.validate(), sources,
		c.Schedule.Validate(), c.validateLink())...)
}

// How long a release may have to prove itself. What it needs at least is the time to answer
// 20 frames.
const (
	trialLeast = 10 * time.Second
	trialMost  = 24 * time.Hour
)

// validate joins every complaint, with the root as it is now.
func (u Updates) validate() error {
	var errs []error
	for _, list := range []struct {
		key  string
		urls []string
	}{{"sources", u.Sources}, {"repository", u.Repository}} {
		if _, err := blob.ParseAllowed(list.urls); err != nil {
			errs = append(errs, fmt.Errorf("updates.%s: %w", list.key, err))
		}
	}
	if t := u.Trial.Duration; t < trialLeast || t > trialMost {
		errs = append(errs, fmt.Errorf("updates.trial: %v is not from %v to %v", t, trialLeast, trialMost))
	}
	switch {
	case u.RootFile == "" && len(u.Repository) > 0:
		errs = append(errs, errors.New("updates.repository: without updates.root_file nobody is trusted there: name its "+
			"metadata/1.root.json, in a file on the device"))
	case u.RootFile != "" && len(u.Repository) == 0:
		errs = append(errs, errors.New("updates.root_file: wants updates.repository as well, the URLs where signed metadata lies"))
	case u.RootFile != "":
		if _, err := repo.ReadRoot(u.RootFile); err != nil {
			errs = append(errs, fmt.Errorf("updates.root_file: %w", err))
		}
	}
	return errors.Join(errs...)
}

// longestSocket is the longest path that a socket may have on Linux, in bytes.
const longestSocket = 107

// validate names what would never take effect.
func (p Power) validate() error {
	var errs []error
	for _, needs := range []struct {
		key string
		set bool
	}{{"power.allow_reboot", p.AllowReboot}, {"power.keep", p.Keep}} {
		if needs.set && !p.SetMode {
			errs = append(errs, fmt.Errorf("%s: has no effect without power.set_mode = true", needs.key))
		}
	}
	if s := p.Socket; s != "" && (!filepath.IsAbs(s) || len(s) > longestSocket) {
		errs = append(errs, fmt.Errorf("power.socket: %q is not an absolute path of up to %d bytes, or empty for "+
			"no helper", s, longestSocket))
	}
	return errors.Join(errs...)
}

func validateGroups(names []string) error {
	var errs []error
	for i, g := range names {
		switch {
		case !wire.ValidGroup(g):
			errs = append(errs, fmt.Errorf("groups: %q is not @ and a name", g))
		case g == wire.Everybody:
			errs = append(errs, fmt.Errorf("groups: everybody is in %s, leave it out", g))
		case slices.Contains(names[:i], g):
			errs = append(errs, fmt.Errorf("groups: %s is named twice", g))
		}
	}
	return errors.Join(errs...)
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
	link, err := c.Link()
	if err == nil {
		_, err = mqtt.New(link, nil, nil) // starts nothing
	}
	if err != nil {
		return fmt.Errorf("broker: %w", err)
	}
	return nil
}
