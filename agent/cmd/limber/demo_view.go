package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/limber-edge/limber/agent/bench/demo"
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
