package fleet

import (
	"cmp"
	"fmt"
	"math"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/limber-edge/limber/agent/wire"
)

// Board is a live table of devices on a terminal. It is for one goroutine.
type Board struct {
	*Ranking
	fleet  string
	widths []int // of the columns: they grow and never shrink, so that nothing moves
}

// Board begins with all that is known of the devices that fit. The caller closes it.
func (r *Registry) Board(fleet string, where Where) *Board {
	return &Board{Ranking: r.Ranking(where), fleet: fleet}
}

func boardHead() []string {
	return []string{"DEVICE", "STATE", "FOR", "MODE", "MEMBER", "JOBS/S", "LATE %", "P95 MS", "QUEUE", "CPU %", "°C",
		"W", "FAMILY", "AGENT"}
}

// cells is the device's row; what is not known is a dash, and of one that is not there its
// last telemetry says nothing.
func (d *Ranked) boardCells(now time.Time) []string {
	list := d.Cells(now)
	rate, late, p95, queue, cpu, heat, watts := "-", "-", "-", "-", "-", "-", "-"
	if d.Pace.Known && d.Online() {
		rate = fmt.Sprintf("%.1f", d.Pace.PerSecond)
		if !math.IsNaN(d.Pace.Late) {
			late = fmt.Sprintf("%.1f", 100*d.Pace.Late)
		}
	}
	if t := d.Telemetry; t != nil && d.Online() {
		queue = fmt.Sprint(t.Queue)
		p95, cpu, watts = figure("%.1f", t.P95MS), figure("%.0f", t.CPUPercent), figure("%.1f", t.PowerW)
		heat = figure("%.0f", Hottest(t))
	}
	return []string{d.Name, list[cellState], list[cellFor], list[cellMode], list[cellMember], rate, late, p95, queue, cpu,
		heat, watts, list[cellFamily], list[cellAgent]}
}

// Hottest is the temperature of the hottest sensor, in °C; nil if none is known.
func Hottest(t *wire.Telemetry) (hottest *float64) {
	for _, c := range t.TempsC {
		if hottest == nil || c > *hottest {
			hottest = &c
		}
	}
	return hottest
}

// figure is a cell of a figure.
func figure(format string, v *float64) string { return cmp.Or(value(format, v), "-") }

// Lines is the table, no more than rows lines of no more than columns characters; trouble
// is what keeps it from changing, nil for nothing. What a device says of itself has a line
// of its own below it, which a narrow terminal does not cut off with the last columns.
func (b *Board) Lines(now time.Time, columns, rows int, trouble error) []string {
	sorted := b.Devices()
	lines := []string{b.summary(sorted, trouble), ""}
	room := max(rows-len(lines)-1, 0) // below the head
	table := [][]string{boardHead()}
	for _, w := range sorted[:min(len(sorted), room)] {
		table = append(table, w.boardCells(now))
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
func withNotes(rows []string, devices []*Ranked, room int) (lines []string) {
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

// summary counts the devices by their state.
func (b *Board) summary(all []*Ranked, trouble error) string {
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
