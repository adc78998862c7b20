package power

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// askPatience is how long nvpmodel may take to say which mode is in force.
const askPatience = 5 * time.Second

// found is which mode was in force when nvpmodel's status file had a text.
type found struct {
	status string
	mode   string
	awaits bool // the file names one for the board's next start
}

// Ask has nvpmodel say which mode is in force, and waits 5 s for that at most. Modes goes
// by the answer until the status file changes. Without one, by the file; where both
// answer and differ, differs says so. It is empty where modes are limits of the clock.
func (b *Board) Ask(ctx context.Context) (differs string) {
	m := b.Modes()
	if m.ids == nil || m.awaits { // what reads the status file would say what comes next
		return ""
	}
	status := b.status()
	limited, cancel := context.WithTimeout(ctx, askPatience)
	defer cancel()
	// Its exit code says nothing: an ordinary user may not read all that it looks at.
	out, _ := b.run(limited, "", "-q")
	mode, ok := m.answered(out)
	if !ok {
		b.found.Store(nil)
		return ""
	}
	b.found.Store(&found{status: status, mode: mode})
	if mode == m.kept {
		return ""
	}
	return fmt.Sprintf("nvpmodel -q says that the power mode is %s, and /%s that it is %s: the former counts",
		mode, statusFile, known(m.kept))
}

// Anew is Ask where a mode was set just now: none is left to the board's next start.
func (b *Board) Anew(ctx context.Context) {
	b.found.Store(nil)
	b.Ask(ctx)
}

// Await tells of a change that was left to the board's next start: as long as nvpmodel's
// status file names next, it is now that is in force.
func (b *Board) Await(next, now string) {
	if m := b.Modes(); m.ids != nil && m.kept == next && next != now {
		b.found.Store(&found{status: b.status(), mode: now, awaits: true})
	}
}

// answered is the mode that nvpmodel -q printed, if it is one of these.
func (m Modes) answered(out string) (mode string, ok bool) {
	name, id, ok := parseQuery(out)
	if !ok {
		return "", false
	}
	if _, known := m.ids[name]; known {
		return name, true
	}
	name = m.name(id)
	return name, name != ""
}

// parseQuery reads what nvpmodel -q prints,
//
//	NV Power Mode: MODE_15W
//	2
//
// with warnings before it, and errors about what the user may not read behind it. The
// number is -1 where none follows the name.
func parseQuery(out string) (name string, id int, ok bool) {
	_, rest, ok := strings.Cut(out, "NV Power Mode:")
	name, rest, _ = strings.Cut(rest, "\n")
	line, _, _ := strings.Cut(rest, "\n")
	id, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil || id < 0 {
		id = -1
	}
	return strings.TrimSpace(name), id, ok
}

// known is a mode in a sentence.
func known(mode string) string {
	if mode == "" {
		return "unknown"
	}
	return mode
}
