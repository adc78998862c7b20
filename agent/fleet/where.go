package fleet

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/limber-edge/limber/agent/wire"
)

// Where is what devices must be like: the conditions of an expression, all of which
// must hold. The zero Where fits every device.
//
//	expression = condition { "," condition }
//	condition  = key ( "=" | "!=" ) value
//
// Spaces around a key or a value do not count. In a value `*` stands for any text, also
// none, but what a device never said is no text: label.site=* is true of those that have
// the label, and label.site!=* of the others.
type Where struct{ conditions []condition }

// condition is one of a Where.
type condition struct {
	test func(Device) bool
	not  bool
}

// WhereError says what is wrong with an expression, and where.
type WhereError struct {
	Pos int // bytes into the expression, from 0
	Err error
}

func (e *WhereError) Error() string { return fmt.Sprintf("position %d: %v", e.Pos+1, e.Err) }

// Unwrap returns what is wrong.
func (e *WhereError) Unwrap() error { return e.Err }

// MaxWhere is the length limit of an expression, in bytes.
const MaxWhere = 4096

// ParseWhere reads an expression; an empty one fits every device. Its error is a
// *WhereError.
func ParseWhere(expression string) (Where, error) {
	var w Where
	if len(expression) > MaxWhere {
		return w, whereErrorf(MaxWhere, "the expression is longer than %d bytes", MaxWhere)
	}
	if strings.TrimSpace(expression) == "" {
		return w, nil
	}
	at := 0
	for one := range strings.SplitSeq(expression, ",") {
		c, err := parseCondition(word{one, at})
		if err != nil {
			return Where{}, err
		}
		w.conditions = append(w.conditions, c)
		at += len(one) + len(",")
	}
	return w, nil
}

// Fits tells whether all conditions hold for a device.
func (w Where) Fits(d Device) bool {
	return !slices.ContainsFunc(w.conditions, func(c condition) bool { return c.test(d) == c.not })
}

// word is a part of an expression.
type word struct {
	text string
	at   int // bytes into the expression
}

// trimmed is the word without the spaces around it.
func (w word) trimmed() word {
	text := strings.TrimLeft(w.text, " \t\r\n")
	return word{strings.TrimRight(text, " \t\r\n"), w.at + len(w.text) - len(text)}
}

// errorf is an error at the word.
func (w word) errorf(format string, args ...any) error { return whereErrorf(w.at, format, args...) }

func whereErrorf(pos int, format string, args ...any) error {
	return &WhereError{Pos: pos, Err: fmt.Errorf(format, args...)}
}

func parseCondition(c word) (condition, error) {
	c = c.trimmed()
	key, value, ok := strings.Cut(c.text, "=")
	if c.text == "" {
		return condition{}, c.errorf("a condition is missing, such as state=online")
	}
	if !ok {
		return condition{}, word{at: c.at + len(c.text)}.errorf(`want "=" or "!=" behind %.80q`, c.text)
	}
	v := word{value, c.at + len(key) + len("=")}.trimmed()
	key, not := strings.CutSuffix(key, "!")
	k := word{key, c.at}.trimmed()
	if v.text == "" {
		return condition{}, v.errorf("the value of %.80s is missing", k.text)
	}
	test, err := parseTest(k, v)
	return condition{test, not}, err
}

// parseTest reads what is asked of a device.
func parseTest(key, value word) (func(Device) bool, error) {
	if label, ok := strings.CutPrefix(key.text, "label."); ok {
		if !wire.ValidName(label) {
			return nil, key.errorf("the label %.80q is not [A-Za-z0-9_.-]{1,64}", label)
		}
		return like(value.text, func(d Device) string { return d.Labels[label] }), nil
	}
	switch key.text {
	case "group":
		return groupTest(value)
	case "state":
		return stateTest(value)
	case "family":
		return namedTest(value.text, Device.family), nil
	case "release":
		return namedTest(value.text, Device.release), nil
	case "can":
		return canTest(value)
	}
	say, ok := sayings()[key.text]
	if !ok {
		return nil, key.errorf("%.80q is none of device, group, label.KEY, state, mode, member, family, agent, release, "+
			"arch, runtime, machine, power, update, can", key.text)
	}
	return like(value.text, say), nil
}

// sayings are the keys whose value is a text that a device says, "" if it does not.
func sayings() map[string]func(Device) string {
	return map[string]func(Device) string{
		"device":  func(d Device) string { return d.Name },
		"mode":    func(d Device) string { return d.report().Mode },
		"member":  func(d Device) string { return d.report().Member },
		"agent":   func(d Device) string { return d.caps().Versions.Agent },
		"arch":    func(d Device) string { return d.caps().Arch },
		"runtime": func(d Device) string { return d.caps().Versions.Runtime },
		"machine": func(d Device) string { return d.caps().Machine },
		"power":   Device.powerMode,
		"update":  Device.update,
	}
}

