package brokerconfig

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/limber-edge/limber/agent/wire"
)

// natsUser is what NATS lets one user do, in subjects.
type natsUser struct {
	name                     string
	publish, subscribe, deny []string
}

// WriteNATS writes the list for a NATS server, which knows no patterns: users with
// their permissions, of all that the list names and of the devices given. A user is
// the holder of a certificate with that common name. What the list says of @all it
// says of the groups as well.
//
// Topics are subjects there: a level is between dots, and a dot in a name is two
// slashes. Nothing is written of topics that begin with $, which NATS has not.
func (a *ACL) WriteNATS(w io.Writer, devices, groups []string) error {
	var users []natsUser
	var errs []error
	for _, name := range a.natsNames(devices) {
		u, err := a.natsUser(name, groups)
		users, errs = append(users, u), append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	var text strings.Builder
	text.WriteString("# Written by `limber broker acl --for nats`.\nauthorization {\n  users = [\n")
	for _, u := range users {
		u.write(&text)
	}
	text.WriteString("  ]\n}\n")
	_, err := io.WriteString(w, text.String())
	return err
}

// natsNames are those with lines of their own, and the devices, in order.
func (a *ACL) natsNames(devices []string) []string {
	names := slices.Collect(maps.Keys(a.users))
	names = slices.DeleteFunc(append(names, devices...), func(n string) bool { return n == "" })
	slices.Sort(names)
	return slices.Compact(names)
}

// natsUser puts a user's own lines and those for everybody into subjects.
func (a *ACL) natsUser(name string, groups []string) (natsUser, error) {
	u := natsUser{name: name}
	if !wire.ValidName(name) {
		return u, fmt.Errorf("user %q is not [A-Za-z0-9_.-]{1,64}", name)
	}
	rules := slices.Concat(a.users[name], fill(a.patterns, name, name))
	for _, r := range rules {
		if strings.HasPrefix(r.filter[0], "$") {
			continue
		}
		for _, filter := range forGroups(r.filter, groups) {
			subjects, err := natsSubjects(filter)
			if err != nil {
				return u, fmt.Errorf("user %s: %w", name, err)
			}
			u.add(r.rights, subjects)
		}
	}
	return u, nil
}

func (u *natsUser) add(rights Access, subjects []string) {
	if rights == 0 {
		u.deny = append(u.deny, subjects...)
	}
	if rights&Write != 0 {
		u.publish = append(u.publish, subjects...)
	}
	if rights&Read != 0 {
		u.subscribe = append(u.subscribe, subjects...)
	}
}

// write writes one user. NATS takes no list for everything, so one without a right
// is denied everything.
func (u natsUser) write(w *strings.Builder) {
	fmt.Fprintf(w, "    {\n      user: \"CN=%s\"\n      permissions: {\n", u.name)
	for _, side := range []struct {
		word  string
		allow []string
	}{{"publish", u.publish}, {"subscribe", u.subscribe}} {
		deny := u.deny
		if len(side.allow) == 0 {
			deny = []string{">"}
		}
		fmt.Fprintf(w, "        %s: {\n", side.word)
		writeSubjects(w, "allow", side.allow)
		writeSubjects(w, "deny", deny)
		w.WriteString("        }\n")
	}
	w.WriteString("      }\n    }\n")
}

func writeSubjects(w *strings.Builder, word string, subjects []string) {
	if len(subjects) == 0 {
		return
	}
	fmt.Fprintf(w, "          %s: [\n", word)
	for _, s := range slices.Compact(slices.Sorted(slices.Values(subjects))) {
		fmt.Fprintf(w, "            %q\n", s)
	}
	w.WriteString("          ]\n")
}

// forGroups is a filter, and one for each group where it speaks of everybody.
func forGroups(filter []string, groups []string) [][]string {
	filters := [][]string{filter}
	i := slices.Index(filter, wire.Everybody)
	if i < 0 {
		return filters
	}
	for _, g := range groups {
		of := slices.Clone(filter)
		of[i] = g
		filters = append(filters, of)
	}
	return filters
}

// natsSubjects are those that a filter matches: for # also that of the level above,
// for which NATS makes a subscription of its own.
func natsSubjects(filter []string) ([]string, error) {
	levels := make([]string, 0, len(filter))
	for _, level := range filter {
		switch {
		case level == "+":
			level = "*"
		case level == "#":
			level = ">"
		case level == "" || strings.ContainsFunc(level, notInSubject):
			return nil, fmt.Errorf("NATS has no subject for %s", strings.Join(filter, "/"))
		}
		levels = append(levels, strings.ReplaceAll(level, ".", "//"))
	}
	subjects := []string{strings.Join(levels, ".")}
	if n := len(levels) - 1; n > 0 && levels[n] == ">" {
		subjects = append(subjects, strings.Join(levels[:n], "."))
	}
	return subjects, nil
}

// notInSubject finds what is no part of a name there.
func notInSubject(c rune) bool {
	return c <= ' ' || c == 0x7f || c == '*' || c == '>' || c == '"' || c == '\\'
}
