package dash

import (
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/limber-edge/limber/agent/wire"
)

// TestThePageReadsWhatTheServerWrites compares the types of the page with those of the
// server: names, fields, what may be absent.
func TestThePageReadsWhatTheServerWrites(t *testing.T) {
	want := interfaces(reflect.TypeFor[message](), reflect.TypeFor[aimBody](), reflect.TypeFor[actBody](),
		reflect.TypeFor[outcome](), reflect.TypeFor[fault]())
	b, err := os.ReadFile("web/src/wire.ts")
	if err != nil {
		t.Fatal(err)
	}
	got := declared(string(b))
	for name, fields := range want {
		if !slices.Equal(got[name], fields) {
			t.Errorf("interface %s: got\n\t%s\nwant\n\t%s", name, strings.Join(got[name], "\n\t"), strings.Join(fields, "\n\t"))
		}
	}
	for name := range got {
		if want[name] == nil {
			t.Errorf("interface %s is nothing that the server knows", name)
		}
	}
}

// declared are the fields of the interfaces in a TypeScript file, without comments.
func declared(source string) map[string][]string {
	source = regexp.MustCompile(`(?s)/\*.*?\*/|//[^\n]*`).ReplaceAllString(source, "")
	all := map[string][]string{}
	for _, m := range regexp.MustCompile(`(?s)export interface (\w+) \{(.*?)\n\}`).FindAllStringSubmatch(source, -1) {
		for line := range strings.Lines(m[2]) {
			if line = strings.TrimSpace(line); line != "" {
				all[m[1]] = append(all[m[1]], line)
			}
		}
	}
	return all
}

// interfaces are the fields of types, and of those that they have, as TypeScript has them.
func interfaces(types ...reflect.Type) map[string][]string {
	all := map[string][]string{}
	var add func(reflect.Type)
	add = func(t reflect.Type) {
		if _, known := all[nameOf(t)]; known {
			return
		}
		all[nameOf(t)] = nil
		for _, f := range fieldsOf(t) {
			all[nameOf(t)] = append(all[nameOf(t)], f.text)
			if of := structOf(f.of); of != nil {
				add(of)
			}
		}
	}
	for _, t := range types {
		add(t)
	}
	return all
}

// field is one of a struct, as JSON has it.
type field struct {
	text string // such as "mode?: string;"
	of   reflect.Type
}

func fieldsOf(t reflect.Type) (all []field) {
	for i := range t.NumField() {
		f := t.Field(i)
		if f.Anonymous {
			all = append(all, fieldsOf(f.Type)...)
			continue
		}
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if strings.Contains(options, "omit") {
			name += "?"
		}
		all = append(all, field{name + ": " + scriptOf(f.Type) + ";", f.Type})
	}
	return all
}

// structOf is the struct that a value of a type has in it; nil for none.
func structOf(t reflect.Type) reflect.Type {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice || t.Kind() == reflect.Map {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct || t == reflect.TypeFor[wire.Time]() || t == reflect.TypeFor[wire.Schema]() {
		return nil
	}
	return t
}

func nameOf(t reflect.Type) string { return strings.ToUpper(t.Name()[:1]) + t.Name()[1:] }

// scriptOf is a type in TypeScript.
func scriptOf(t reflect.Type) string {
	switch {
	case t == reflect.TypeFor[wire.Time]():
		return "string"
	case t == reflect.TypeFor[wire.Schema]():
		return "1"
	case t == reflect.TypeFor[figures]():
		return "(number | null)[]"
	}
	switch t.Kind() {
	case reflect.Pointer:
		return scriptOf(t.Elem())
	case reflect.Slice:
		return scriptOf(t.Elem()) + "[]"
	case reflect.Map:
		return "Record<string, " + scriptOf(t.Elem()) + ">"
	case reflect.Struct:
		return nameOf(t)
	case reflect.Bool:
		return "boolean"
	case reflect.String:
		if t.Name() != "string" && (t == reflect.TypeFor[steer]() || t.Name() == "Look") {
			return nameOf(t)
		}
		return "string"
	}
	return "number"
}