// powerMode is that of the board, as far as it is known.
func (d Device) powerMode() string {
	if p := d.caps().Power; p != nil {
		return p.Mode
	}
	return ""
}

// update is how far the update is that is under way, else how the last one ended.
func (d Device) update() string {
	switch c := d.caps(); {
	case c.Update != nil:
		return string(c.Update.Step)
	case c.LastUpdate != nil:
		return string(c.LastUpdate.State)
	}
	return ""
}

// family is the one in use, by name and digest.
func (d Device) family() (name, digest string) {
	if f := d.caps().Family; f != nil {
		name, digest = f.Name, f.Digest
	}
	return name, digest
}

// release is the one that runs, by version and digest; the program of a package has no
// digest.
func (d Device) release() (version, digest string) {
	if r := d.caps().Release; r != nil {
		version, digest = r.Version, r.Digest
	}
	return version, digest
}

// report is what the device reported last, as far as it did.
func (d Device) report() wire.Reported {
	if d.Reported == nil {
		return wire.Reported{}
	}
	return *d.Reported
}

// caps is what the device said that it can do, as far as it did.
func (d Device) caps() wire.Caps {
	if d.Caps == nil {
		return wire.Caps{}
	}
	return *d.Caps
}

// like is true of devices that say something like a pattern.
func like(pattern string, say func(Device) string) func(Device) bool {
	return func(d Device) bool {
		text := say(d)
		return text != "" && matches(pattern, text)
	}
}

// matches tells whether a text is like a pattern, whose `*` stand for any text. It tries
// each place for the last `*` alone: those before took the first that would do.
func matches(pattern, text string) bool {
	star, from := -1, 0 // the last `*`, and where the text that it stands for ends
	p, t := 0, 0
	for t < len(text) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, from = p, t
			p++
		case p < len(pattern) && pattern[p] == text[t]:
			p, t = p+1, t+1
		case star >= 0:
			from++
			p, t = star+1, from
		default:
			return false
		}
	}
	return strings.Trim(pattern[p:], "*") == ""
}

// groupTest takes the name of a group with its "@" or without it.
func groupTest(value word) (func(Device) bool, error) {
	group := "@" + strings.TrimPrefix(value.text, "@")
	if !wire.ValidGroup(strings.ReplaceAll(group, "*", "x")) {
		return nil, value.errorf("%.80q is no group: want @ and [A-Za-z0-9_.-]{1,64}", value.text)
	}
	return func(d Device) bool {
		return matches(group, wire.Everybody) ||
			slices.ContainsFunc(d.caps().Groups, func(of string) bool { return matches(group, of) })
	}, nil
}

func stateTest(value word) (func(Device) bool, error) {
	state := wire.Presence(value.text)
	switch state {
	case wire.Online, wire.Offline, wire.Lost:
		return func(d Device) bool { return d.State != nil && d.State.State == state }, nil
	}
	return nil, value.errorf("%.80q is none of %s, %s, %s", value.text, wire.Online, wire.Offline, wire.Lost)
}

// leastDigest is how many digits of a digest are not taken for a name alone.
const leastDigest = 6

// namedTest takes a name, or the beginning of the digest with or without "sha256:".
func namedTest(value string, says func(Device) (name, digest string)) func(Device) bool {
	digits := strings.TrimPrefix(value, "sha256:")
	byDigest := digits != value || len(digits) >= leastDigest && strings.Trim(digits, "0123456789abcdef") == ""
	return func(d Device) bool {
		name, digest := says(d)
		return name != "" && (matches(value, name) || byDigest && matches("sha256:"+digits+"*", digest))
	}
}

// canTest takes a latency and an accuracy that one member must have both, such as
// 20ms@0.76.
func canTest(value word) (func(Device) bool, error) {
	latency, accuracy, ok := strings.Cut(value.text, "@")
	if !ok {
		return nil, value.errorf("want a latency, @ and a top-1, such as 20ms@0.76")
	}
	most, err := time.ParseDuration(latency)
	if err != nil || most <= 0 {
		return nil, value.errorf("%.80q is not a duration over 0, such as 20ms", latency)
	}
	least, err := strconv.ParseFloat(accuracy, 64)
	if err != nil || !(least >= 0 && least <= 1) {
		at := value.at + len(latency) + len("@")
		return nil, whereErrorf(at, "%.80q is not a fraction in [0, 1], such as 0.76", accuracy)
	}
	ms := float64(most) / float64(time.Millisecond)
	return func(d Device) bool {
		return slices.ContainsFunc(d.caps().Members, func(m wire.Member) bool {
			return m.P95MS != nil && *m.P95MS <= ms && m.Top1 >= least
		})
	}, nil
}
