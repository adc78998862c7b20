// Package brokerconfig holds what a broker needs to know about Limber: ready
// mosquitto files, and the reading of their access list, so that the embedded
// broker obeys the very lines a mosquitto in the field does. The list makes a user
// one of four roles: a device, an operator, a viewer or Home Assistant.
//
// The rule that makes it correct: what no line allows is denied, and a line
// matches by MQTT's own wildcard rules, level by level, never by prefix.
package brokerconfig

import (
	"bufio"
	"bytes"
	_ "embed"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/limber-edge/limber/agent/wire"
)

//go:embed mosquitto/acl
var defaultACL []byte

// Access is what a client wants to do with a topic.
type Access int

const (
	Read      Access = 1 << iota // be sent a message of this topic
	Write                        // publish to this topic
	Subscribe                    // name this filter, of which every topic must be readable
)

// ACL is a parsed access list. It does not change and may be shared.
type ACL struct {
	users    map[string][]rule // "" holds the lines before any user, which speak of the nameless
	patterns []rule            // for everybody
}

// rule is one line. Without a right it denies.
type rule struct {
	filter []string // levels; those of a pattern may hold %u and %c
	rights Access
}

// DefaultACL is the list in mosquitto/acl.
func DefaultACL() (*ACL, error) { return ParseACL(bytes.NewReader(defaultACL)) }

// DeskACL is DefaultACL for a broker whose clients are all on its machine: the
// operator may also use the topics that cameras have chosen.
func DeskACL() (*ACL, error) {
	more := "\nuser " + wire.Operator + "\ntopic readwrite #\n"
	return ParseACL(io.MultiReader(bytes.NewReader(defaultACL), strings.NewReader(more)))
}

// ParseACL reads mosquitto's acl_file: `user NAME`, `topic [read|write|
// readwrite|deny] FILTER` and `pattern [...] FILTER`. Errors name the line.
func ParseACL(r io.Reader) (*ACL, error) {
	acl := &ACL{users: make(map[string][]rule)}
	user := ""
	lines := bufio.NewScanner(r)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		if err := acl.line(line, &user); err != nil {
			return nil, fmt.Errorf("access list, line %d: %w", n, err)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("access list: %w", err)
	}
	return acl, nil
}

// line adds one line; user is the section it stands in.
func (a *ACL) line(line string, user *string) error {
	word, rest, _ := strings.Cut(line, " ")
	rest = strings.TrimSpace(rest)
	if rest == "" {
		return fmt.Errorf("%q needs a value", word)
	}
	switch word {
	case "user":
		*user = rest
		return nil
	case "topic":
		r, err := parseRule(rest)
		a.users[*user] = append(a.users[*user], r)
		return err
	case "pattern":
		r, err := parseRule(rest)
		a.patterns = append(a.patterns, r)
		return err
	}
	return fmt.Errorf("%q is not user, topic or pattern", word)
}

func parseRule(s string) (rule, error) {
	rights := Read | Write
	if word, filter, ok := strings.Cut(s, " "); ok {
		switch word {
		case "read":
			rights = Read
		case "write":
			rights = Write
		case "readwrite":
		case "deny":
			rights = 0
		default:
			return rule{}, fmt.Errorf("access %q is not read, write, readwrite or deny", word)
		}
		s = strings.TrimSpace(filter)
	}
	r := rule{strings.Split(s, "/"), rights}
	if !valid(r.filter) {
		return rule{}, fmt.Errorf("%q is not a topic filter", s)
	}
	return r, nil
}

// valid says whether wildcards fill their levels and # stands last.
func valid(filter []string) bool {
	for i, level := range filter {
		if strings.ContainsAny(level, "+#") && level != "+" && (level != "#" || i < len(filter)-1) {
			return false
		}
	}
	return true
}

// Allow says whether a client may have access to topic, which is a filter for
// Subscribe and a name otherwise. The nameless have the user "". As in
// mosquitto a user's own lines come first, a deny before what it contradicts,
// and then the patterns; and a subscription to more than what is denied is allowed,
// so each message must be asked for before it is delivered.
func (a *ACL) Allow(user, clientID, topic string, access Access) bool {
	levels := strings.Split(topic, "/")
	if access == Subscribe {
		levels = unshared(levels)
	} else if strings.ContainsAny(topic, "+#") {
		return false
	}
	if topic == "" || !valid(levels) {
		return false
	}
	if allowed, said := judge(a.users[user], levels, access); said {
		return allowed
	}
	if strings.ContainsAny(user+clientID, "+#/") { // would widen the pattern it fills
		return false
	}
	allowed, _ := judge(fill(a.patterns, user, clientID), levels, access)
	return allowed
}

// judge looks for the line that decides; said is false when none does.
func judge(rules []rule, topic []string, access Access) (allowed, said bool) {
	need := access
	if access == Subscribe {
		need = Read
	}
	for _, r := range rules {
		if r.rights == 0 && covers(r.filter, topic) {
			return false, true
		}
		allowed = allowed || r.rights&need != 0 && covers(r.filter, topic)
	}
	return allowed, allowed
}

// fill puts the client's names into the patterns. One that asks for a user
// says nothing about the nameless.
func fill(patterns []rule, user, clientID string) []rule {
	filled := make([]rule, 0, len(patterns))
	names := strings.NewReplacer("%u", user, "%c", clientID)
	for _, p := range patterns {
		filter := slices.Clone(p.filter)
		nameless := false
		for i, level := range filter {
			nameless = nameless || user == "" && strings.Contains(level, "%u")
			filter[i] = names.Replace(level)
		}
		if !nameless {
			filled = append(filled, rule{filter, p.rights})
		}
	}
	return filled
}

// covers says whether filter matches every topic that narrow, a filter or a
// name, matches. A leading wildcard never reaches topics that start with $.
func covers(filter, narrow []string) bool {
	if strings.HasPrefix(narrow[0], "$") && filter[0] != narrow[0] {
		return false
	}
	for i, level := range filter {
		switch {
		case level == "#":
			return true // also for the parent level, which # includes
		case i >= len(narrow) || narrow[i] == "#":
			return false
		case level != "+" && level != narrow[i]:
			return false
		}
	}
	return len(filter) == len(narrow)
}

// unshared strips $share/{group} from a shared subscription.
func unshared(filter []string) []string {
	if filter[0] == "$share" && len(filter) > 2 {
		return filter[2:]
	}
	return filter
}
