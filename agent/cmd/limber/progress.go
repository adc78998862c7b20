package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/term"
)

// progress draws one line that says how far long work is, with the time it
// will still take. In a pipe it is silent.
type progress struct {
	w       io.Writer // nil: silent
	what    string
	began   time.Time
	visible bool
}

func newProgress(w io.Writer) *progress {
	if f, ok := w.(*os.File); !ok || !term.IsTerminal(int(f.Fd())) {
		return &progress{}
	}
	return &progress{w: w}
}

const barWidth = 24

// Tell draws the line anew.
func (p *progress) Tell(what string, done, of int) {
	if p.w == nil {
		return
	}
	if what != p.what {
		p.what, p.began = what, time.Now()
	}
	full := barWidth * done / max(of, 1)
	left := ""
	if done > 0 && done < of {
		rest := time.Since(p.began) * time.Duration(of-done) / time.Duration(done)
		left = fmt.Sprintf(", %v left", rest.Round(time.Second))
	}
	fmt.Fprintf(p.w, "\r\033[K%s %s%s %d/%d%s", what, strings.Repeat("█", full), strings.Repeat("░", barWidth-full), done, of, left)
	p.visible = true
}

// Say draws a line for work of which nobody knows how long it takes.
func (p *progress) Say(what string) {
	if p.w == nil {
		return
	}
	fmt.Fprintf(p.w, "\r\033[K%s...", what)
	p.visible = true
}

// Note prints a line that stays, above the one drawn; in a pipe too.
func (p *progress) Note(w io.Writer, line string) {
	p.End()
	fmt.Fprintln(w, line)
}

// End takes the line away.
func (p *progress) End() {
	if p.visible {
		fmt.Fprint(p.w, "\r\033[K")
		p.visible = false
	}
}

// shopProgress is progress as package workshop tells of it.
type shopProgress struct {
	line     *progress
	notes    io.Writer
	warnings io.Writer
}

func (s shopProgress) Tell(what string, done, of int) { s.line.Tell(what, done, of) }
func (s shopProgress) Say(what string)                { s.line.Say(what) }
func (s shopProgress) Note(line string)               { s.line.Note(s.notes, line) }
func (s shopProgress) Warn(line string)               { s.line.Note(s.warnings, "limber: "+line) }
