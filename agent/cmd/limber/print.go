package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// progress draws one line that says how far long work is, with the time it
// will still take. In a pipe it is silent.
type progress struct {
	w               io.Writer // nil: silent
	notes, warnings io.Writer // where a pipe is no hindrance
	what            string
	began           time.Time
	visible         bool
}

// newProgress draws beside the results, and prints notes among them.
func newProgress(c *cobra.Command) *progress {
	p := &progress{notes: c.OutOrStdout(), warnings: c.ErrOrStderr()}
	if f, ok := p.warnings.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		p.w = f
	}
	return p
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
	bar := strings.Repeat("█", full) + strings.Repeat("░", barWidth-full)
	fmt.Fprintf(p.w, "\r\033[K%s %s %d/%d%s", what, bar, done, of, left)
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
func (p *progress) Note(line string) {
	p.End()
	fmt.Fprintln(p.notes, line)
}

// Warn prints a line that whoever asked for the work should know, likewise.
func (p *progress) Warn(line string) {
	p.End()
	fmt.Fprintln(p.warnings, "limber: "+line)
}

// End takes the line away.
func (p *progress) End() {
	if p.visible {
		fmt.Fprint(p.w, "\r\033[K")
		p.visible = false
	}
}

// printList prints a list for people, a row for each under a head, whose cells tabs
// separate; or one JSON object a line.
func printList[T any](w io.Writer, asJSON bool, list []T, align uint, head string, row func(T) string) error {
	if asJSON {
		return printLines(w, list)
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', align)
	fmt.Fprintln(t, head)
	for _, one := range list {
		fmt.Fprintln(t, row(one))
	}
	return t.Flush()
}

func printLines[T any](w io.Writer, list []T) error {
	enc := json.NewEncoder(w)
	for _, v := range list {
		if err := enc.Encode(v); err != nil {
			return err
		}
	}
	return nil
}
