package power

import (
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Modes are the power modes of a board, and the one in force.
type Modes struct {
	Names    []string // in the board's order; none where there is nothing to choose
	Current  string   // one of Names, or empty if unknown
	Governor string   // cpufreq's governor of the first processor; empty if unknown

	ids    map[string]int // nvpmodel's number by name; nil where modes are limits of the clock
	kept   string         // that nvpmodel takes at the board's next start, by its status file; empty: unknown
	awaits bool           // and that was left to it
	sure   bool           // Current is what nvpmodel said, and no guess by its status file
}

// ID is nvpmodel's number of a mode; where modes are limits of the clock, its place in
// Names.
func (m Modes) ID(name string) (id int, ok bool) {
	if m.ids != nil {
		id, ok = m.ids[name]
		return id, ok
	}
	id = slices.Index(m.Names, name)
	return id, id >= 0
}

// Clocks tells whether the modes are limits of the clock, which end with a restart and
// never take one.
func (m Modes) Clocks() bool { return m.ids == nil }

// name is that of a number of nvpmodel's; empty if there is none.
func (m Modes) name(id int) string {
	for name, known := range m.ids {
		if known == id {
			return name
		}
	}
	return ""
}

// steps of the clock's limit that are modes where there is no nvpmodel, in
// percent of the full clock.
var steps = [...]int{100, 75, 50}

// Modes reads the power modes: those of nvpmodel on a Jetson; elsewhere, where
// the processors' clocks can be limited, clock-100, clock-75 and clock-50. It runs no
// program: of nvpmodel's modes the current one is what Ask was told last, unless the
// status file has changed since.
func (b *Board) Modes() Modes {
	m := Modes{}
	for _, path := range b.glob(cpufreq + "/scaling_governor") {
		if g, ok := text(path); ok {
			m.Governor = g
			break
		}
	}
	if conf, ok := text(b.path("etc/nvpmodel.conf")); ok {
		if list, standard := parseModes(conf); len(list) > 0 {
			b.jetson(&m, list, standard)
			return m
		}
	}
	b.clockModes(&m)
	return m
}

// jetson takes nvpmodel's modes.
func (b *Board) jetson(m *Modes, list []nvMode, standard int) {
	m.ids = make(map[string]int, len(list))
	for _, mode := range list {
		m.Names = append(m.Names, mode.name)
		m.ids[mode.name] = mode.id
	}
	status := b.status()
	m.kept = m.name(currentID(status, standard))
	m.Current = m.kept
	if f := b.found.Load(); f != nil && f.status == status {
		m.Current, m.awaits, m.sure = f.mode, f.awaits, !f.awaits
	}
}

// status is what nvpmodel keeps of the mode; empty where it was never told one.
func (b *Board) status() string {
	s, _ := text(b.path(statusFile))
	return s
}

// statusFile is where nvpmodel keeps the mode that it takes when the board starts.
const statusFile = "var/lib/nvpmodel/status"

// currentID is the number of the mode that nvpmodel set last, or standard, with
// which a board starts that was never told otherwise; -1 if the status is damaged.
func currentID(status string, standard int) int {
	if status == "" {
		return standard
	}
	if id, ok := parseStatus(status); ok {
		return id
	}
	return -1
}

// clockModes takes limits of the clock. The current one is known when all
// processors have it.
func (b *Board) clockModes(m *Modes) {
	shares := map[int]bool{}
	for _, dir := range b.glob(cpufreq) {
		full, ok1 := number(filepath.Join(dir, "cpuinfo_max_freq"))
		limit, ok2 := number(filepath.Join(dir, "scaling_max_freq"))
		if ok1 && ok2 && full > 0 {
			shares[nearestStep(100*limit/full)] = true
		}
	}
	if len(shares) == 0 {
		return
	}
	for _, step := range steps {
		m.Names = append(m.Names, clockMode(step))
		if shares[step] && len(shares) == 1 {
			m.Current = clockMode(step)
		}
	}
}

func clockMode(step int) string { return fmt.Sprintf("clock-%d", step) }

// stepTolerance is how far a clock's limit may be from a step, in percent of
// the full clock: hardware has a clock only every few per cent.
const stepTolerance = 6

// nearestStep is the step that a limit stands for; 0 is none.
func nearestStep(percent float64) int {
	for _, step := range steps {
		if off := percent - float64(step); off <= stepTolerance && off >= -stepTolerance {
			return step
		}
	}
	return 0
}

// nvMode is one power model of nvpmodel.
type nvMode struct {
	id   int
	name string
}

// modeName is what a mode may be called, as everything that is named on the
// wire.
var modeName = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,64}$`)

// parseModes reads nvpmodel's configuration: its lines
//
//	< POWER_MODEL ID=0 NAME=MAXN >
//	< PM_CONFIG DEFAULT=2 >
//
// and the standard mode, -1 if there is none. What is no such line is left out.
func parseModes(conf string) (list []nvMode, standard int) {
	standard = -1
	for line := range strings.Lines(conf) {
		kind, attributes, ok := section(line)
		if !ok {
			continue
		}
		switch kind {
		case "POWER_MODEL":
			id, err := strconv.Atoi(attributes["ID"])
			name := attributes["NAME"]
			known := func(m nvMode) bool { return m.id == id || m.name == name }
			if err == nil && id >= 0 && modeName.MatchString(name) && !slices.ContainsFunc(list, known) {
				list = append(list, nvMode{id, name})
			}
		case "PM_CONFIG":
			if id, err := strconv.Atoi(attributes["DEFAULT"]); err == nil {
				standard = id
			}
		}
	}
	return list, standard
}

// section reads a line < KIND NAME=VALUE ... >.
func section(line string) (kind string, attributes map[string]string, ok bool) {
	line, open := strings.CutPrefix(strings.TrimSpace(line), "<")
	line, closed := strings.CutSuffix(line, ">")
	fields := strings.Fields(line)
	if !open || !closed || len(fields) == 0 {
		return "", nil, false
	}
	attributes = make(map[string]string, len(fields))
	for _, f := range fields[1:] {
		if name, value, ok := strings.Cut(f, "="); ok {
			attributes[name] = value
		}
	}
	return fields[0], attributes, true
}

// parseStatus reads what nvpmodel keeps of the mode: "pmode:0002".
func parseStatus(status string) (id int, ok bool) {
	digits, ok := strings.CutPrefix(strings.TrimSpace(status), "pmode:")
	if !ok {
		return 0, false
	}
	digits, _, _ = strings.Cut(digits, " ") // some versions go on with the fan's mode
	id, err := strconv.Atoi(digits)
	return id, err == nil && id >= 0
}
