package fleet

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"strings"
	"time"
)

// WatchFilters is what a client must subscribe to for Changes and a Board.
func WatchFilters(fleet string) []string {
	return append(ListFilters(fleet), TelemetryFilters(fleet, "+")...)
}

// Change is a device of which something changed but its telemetry and its events.
type Change struct {
	Device
	Gone bool `json:"gone,omitempty"` // it was forgotten, or does not fit any more
}

// ChangeReader tells of changes of the devices that fit: the newest of each counts.
type ChangeReader struct {
	changes *Subscription
	where   Where
	told    map[string][sha256.Size]byte // of each device that fits, what was told
}

// Changes begins with all that is known and goes on with what changes. The caller closes
// it. Only one goroutine may call Next at a time.
func (r *Registry) Changes(where Where) *ChangeReader {
	return &ChangeReader{r.Subscribe(), where, map[string][sha256.Size]byte{}}
}

// Close ends it.
func (r *ChangeReader) Close() { r.changes.Close() }

// Next waits for a change. Its error is ctx's.
func (r *ChangeReader) Next(ctx context.Context) (Change, error) {
	for {
		d, err := r.changes.Next(ctx)
		if err != nil {
			return Change{}, err
		}
		if c, ok := r.take(d); ok {
			return c, nil
		}
	}
}

// take tells what of a device is to be told. What the broker tells anew on another
// connection is no change.
func (r *ChangeReader) take(d Device) (Change, bool) {
	was, known := r.told[d.Name]
	if !d.There() || !r.where.Fits(d) {
		delete(r.told, d.Name)
		return Change{Device: d, Gone: true}, known
	}
	b, err := json.Marshal(d)
	if err != nil {
		return Change{}, false // cannot be: it was JSON before
	}
	is := sha256.Sum256(b)
	r.told[d.Name] = is
	return Change{Device: d}, !known || is != was
}

// Line is the change on one line: when, the device, its state, mode, member, family,
// version and labels, and what it says, with tabs between them.
func (c Change) Line(now time.Time) string {
	cells := c.Cells(now)
	state := cells[cellState]
	if c.Gone {
		state = "gone"
	}
	labels := strings.ReplaceAll(labelList(c.Labels), ", ", ",")
	if labels == "" {
		labels = "-"
	}
	return strings.Join([]string{now.UTC().Format(time.RFC3339), c.Name, state, cells[cellMode], cells[cellMember],
		cells[cellFamily], cells[cellAgent], labels, c.Note()}, "\t")
}

// Note is what the device says of itself, or of an update under way, in a sentence.
func (d Device) Note() string {
	var parts []string
	if d.State != nil && d.State.Detail != "" {
		parts = append(parts, d.State.Detail)
	}
	if u := d.caps().Update; u != nil {
		text := "family " + u.Family.Name
		if u.Release != nil {
			text = "release " + u.Release.Version
		}
		text += " in step " + string(u.Step)
		if u.Detail != "" {
			text += ": " + u.Detail
		}
		parts = append(parts, text)
	}
	return Printable(strings.Join(parts, "; "))
}

// Printable is a text of a device on one line, without what a terminal would obey.
func Printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return ' '
		}
		return r
	}, s)
}
