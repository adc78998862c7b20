package fleet

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/limber-edge/limber/agent/wire"
)

// Whole is all that is known of a device, as JSON has it.
type Whole struct {
	Device
	Desired    *wire.Desired   `json:"desired,omitempty"`     // of its own
	DesiredOf  string          `json:"desired_of,omitempty"`  // whose desired state is the last that is meant for it
	DesiredNow *wire.Desired   `json:"desired_now,omitempty"` // and which it is
	Telemetry  *wire.Telemetry `json:"telemetry,omitempty"`   // the last
	Events     []Event         `json:"events,omitempty"`      // the last, oldest first
}

// Whole is all that is known of a device.
func (r *Registry) Whole(name string) Whole {
	r.mu.Lock()
	defer r.mu.Unlock()
	d := r.device(name)
	w := Whole{Device: d, Desired: d.Desired, Telemetry: d.Telemetry, Events: d.Events}
	for _, whose := range append([]string{name, wire.Everybody}, d.caps().Groups...) {
		if is := r.device(whose).Desired; is != nil && (w.DesiredNow == nil || is.Version > w.DesiredNow.Version) {
			w.DesiredOf, w.DesiredNow = whose, is
		}
	}
	return w
}

// Whole is all that is known of a device and, where it is online, comes with its next
// telemetry, which it waits for no longer than patience. Its error is ctx's, or that
// nothing is known of the device.
func (c *Client) Whole(ctx context.Context, device string, patience time.Duration) (Whole, error) {
	d := c.registry.Device(device)
	if d.Online() && patience > 0 {
		wait, stop := context.WithTimeout(ctx, patience)
		defer stop()
		c.AwaitTelemetry(wait, device, nil) // without it the rest is shown
	}
	if ctx.Err() != nil {
		return Whole{}, ctx.Err()
	}
	w := c.registry.Whole(device)
	if !w.There() && w.Labels == nil && w.Desired == nil {
		return w, fmt.Errorf("nothing is known of a device %s; see `limber fleet ls`", device)
	}
	return w, nil
}

// Fact is something that is known of a device, in words.
type Fact struct{ Name, Value string }

// Facts is what is known of the device at a time, in words with units; nothing of what is
// not known. Those of one name follow one another.
func (w Whole) Facts(now time.Time) []Fact {
	f := &facts{now: now}
	f.presence(w.State)
	f.add("labels", labelList(w.Labels))
	f.software(w.caps())
	f.aim(w)
	f.members(w.caps(), w.report().Member)
	f.updates(w.caps())
	if w.Telemetry != nil {
		f.telemetry(w.Telemetry)
	}
	for _, e := range w.Events {
		f.add("event", stamp(e.TS)+"  "+e.Sentence())
	}
	return f.all
}

// Sentence is what the event tells of, on one line.
func (e Event) Sentence() string {
	line := fmt.Sprintf("%s %s", e.Severity, e.Kind)
	if e.From != "" && e.Member != "" {
		line += fmt.Sprintf(" from %s to %s", e.From, e.Member)
	}
	if e.Detail != "" {
		line += ": " + e.Detail
	}
	if e.Count > 1 {
		line += fmt.Sprintf(" (%d of this kind)", e.Count)
	}
	return Printable(line)
}

// facts are being collected.
type facts struct {
	now time.Time
	all []Fact
}

// add adds a fact, if it says anything.
func (f *facts) add(name, value string) {
	if value != "" {
		f.all = append(f.all, Fact{name, Printable(value)})
	}
}

func (f *facts) presence(s *wire.State) {
	if s == nil {
		return
	}
	if s.State == wire.Lost { // its time is that of the connection, with which the will was left
		f.add("state", fmt.Sprintf("%s, nobody knows since when; it connected %s", s.State, stamp(s.TS)))
	} else {
		f.add("state", fmt.Sprintf("%s for %s, since %s", s.State, Age(f.now.Sub(s.TS.Time)), stamp(s.TS)))
	}
	f.add("detail", s.Detail)
	f.add("connection", fmt.Sprintf("%d of boot %s", s.ConnSeq, s.BootID))
}

