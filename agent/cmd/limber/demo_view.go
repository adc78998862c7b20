package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/term"

	"github.com/limber-edge/limber/agent/bench/demo"
	"github.com/limber-edge/limber/agent/bench/figure"
	"github.com/limber-edge/limber/agent/wire"
)

// view draws what happens, several times a second, where there is a terminal.
// The whole demo is one picture that fills up from the left, so that nothing
// moves but what changed.
type view struct {
	w     io.Writer                  // nil: nobody looks
	size  func() (columns, rows int) // of the terminal, at this moment
	cast  demo.Cast
	trail []moment // one entry a drawing
	drawn struct{ lines, columns int }
}

// moment is what the view's history remembers.
type moment struct {
	at     time.Duration // since the first phase began
	member int           // index of the operating one
	busy   bool
}

const viewPace = 200 * time.Millisecond

func newView(w io.Writer, silent bool) *view {
	f, ok := w.(*os.File)
	if !ok || silent || !term.IsTerminal(int(f.Fd())) {
		return &view{}
	}
	return &view{w: w, size: func() (int, int) {
		if columns, rows, err := term.GetSize(int(f.Fd())); err == nil && columns > 0 && rows > 0 {
			return columns, rows
		}
		return usualColumns, usualRows
	}}
}

// run draws until ctx ends.
func (v *view) run(ctx context.Context, cast demo.Cast, now func() (demo.Scene, bool)) error {
	if v.w == nil {
		return nil
	}
	v.cast = cast
	fmt.Fprint(v.w, hideCursor)
	defer fmt.Fprint(v.w, showCursor)
	tick := time.NewTicker(viewPace)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			v.draw(now())
		case <-ctx.Done():
			v.draw(now())
			fmt.Fprintln(v.w)
			return nil
		}
	}
}

// What a terminal understands.
const (
	hideCursor  = "\033[?25l"
	showCursor  = "\033[?25h"
	clearScreen = "\033[H\033[2J"
	clearLine   = "\033[K" // to its end
	clearBelow  = "\033[J"
)

// draw overwrites what was drawn before, in one write: a terminal that shows
// half of it would flicker.
func (v *view) draw(s demo.Scene, begun bool) {
	columns, rows := v.size()
	var b strings.Builder
	switch {
	case v.drawn.columns != 0 && v.drawn.columns != columns:
		b.WriteString(clearScreen) // the terminal has wrapped the old lines, nobody knows how
	case v.drawn.lines > 0:
		fmt.Fprintf(&b, "\r\033[%dA", v.drawn.lines) // to the left as well: a key may have echoed
	}
	var lines []string
	if begun {
		lines = v.text(s, columns)
	}
	lines = lines[:min(len(lines), rows-1)]
	for _, l := range lines {
		b.WriteString(l + clearLine + "\n")
	}
	b.WriteString(clearBelow)
	v.drawn.lines, v.drawn.columns = len(lines), columns
	io.WriteString(v.w, b.String()) // a terminal that is gone ends the demo by a signal
}

const (
	usualColumns, usualRows = 80, 24
	rowWidth                = 35 // of a member's figures
	leastHistory            = 10 // columns
)

// text is the picture: lines no longer than columns.
func (v *view) text(s demo.Scene, columns int) []string {
	if !s.Over { // the demo is over before the last word about it has come
		at := slices.IndexFunc(v.cast.Members, func(m wire.Member) bool { return m.Name == s.Operates })
		v.trail = append(v.trail, moment{s.At, max(at, 0), s.Hogs > 0})
	}
	lines := slices.Concat(v.figures(s), v.members(s, max(columns-rowWidth, leastHistory)), []string{
		"",
		"A member is named after its cost: M is a million multiply-accumulates a frame.",
		"alone: median time of an inference without load; share: of this phase's answers",
	})
	for i, l := range lines {
		lines[i] = clipped(l, columns)
	}
	return lines
}

// figures are the lines above the members.
func (v *view) figures(s demo.Scene) []string {
	machine := "machine"
	if t := s.State; t != nil && t.CPUPercent != nil && t.OthersPercent != nil {
		machine = fmt.Sprintf("machine  CPU %3.0f %%, of which other programs %3.0f %%   %d frames waiting",
			*t.CPUPercent, *t.OthersPercent, t.Queue)
	}
	return []string{
		fmt.Sprintf("limber demo: %d cameras × %d frames/s, answers due within %.0f ms", v.cast.Cameras,
			demo.CameraRate, float64(v.cast.Deadline)/1e6),
		"",
		fmt.Sprintf("phase    %d of %d, %s: %d other programs on the CPU, %.0f s", s.Phase, demo.Phases, s.Name,
			s.Hogs, s.Took.Seconds()),
		fmt.Sprintf("latency  p50 %6.2f ms   p95 %6.2f ms (last second)   in time %5.1f %% (phase)",
			s.Last.Percentile(50), s.Last.Percentile(95), 100*s.Met),
		fmt.Sprintf("so far   top-1 %4.1f %%   %d frames refused   %d switches", 100*s.Top1, s.Refused, s.Switches),
		machine,
		"",
	}
}

// members draws one row a member: its share of this phase's answers, and when it
// was the operating one; below them, when other programs had the CPU.
func (v *view) members(s demo.Scene, width int) []string {
	lines := []string{fmt.Sprintf("%-8s %7s %9s %6s  %s", "member", "top-1", "alone", "share", "operating member")}
	for i, m := range slices.Backward(v.cast.Members) {
		row := v.history(width, func(m moment) bool { return m.member == i }, '█')
		lines = append(lines, fmt.Sprintf("%-8s %5.1f %% %6.2f ms %4.0f %%  %s",
			m.Name, 100*m.Top1, *m.P50MS, 100*figure.Part(s.Answers[m.Name], s.Answered), row))
	}
	busy := v.history(width, func(m moment) bool { return m.busy }, '▒')
	return append(lines,
		fmt.Sprintf("%-*s%s", rowWidth, "other programs", busy),
		fmt.Sprintf("%-*s%s", rowWidth, "", v.axis(width)))
}

// history draws a mark for every stretch of the demo with a moment that holds,
// dots for the others and nothing for those to come. A moment stands for the
// time since the one before.
func (v *view) history(width int, holds func(moment) bool, mark rune) string {
	row := []rune(strings.Repeat(" ", width))
	next := 0
	for _, m := range v.trail {
		end := v.column(m.at, width)
		for c := min(next, end); c <= end; c++ {
			if holds(m) {
				row[c] = mark
			} else if row[c] == ' ' {
				row[c] = '·'
			}
		}
		next = end + 1
	}
	return string(row)
}

// column is where a moment of the demo is drawn.
func (v *view) column(at time.Duration, width int) int {
	return min(int(int64(width)*int64(at)/int64(v.cast.Length)), width-1)
}

// axis names about every tenth column in seconds.
func (v *view) axis(width int) string {
	step := time.Second
	for _, s := range []time.Duration{1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600} {
		if step = s * time.Second; int64(width)*int64(step) >= 10*int64(v.cast.Length) {
			break
		}
	}
	row := []byte(strings.Repeat(" ", width))
	for at := time.Duration(0); at < v.cast.Length; at += step {
		label := fmt.Sprintf("%.0f s", at.Seconds())
		if c := v.column(at, width); c+len(label) <= width {
			copy(row[c:], label)
		}
	}
	return strings.TrimRight(string(row), " ")
}

// clipped is s without what does not fit.
func clipped(s string, columns int) string {
	if utf8.RuneCountInString(s) <= columns {
		return s
	}
	return string([]rune(s)[:columns])
}
