package logbook

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"runtime"
	"strings"
	"time"

	"github.com/limber-edge/limber/agent/governor"
)

// Entry is a decision of a log, as it was repeated.
type Entry struct {
	Line     int       // of the log
	At       time.Time // when it was taken
	Version  string    // of the program that took it
	Members  []string  // names, in the governor's order
	Mode     governor.Mode
	Queue    governor.Queue // what was asked; times count from At
	Decision governor.Decision
	Why      string // in plain words
	Belief   governor.Belief
	Options  []governor.Option
	Infer    time.Duration // what the inference took, in a cascade both; 0 if there was none, or it failed
	Ended    bool          // what became of the job is known:
	Met      bool          // it was answered in time
}

// Summary is what a log held.
type Summary struct {
	Version   string // of the program that wrote the last segment
	Segments  int
	Decisions int
	Rounded   int    // decisions that agree but for the last digits of a figure: see Replay
	Lost      uint64 // calls that the writer could not write, by its own count
	Torn      bool   // half a line at the end was left out
}

// maxLine bounds a line, in bytes. A snapshot is the longest, with some 20 kB.
const maxLine = 1 << 20

// Replay repeats a log call by call, from a governor in the state that each
// segment begins with, and tells report of every decision once it is known what
// became of it. The error names the first line that cannot be read, that is not
// as it was written, or whose decision comes out in another way. Half a line at
// the end is none: a power cut leaves it. The Summary tells of it.
//
// Architectures differ in how they round, such as a product and a sum at once.
// In a log of another one a chance may be off by rounding, and is counted as
// Rounded; member, reason and everything else must be the same there, too.
func Replay(r io.Reader, report func(*Entry)) (Summary, error) {
	p := player{report: report}
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 64<<10), maxLine)
	lines.Split(p.wholeLine)
	for lines.Scan() {
		p.line++
		if err := p.play(lines.Bytes()); err != nil {
			return p.done(), fmt.Errorf("line %d: %w", p.line, err)
		}
	}
	if err := lines.Err(); err != nil {
		return p.done(), fmt.Errorf("line %d: %w", p.line+1, err)
	}
	return p.done(), nil
}

// wholeLine is bufio.ScanLines without what follows the last line end.
func (p *player) wholeLine(data []byte, end bool) (advance int, line []byte, err error) {
	if i := bytes.IndexByte(data, '\n'); i >= 0 {
		return i + 1, data[:i], nil
	}
	if end {
		p.summary.Torn = len(data) > 0
		return len(data), nil, nil
	}
	return 0, nil, nil
}

// player repeats the calls of a log.
type player struct {
	report  func(*Entry)
	summary Summary
	line    int
	head    *header            // of the segment; nil before the first
	gov     *governor.Governor // nil between header and snapshot
	sum     uint32             // of the lines since the last checksum
	entry   *Entry             // the last decision, not yet reported
}

func (p *player) done() Summary {
	if p.entry != nil {
		p.report(p.entry)
		p.entry = nil
	}
	return p.summary
}

func (p *player) play(line []byte) error {
	kind, rest, _ := strings.Cut(string(line), " ")
	if kind == "C" {
		return p.check(rest)
	}
	if kind == "L" {
		p.sum = 0
	}
	p.sum = crc32.Update(crc32.Update(p.sum, crc32.IEEETable, line), crc32.IEEETable, []byte{'\n'})
	switch {
	case kind == "L":
		return p.begin(rest)
	case p.head == nil:
		return errors.New("not a decision log: it does not begin with a header")
	case kind == "S":
		return p.restore(rest)
	case p.gov == nil:
		return errors.New("a call before the snapshot of its segment")
	}
	w := &words{rest: rest, more: rest != ""}
	err := p.call(kind, w)
	if w.err != nil {
		return w.err
	}
	if err == nil && w.more {
		return fmt.Errorf("%q follows what a line of kind %s has", w.rest, kind)
	}
	return err
}

func (p *player) check(written string) error {
	if want := fmt.Sprintf("%08x", p.sum); written != want {
		return fmt.Errorf("the checksum is %q, that of the lines before it is %s: they are not as they were written", written,
			want)
	}
	p.sum = 0
	return nil
}

func (p *player) begin(rest string) error {
	p.done()
	h := new(header)
	if err := json.Unmarshal([]byte(rest), h); err != nil {
		return fmt.Errorf("header: %w", err)
	}
	if h.Format < oldest || h.Format > format {
		return fmt.Errorf("format %d, this program reads %d to %d", h.Format, oldest, format)
	}
	if p.head == nil || h.Epoch != p.head.Epoch { // another run of the program: its count began anew
		p.summary.Lost += h.Lost
	} else if h.Lost > p.head.Lost {
		p.summary.Lost += h.Lost - p.head.Lost
	}
	p.head, p.gov = h, nil
	p.summary.Segments++
	p.summary.Version = h.Version
	return nil
}