// stamp is a time as people read it.
func stamp(t wire.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }

// labelList is KEY=VALUE, by keys.
func labelList(labels map[string]string) string {
	var all []string
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		all = append(all, key+"="+labels[key])
	}
	return strings.Join(all, ", ")
}

func (f *facts) software(c wire.Caps) {
	f.add("machine", c.Machine)
	f.add("agent", c.Versions.Agent)
	f.add("arch", c.Arch)
	if r := c.Release; r != nil {
		f.add("release", releaseName(*r)+", in slot "+r.Slot)
	}
	f.add("runtime", c.Versions.Runtime)
	f.add("groups", strings.Join(c.Groups, ", "))
	f.add("verbs", strings.Join(c.Verbs, ", "))
	if p := c.Power; p != nil {
		f.add("power mode", fmt.Sprintf("%s of %s", cmp.Or(p.Mode, "unknown"), strings.Join(powerModes(*p), ", ")))
	}
	if c.Family != nil {
		f.add("family", familyName(*c.Family))
	}
	if p := c.Profile; p != nil {
		text := fmt.Sprintf("measured %s by %s on %s", stamp(p.TS), p.Provider, Count(p.Threads, "thread"))
		if p.OthersPercent != nil {
			text += fmt.Sprintf(", others had %.0f %% of the CPU", *p.OthersPercent)
		}
		f.add("profile", text)
	}
}

// powerModes are the names, with what is known of each.
func powerModes(p wire.Power) (modes []string) {
	for i, name := range p.Modes {
		if i < len(p.List) && p.List[i].Reboot == wire.RebootRequired {
			name += " (takes a reboot)"
		}
		modes = append(modes, name)
	}
	return modes
}

func familyName(f wire.Family) string { return f.Name + ", " + f.Digest }

func releaseName(r wire.Release) string {
	if r.Digest == "" {
		return r.Version
	}
	return r.Version + ", " + r.Digest
}

// backTo says what an update that was rolled back has left in use.
func backTo(release bool) string {
	if release {
		return "the release before runs again"
	}
	return "the family before is in use again"
}

// updateName is what an update is of.
func updateName(f wire.Family, r *wire.Release) string {
	if r != nil {
		return "release " + releaseName(*r)
	}
	return familyName(f)
}

// Count is so many of something, in words.
func Count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// aim is what the device is to pursue, and what it does.
func (f *facts) aim(w Whole) {
	if r := w.Reported; r != nil {
		f.add("pursues", wire.Aim{Mode: r.Mode, Goal: r.Goal}.String())
		text := fmt.Sprintf("version %d, %s", r.Version, r.Status)
		if r.Version == 0 {
			text = "no desired state yet"
		}
		if r.Reason != "" {
			text += fmt.Sprintf(" (%s)", r.Reason)
		}
		if r.Detail != "" {
			text += ": " + r.Detail
		}
		f.add("reported", text)
	}
	if d := w.DesiredNow; d != nil {
		f.add("desired", fmt.Sprintf("version %d of %s: %s", d.Version, w.DesiredOf, d.Aim()))
	}
}

func (f *facts) members(c wire.Caps, operating string) {
	for _, m := range c.Members {
		text := fmt.Sprintf("%s: top-1 %.1f %%", m.Name, 100*m.Top1)
		if m.P50MS != nil && m.P95MS != nil {
			text += fmt.Sprintf(", p50 %.2f ms, p95 %.2f ms", *m.P50MS, *m.P95MS)
		} else {
			text += ", not measured yet"
		}
		text += fmt.Sprintf(", %.1f million MACs, %dx%d", m.MMACs, m.Resolution, m.Resolution)
		if m.Name == operating {
			text += ", operating"
		}
		f.add("member", text)
	}
}

