package main

import (
	"fmt"
	"io"

	"github.com/limber-edge/limber/agent/fleet"
	"github.com/limber-edge/limber/agent/wire"
)

// answerPrinter prints answers to frames, and counts those that say no.
type answerPrinter struct {
	out      io.Writer
	asJSON   bool
	progress *progress
	refused  int
}

func (p *answerPrinter) print(name string, a fleet.Answer) error {
	p.progress.End()
	r := a.Result
	if r.Status != wire.OK {
		p.refused++
	}
	var err error
	switch {
	case p.asJSON:
		_, err = fmt.Fprintf(p.out, "%s\n", a.Payload)
	case r.Status != wire.OK:
		_, err = fmt.Fprintf(p.out, "%s: refused, %s: %s\n", name, r.Reason, r.Detail)
	default:
		_, err = fmt.Fprintf(p.out, "%s: %s\n", name, seen(r))
	}
	return err
}

// seen says what a device saw, and how well.
func seen(r wire.Result) string {
	if len(r.Classes) == 0 || r.MS == nil {
		return "answered, but without classes and times"
	}
	best, late := r.Classes[0], ""
	if !r.Met {
		late = ", late"
	}
	return fmt.Sprintf("%s %.0f %%  (member %s, %.2f ms of %.0f ms%s)", best.Label, 100*best.P, r.Member, r.MS.Total,
		r.DeadlineMS, late)
}
