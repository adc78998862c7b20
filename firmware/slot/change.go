package slot

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"
)

// change records what edit makes of the phase. One that cannot be understood, or not be
// read by this user, is replaced; where the disk fails it stays.
func (s *Slots) change(edit func(*Phase) error) error {
	p, err := s.Phase()
	if err != nil && !errors.Is(err, ErrDamaged) && !errors.Is(err, fs.ErrPermission) {
		return err
	}
	if err := edit(&p); err != nil {
		return fmt.Errorf("firmware: %w", err)
	}
	return s.record(p)
}

func (s *Slots) record(p Phase) error {
	if err := p.validate(); err != nil {
		return fmt.Errorf("record the phase of the firmware: %w", err)
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false) // nor indented: a command would grow, beyond what is read again
	err := e.Encode(p)
	if _, absent := os.Lstat(s.path("phase.json")); absent != nil && err == nil {
		err = makeFolder(s.dir)
	}
	if err == nil {
		err = replace(s.path("phase.json"), b.Bytes())
	}
	if err != nil {
		return fmt.Errorf("record the phase of the firmware: %w", err)
	}
	return nil
}

// restart has no starts of a trial be counted yet.
func (p *Phase) restart() { p.Starts, p.Cuts, p.Stops, p.Boot = 0, 0, 0, "" }

// judged ends an update.
func (p *Phase) judged(outcome string, r Reason, tail string, now time.Time) {
	tail = strings.ToValidUTF8(tail[max(0, len(tail)-MaxTail):], "\uFFFD")
	p.Phase, p.TrialS, p.Verdict = outcome, 0, ""
	p.restart()
	p.Last = &Last{Version: p.Version, Outcome: outcome, Reason: r, Tail: tail, TS: now.UTC().Truncate(time.Millisecond)}
}
