package fleet

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/limber-edge/limber/agent/wire"
)

// Board is a live table of devices: those first that somebody should look at, then by
// name. It is for one goroutine.
//
//	take what changed ──▶ devices, the rate of each ──▶ Lines, as many as there is room for
type Board struct {
	fleet   string
	where   Where
	changes *Subscription
	devices map[string]*watched
	widths  []int // of the columns: they grow and never shrink, so that nothing moves
}

// watched is a device with what its last two telemetries say of the time between them.
type watched struct {
	Device
	perSecond float64 // jobs
	late      float64 // of those that were not refused, in [0, 1]; NaN if there were none
	rated     bool
}

// Board begins with all that is known of the devices that fit. The caller closes it.
func (r *Registry) Board(fleet string, where Where) *Board {
	return &Board{fleet: fleet, where: where, changes: r.Subscribe(), devices: map[string]*watched{}}
}

// Close ends it.
func (b *Board) Close() { b.changes.Close() }

// Update takes in what changed since the last time.
func (b *Board) Update() {
	for {
		d, ok := b.changes.take()
		if !ok {
			return
		}
		b.put(d)
	}
}

func (b *Board) put(d Device) {
	if !d.there() || !b.where.Fits(d) {
		delete(b.devices, d.Name)
		return
	}
	w := &watched{Device: d}
	if was, ok := b.devices[d.Name]; ok {
		w.rate(was)
	}
	b.devices[d.Name] = w
}

// rate works out what happened since the telemetry before. Counts that went back are those
// of another run.
func (w *watched) rate(was *watched) {
	is, before := w.Telemetry, was.Telemetry
	if is == before {
		w.perSecond, w.late, w.rated = was.perSecond, was.late, was.rated
		return
	}
	if is == nil || before == nil || is.Jobs < before.Jobs || is.Refused < before.Refused || is.Missed < before.Missed {
		return
	}
	s := is.TS.Sub(before.TS.Time).Seconds()
	if s <= 0 {
		return
	}
	jobs, refused := is.Jobs-before.Jobs, is.Refused-before.Refused
	w.perSecond, w.late, w.rated = float64(jobs)/s, math.NaN(), true
	if jobs > refused {
		w.late = float64(is.Missed-before.Missed) / float64(jobs-refused)
	}
}

// rank tells who is to be looked at first.
func (w *watched) rank() int {
	switch {
	case w.State == nil || w.State.State == wire.Lost || w.State.Detail != "":
		return 0
	case w.caps().Update != nil:
		return 1
	case w.State.State != wire.Online:
		return 2
	}
	return 3
}

func boardHead() []string {
	return []string{"DEVICE", "STATE", "FOR", "MODE", "MEMBER", "JOBS/S", "LATE %", "P95 MS", "QUEUE", "CPU %", "°C",
		"W", "FAMILY", "AGENT"}
}

// cells is the device's row; what is not known is a dash, and of one that is not there its
// last telemetry says nothing.
func (w *watched) cells(now time.Time) []string {
	list := w.Cells(now)
	rate, late, p95, queue, cpu, heat, watts := "-", "-", "-", "-", "-", "-", "-"
	if w.rated && w.Online() {
		rate = fmt.Sprintf("%.1f", w.perSecond)
		if !math.IsNaN(w.late) {
			late = fmt.Sprintf("%.1f", 100*w.late)
		}
	}
	if t := w.Telemetry; t != nil && w.Online() {
		queue = fmt.Sprint(t.Queue)
		p95, cpu, watts = figure("%.1f", t.P95MS), figure("%.0f", t.CPUPercent), figure("%.1f", t.PowerW)
		if len(t.TempsC) > 0 {
			hottest := -1e9
			for _, c := range t.TempsC {
				hottest = max(hottest, c)
			}
			heat = fmt.Sprintf("%.0f", hottest)
		}
	}
	return []string{w.Name, list[cellState], list[cellFor], list[cellMode], list[cellMember], rate, late, p95, queue, cpu,
		heat, watts, list[cellFamily], list[cellAgent]}
}