func (p *player) restore(rest string) error {
	if p.gov != nil {
		return errors.New("a second snapshot in one segment")
	}
	g, err := governor.Restore([]byte(rest))
	if err != nil {
		return err
	}
	if n := len(g.Options(nil)); n != len(p.head.Members) {
		return fmt.Errorf("the header names %d members, the snapshot has %d", len(p.head.Members), n)
	}
	p.gov = g
	return nil
}

func (p *player) call(kind string, w *words) error {
	switch kind {
	case "A":
		p.gov.Arrive(w.duration())
	case "H":
		p.gov.Hint(w.whole())
	case "D":
		return p.decide(w)
	case "O":
		p.observe(w)
	case "R":
		if met := w.flags(1); p.entry != nil && w.err == nil {
			p.entry.Ended, p.entry.Met = true, met[0]
		}
	case "M", "G":
		return p.setMode(kind, w)
	case "E":
		return p.gov.SetEligible(w.flags(len(p.head.Members)))
	case "P":
		p.gov.SetPower(governor.Power{Idle: w.float(), Active: w.float()})
	case "B":
		return p.gov.SetBatch(w.whole(), w.duration())
	case "X":
		return p.remember(w)
	default:
		return fmt.Errorf("a line of kind %.20q is not known", kind)
	}
	return nil
}

func (p *player) setMode(kind string, w *words) error {
	var m governor.Mode
	var err error
	if kind == "M" {
		m, err = governor.ParseMode(w.quoted())
	} else {
		m, err = governor.ModeOf(governor.Goal{Deadline: w.duration(), Floor: w.float(), Watts: w.float(),
			Prefer: w.preference()})
	}
	if err != nil {
		return err
	}
	return p.gov.SetMode(m)
}

func (p *player) remember(w *words) error {
	var e governor.Experience
	if err := json.Unmarshal([]byte(w.all()), &e); err != nil {
		return fmt.Errorf("experience: %w", err)
	}
	return p.gov.Remember(e)
}

func (p *player) observe(w *words) {
	now, member, images, latency := w.duration(), w.whole(), w.whole(), w.duration()
	if w.err != nil {
		return
	}
	if p.entry != nil {
		p.entry.Infer += latency
	}
	p.gov.Observe(now, member, images, latency)
}

// decide repeats a decision and compares it with the one that was written.
func (p *player) decide(w *words) error {
	p.done()
	now := w.duration()
	q := governor.Queue{Deadline: now + w.duration(), Floor: w.float(), Overhead: w.duration()}
	if p.head.Format > 2 {
		q.Decode = w.duration()
	}
	q.Ready, q.Waiting = w.whole(), w.durations(now)
	separator, written := w.next(), w.all()
	switch {
	case w.err != nil:
		return w.err
	case separator != "=":
		return fmt.Errorf("%.40q where %q belongs", separator, "=")
	}
	d := p.gov.Decide(now, q)
	if err := p.compare(d, written); err != nil {
		return err
	}
	q.Deadline -= now
	for i := range q.Waiting {
		q.Waiting[i] -= now
	}
	p.summary.Decisions++
	p.entry = &Entry{
		Line: p.line, At: time.Unix(0, p.head.Epoch).Add(now).UTC(), Version: p.head.Version, Members: p.head.Members,
		Mode: p.gov.Mode(), Queue: q, Decision: d, Why: p.gov.Explain(d), Belief: p.gov.Belief(), Options: p.gov.Options(nil),
	}
	return nil
}

// compare tells whether a decision is the one that was written.
func (p *player) compare(d governor.Decision, written string) error {
	again := string(new(pen).decision(d).buf[1:])
	switch {
	case again == written:
		return nil
	case p.head.Arch == runtime.GOARCH:
		return fmt.Errorf("the decision is %q, repeated it is %q", written, again)
	case alike(again, written):
		p.summary.Rounded++
		return nil
	}
	return fmt.Errorf("the decision is %q on %s, repeated on %s it is %q", written, p.head.Arch, runtime.GOARCH, again)
}

// What rounding may do to the figures of a decision.
const (
	chanceOff    = 1e-6
	predictedOff = time.Microsecond
)

// alike tells whether two decisions, as they are written, are the same but for
// rounding.
func alike(a, b string) bool {
	one, other := decided(a), decided(b)
	near := math.Abs(one.chance-other.chance) <= chanceOff && (one.predicted-other.predicted).Abs() <= predictedOff
	return near && one.rest == other.rest && one.err == nil && other.err == nil
}

// figures are a written decision.
type figures struct {
	chance    float64
	predicted time.Duration
	rest      string
	err       error
}

func decided(written string) (f figures) {
	w := &words{rest: written, more: true}
	f.rest = w.next() + " " + w.next() + " " + w.next() + " " + w.next()
	f.chance, f.predicted = w.float(), w.duration()
	f.rest += " " + w.all()
	f.err = w.err
	return f
}
