package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/limber-edge/limber/agent/fleet"
)

// watchArgs are the flags of `fleet watch`.
type watchArgs struct {
	operatorArgs
	where  whereArgs
	asJSON bool
}

func newFleetWatch() *cobra.Command {
	var a watchArgs
	c := &cobra.Command{
		Use:   "watch",
		Short: "Show the devices as they are now, until it is stopped",
		Long: `Show the devices as they are now, until it is stopped (Ctrl-C). On a terminal it is a
table that changes in place, with those first that somebody should look at: lost, or
with a fault, then those that take an update, then those that are off. JOBS/S and LATE
are of the last interval of telemetry, LATE of the jobs that were not refused; P95 is
of inference; °C is the hottest sensor.

In a pipe, and with --json, it prints a line for each device and then for each change
but of telemetry: when, device, state, mode, member, family, version, labels and what
it says, with tabs between them; the state is gone for one that was forgotten, or does
not fit any more.

` + whereHelp,
		Example: `  limber fleet watch
  limber fleet watch --where group=@gate,state!=online
  limber fleet watch --json --where label.site=berlin`,
		RunE: func(c *cobra.Command, _ []string) error { return a.run(c) },
	}
	a.flags(c)
	a.where.flags(c)
	c.Flags().BoolVar(&a.asJSON, "json", false, "print one JSON object a line")
	return c
}

func (a *watchArgs) run(c *cobra.Command) error {
	where, err := a.where.parse()
	if err != nil {
		return err
	}
	out := c.OutOrStdout()
	terminal := terminalOf(out)
	filters := fleet.WatchFilters(a.fleet)
	if a.asJSON || terminal == nil {
		filters = fleet.ListFilters(a.fleet)
	}
	err = a.client(c.Context(), c.ErrOrStderr(), filters, func(ctx context.Context, fl *fleet.Client) error {
		if _, err := fl.List(ctx); err != nil {
			return err
		}
		warnUntracked(c, fl, a.fleet)
		if a.asJSON || terminal == nil {
			return printChanges(ctx, out, fl.Registry().Changes(where), a.asJSON)
		}
		board := fl.Registry().Board(a.fleet, where)
		defer board.Close()
		return (&screen{w: out, size: terminal}).run(ctx, func(columns, rows int) []string {
			board.Update()
			return board.Lines(time.Now(), columns, rows, fl.Trouble())
		})
	})
	return untilStopped(c.Context(), err)
}

// untilStopped is an error but for that of having been asked to stop, which is how a
// command that goes on ends.
func untilStopped(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return nil
	}
	return err
}

func printChanges(ctx context.Context, w io.Writer, changes *fleet.ChangeReader, asJSON bool) error {
	defer changes.Close()
	for {
		change, err := changes.Next(ctx)
		if err != nil {
			return err
		}
		if asJSON {
			err = json.NewEncoder(w).Encode(change)
		} else {
			_, err = fmt.Fprintln(w, change.Line(time.Now()))
		}
		if err != nil {
			return err
		}
	}
}

// terminalOf tells the size of the terminal that is written to, at each moment; it is nil
// where there is none, or one that knows no positions.
func terminalOf(w io.Writer) func() (columns, rows int) {
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) || os.Getenv("TERM") == "dumb" {
		return nil
	}
	return func() (int, int) {
		if columns, rows, err := term.GetSize(int(f.Fd())); err == nil && columns > 0 && rows > 0 {
			return columns, rows
		}
		return usualColumns, usualRows
	}
}

// screen shows lines that change in place, on a page of its own that is gone at the end.
type screen struct {
	w             io.Writer
	size          func() (columns, rows int)
	columns, rows int
	drawn         []string
}

// screenPace is how long a screen stays as it is.
const screenPace = 250 * time.Millisecond

// What else a terminal understands.
const (
	ownPage  = "\033[?1049h"
	pageBack = "\033[?1049l"
)

// run shows what lines returns, until ctx ends.
func (s *screen) run(ctx context.Context, lines func(columns, rows int) []string) error {
	fmt.Fprint(s.w, ownPage+hideCursor)
	defer fmt.Fprint(s.w, showCursor+pageBack)
	tick := time.NewTicker(screenPace)
	defer tick.Stop()
	for {
		columns, rows := s.size()
		if err := s.draw(columns, rows, lines(columns, rows)); err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// draw writes the lines that changed, at once: a terminal that shows half of them would
// flicker. Of another size it has wrapped the old ones, nobody knows how.
func (s *screen) draw(columns, rows int, lines []string) error {
	var b strings.Builder
	if columns != s.columns || rows != s.rows {
		b.WriteString(clearScreen)
		s.columns, s.rows, s.drawn = columns, rows, nil
	}
	for i, l := range lines {
		if i >= len(s.drawn) || s.drawn[i] != l {
			fmt.Fprintf(&b, "\033[%d;1H%s%s", i+1, l, clearLine)
		}
	}
	if len(lines) < len(s.drawn) {
		fmt.Fprintf(&b, "\033[%d;1H%s", len(lines)+1, clearBelow)
	}
	s.drawn = lines
	if b.Len() == 0 {
		return nil
	}
	_, err := io.WriteString(s.w, b.String())
	return err
}