// figure is a cell of a figure.
func figure(format string, v *float64) string { return cmp.Or(value(format, v), "-") }

// Lines is the table, no more than rows lines of no more than columns characters; trouble
// is what keeps it from changing, nil for nothing. What a device says of itself has a line
// of its own below it, which a narrow terminal does not cut off with the last columns.
func (b *Board) Lines(now time.Time, columns, rows int, trouble error) []string {
	sorted := b.sorted()
	lines := []string{b.summary(sorted, trouble), ""}
	room := max(rows-len(lines)-1, 0) // below the head
	table := [][]string{boardHead()}
	for _, w := range sorted[:min(len(sorted), room)] {
		table = append(table, w.cells(now))
	}
	aligned := b.aligned(table)
	lines = append(append(lines, aligned[0]), withNotes(aligned[1:], sorted, room)...)
	for i, l := range lines {
		lines[i] = Clipped(l, columns)
	}
	return lines[:min(len(lines), max(rows, 0))]
}

// withNotes are the lines of devices, each with what it says of itself below it, as far as
// there is room; the last tells how many there was none for.
func withNotes(rows []string, devices []*watched, room int) (lines []string) {
	shown := 0
	for i, row := range rows {
		add := []string{row}
		if note := devices[i].Note(); note != "" {
			add = append(add, "  "+note)
		}
		if left := room - len(lines) - len(add); left < 0 || left == 0 && i+1 < len(devices) {
			break
		}
		lines, shown = append(lines, add...), shown+1
	}
	if more := len(devices) - shown; more > 0 {
		lines = append(lines, fmt.Sprintf("... and %d more: --where or a larger window shows them", more))
	}
	return lines
}

// sorted are the devices in the order in which they are to be looked at.
func (b *Board) sorted() []*watched {
	all := make([]*watched, 0, len(b.devices))
	for _, w := range b.devices {
		all = append(all, w)
	}
	slices.SortFunc(all, func(a, b *watched) int {
		return cmp.Or(cmp.Compare(a.rank(), b.rank()), cmp.Compare(a.Name, b.Name))
	})
	return all
}

// summary counts the devices by their state.
func (b *Board) summary(all []*watched, trouble error) string {
	states := map[wire.Presence]int{}
	updates := 0
	for _, w := range all {
		if w.State != nil {
			states[w.State.State]++
		}
		if w.caps().Update != nil {
			updates++
		}
	}
	line := fmt.Sprintf("fleet %s: %s, %d online, %d offline, %d lost", b.fleet, Count(len(all), "device"),
		states[wire.Online], states[wire.Offline], states[wire.Lost])
	if updates > 0 {
		line += fmt.Sprintf(", %d updating", updates)
	}
	if trouble != nil {
		line += "; NO CONNECTION: " + Printable(trouble.Error())
	}
	return line
}

// aligned is a table in columns, figures to the right.
func (b *Board) aligned(table [][]string) (lines []string) {
	if b.widths == nil {
		b.widths = make([]int, len(table[0]))
	}
	for _, row := range table {
		for i, cell := range row {
			b.widths[i] = max(b.widths[i], utf8.RuneCountInString(cell))
		}
	}
	const firstFigure, lastFigure = 5, 11
	for _, row := range table {
		var line strings.Builder
		for i, cell := range row {
			space := strings.Repeat(" ", b.widths[i]-utf8.RuneCountInString(cell))
			if i >= firstFigure && i <= lastFigure {
				line.WriteString(space + cell + "  ")
			} else {
				line.WriteString(cell + space + "  ")
			}
		}
		lines = append(lines, strings.TrimRight(line.String(), " "))
	}
	return lines
}

// Clipped is a line without what does not fit.
func Clipped(s string, columns int) string {
	if utf8.RuneCountInString(s) <= columns {
		return s
	}
	return string([]rune(s)[:max(columns, 0)])
}