func (f *facts) updates(c wire.Caps) {
	if u := c.Update; u != nil {
		text := fmt.Sprintf("%s, %s, by command %s", u.Step, updateName(u.Family, u.Release), u.ID)
		if u.Detail != "" {
			text += ": " + u.Detail
		}
		f.add("update", text)
	}
	if u := c.LastUpdate; u != nil {
		text := string(u.State)
		if u.Reason != "" {
			text += fmt.Sprintf(" (%s)", u.Reason)
		}
		if u.RolledBack {
			text += ", " + backTo(u.Release != nil)
		}
		text += fmt.Sprintf(", %s, by command %s at %s", updateName(u.Family, u.Release), u.ID, stamp(u.TS))
		if u.Detail != "" {
			text += ": " + u.Detail
		}
		if u.Shadow != nil && u.Shadow.Frames > 0 {
			text += "; " + agreementWords(*u.Shadow)
		}
		f.add("last update", text)
	}
}

// telemetry is the condition of the device. Absent is unknown.
func (f *facts) telemetry(t *wire.Telemetry) {
	f.add("telemetry", "of "+stamp(t.TS))
	f.add("jobs", fmt.Sprintf("%d received, %d refused, %d late, %d superseded; %d wait", t.Jobs, t.Refused, t.Missed,
		t.Superseded, t.Queue))
	f.join("inference", value("p50 %.2f ms", t.P50MS), value("p95 %.2f ms", t.P95MS),
		value("%.2f times as long as unloaded", t.Slowdown))
	f.join("processor", value("%.0f %% busy", t.CPUPercent), value("%.0f %% by others", t.OthersPercent),
		value("tasks wait %.0f %% of the time", t.Pressure), value("load %.2f", t.Load1),
		value("%.0f %% of its clock", t.ClockPercent), when(t.Throttled, "throttled"))
	f.join("GPU", value("%.0f %% busy", t.GPUPercent))
	f.join("memory", value("%.0f %% used", t.MemPercent), value("%.0f %% left to the agent", t.MemHeadroom),
		value("tasks wait for it %.0f %% of the time", t.MemPressure))
	var heat []string
	for _, sensor := range slices.Sorted(maps.Keys(t.TempsC)) {
		heat = append(heat, fmt.Sprintf("%s %.1f °C", sensor, t.TempsC[sensor]))
	}
	f.join("heat", append(heat, value("%+.1f °C a minute", t.TempTrend), when(t.NearTrip, "near its limit"))...)
	f.join("power", value("%.2f W", t.PowerW), value("%.2f W idle", t.IdleW),
		value("%.2f W more while one runs", t.ActiveW), value("%.3f J an inference", t.Joules),
		value("%.4f s of processors an inference", t.CPUSeconds))
	if t.Outbox > 0 {
		f.add("outbox", Count(t.Outbox, "message")+" waiting for the link")
	}
	f.join("clock", value("an operator's is %+.0f ms ahead", t.ClockOffset))
}

// join adds a fact of parts, of which some may be empty.
func (f *facts) join(name string, parts ...string) {
	f.add(name, strings.Join(slices.DeleteFunc(parts, func(p string) bool { return p == "" }), ", "))
}

// value is a figure in words, if it is known.
func value(format string, v *float64) string {
	if v == nil {
		return ""
	}
	return fmt.Sprintf(format, *v)
}

// when is a word for what is known to be so.
func when(is *bool, word string) string {
	if is == nil || !*is {
		return ""
	}
	return word
}

// Age is a duration in its greatest unit, as lists of machines show it.
func Age(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d >= 2*day:
		return fmt.Sprintf("%dd", d/day)
	case d >= 2*time.Hour:
		return fmt.Sprintf("%dh", d/time.Hour)
	case d >= 2*time.Minute:
		return fmt.Sprintf("%dm", d/time.Minute)
	default:
		return fmt.Sprintf("%ds", max(d, 0)/time.Second) // the device's clock may run ahead
	}
}
