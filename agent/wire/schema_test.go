package wire_test

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/limber-edge/limber/agent/wire"
)

// rule is the part of JSON Schema that the published schemas use. A field that
// is not here makes reading fail.
type rule struct {
	Schema      string           `json:"$schema"`
	ID          string           `json:"$id"`
	Title       string           `json:"title"`
	Description string           `json:"description"`
	Type        string           `json:"type"`
	Const       any              `json:"const"`
	Enum        []any            `json:"enum"`
	Pattern     string           `json:"pattern"`
	Format      string           `json:"format"`
	MinLength   int              `json:"minLength"`
	Minimum     *float64         `json:"minimum"`
	Maximum     *float64         `json:"maximum"`
	Above       *float64         `json:"exclusiveMinimum"`
	Required    []string         `json:"required"`
	Properties  map[string]*rule `json:"properties"`
	MinProps    int              `json:"minProperties"`
	MaxProps    *int             `json:"maxProperties"`
	Names       *rule            `json:"propertyNames"`
	Additional  *rule            `json:"additionalProperties"`
	Items       *rule            `json:"items"`
	MinItems    int              `json:"minItems"`
	MaxItems    *int             `json:"maxItems"`
	OneOf       []*rule          `json:"oneOf"`

	forbidden bool // the schema false
}

func (r *rule) UnmarshalJSON(b []byte) error {
	if string(b) == "false" {
		r.forbidden = true
		return nil
	}
	type plain rule
	dec := json.NewDecoder(strings.NewReader(string(b)))
	dec.DisallowUnknownFields()
	return dec.Decode((*plain)(r))
}

// check says where v breaks the rule; nil means that it agrees.
func (r *rule) check(at string, v any) error {
	switch {
	case r.forbidden:
		return fmt.Errorf("%s must be absent", at)
	case r.Const != nil && v != r.Const:
		return fmt.Errorf("%s is %v, want %v", at, v, r.Const)
	case r.Enum != nil && !slices.Contains(r.Enum, v):
		return fmt.Errorf("%s is %v, want one of %v", at, v, r.Enum)
	case r.OneOf != nil:
		agree := 0
		for _, o := range r.OneOf {
			if o.check(at, v) == nil {
				agree++
			}
		}
		if agree != 1 {
			return fmt.Errorf("%s agrees with %d of the alternatives, want 1", at, agree)
		}
	}
	if err := r.checkType(at, v); err != nil {
		return err
	}
	switch v := v.(type) {
	case string:
		return r.checkString(at, v)
	case float64:
		return r.checkNumber(at, v)
	case []any:
		return r.checkArray(at, v)
	case map[string]any:
		return r.checkObject(at, v)
	}
	return nil
}

func (r *rule) checkType(at string, v any) error {
	got := "null"
	switch v := v.(type) {
	case string:
		got = "string"
	case bool:
		got = "boolean"
	case []any:
		got = "array"
	case map[string]any:
		got = "object"
	case float64:
		got = "number"
		if r.Type == "integer" && v == math.Trunc(v) {
			got = "integer"
		}
	}
	if r.Type != "" && got != r.Type {
		return fmt.Errorf("%s is a %s, want a %s", at, got, r.Type)
	}
	return nil
}

func (r *rule) checkString(at, v string) error {
	if r.Pattern != "" && !regexp.MustCompile(r.Pattern).MatchString(v) {
		return fmt.Errorf("%s is %q, want %s", at, v, r.Pattern)
	}
	if _, err := time.Parse(time.RFC3339, v); r.Format == "date-time" && err != nil {
		return fmt.Errorf("%s: %w", at, err)
	}
	if utf8.RuneCountInString(v) < r.MinLength {
		return fmt.Errorf("%s is shorter than %d", at, r.MinLength)
	}
	return nil
}

func (r *rule) checkNumber(at string, v float64) error {
	if r.Minimum != nil && v < *r.Minimum || r.Maximum != nil && v > *r.Maximum || r.Above != nil && v <= *r.Above {
		return fmt.Errorf("%s is %v, out of range", at, v)
	}
	return nil
}

func (r *rule) checkArray(at string, v []any) error {
	if len(v) < r.MinItems || r.MaxItems != nil && len(v) > *r.MaxItems {
		return fmt.Errorf("%s has %d items", at, len(v))
	}
	for i, item := range v {
		if r.Items == nil {
			break
		}
		if err := r.Items.check(fmt.Sprintf("%s[%d]", at, i), item); err != nil {
			return err
		}
	}
	return nil
}

func (r *rule) checkObject(at string, v map[string]any) error {
	for _, name := range r.Required {
		if _, ok := v[name]; !ok {
			return fmt.Errorf("%s has no %s", at, name)
		}
	}
	if len(v) < r.MinProps || r.MaxProps != nil && len(v) > *r.MaxProps {
		return fmt.Errorf("%s has %d fields", at, len(v))
	}
	for name, value := range v {
		if r.Names != nil {
			if err := r.Names.check(at+": the name of a field", name); err != nil {
				return err
			}
		}
		of := r.Properties[name]
		if of == nil {
			of = r.Additional
		}
		if of == nil {
			continue
		}
		if err := of.check(at+"."+name, value); err != nil {
			return err
		}
	}
	return nil
}

func mustSchema(tb testing.TB, name string) *rule {
	tb.Helper()
	b, err := os.ReadFile(filepath.Join("schema", name+".json"))
	if err != nil {
		tb.Fatal(err)
	}
	r := new(rule)
	if err := json.Unmarshal(b, r); err != nil {
		tb.Fatalf("schema %s: %v", name, err)
	}
	return r
}

func schemaOf(golden string) string {
	name, _, _ := strings.Cut(strings.TrimSuffix(filepath.Base(golden), ".json"), "-")
	return name
}

func TestGoldenFilesAgreeWithTheirSchemas(t *testing.T) {
	files, err := filepath.Glob("testdata/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("%d golden files, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var v any
			if err := json.Unmarshal(b, &v); err != nil {
				t.Fatal(err)
			}
			if err := mustSchema(t, schemaOf(file)).check("message", v); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestASchemaAndItsMessageHaveTheSameFields(t *testing.T) {
	covered := map[string]bool{}
	for _, m := range messages() {
		name := schemaOf(m.name)
		covered[name] = true
		sameFields(t, name, reflect.TypeOf(m.value), mustSchema(t, name))
	}
	files, err := filepath.Glob("schema/*.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".json")
		r := mustSchema(t, name)
		if !covered[name] || r.ID != "urn:limber:v1:"+name || r.Schema != "https://json-schema.org/draft/2020-12/schema" ||
			r.Title == "" {
			t.Errorf("%s: no golden message, or a wrong $id, $schema or title", file)
		}
	}
}

func sameFields(t *testing.T, at string, typ reflect.Type, r *rule) {
	t.Helper()
	for typ.Kind() == reflect.Pointer || typ.Kind() == reflect.Slice {
		typ = typ.Elem()
		if r.Items != nil {
			r = r.Items
		}
	}
	if typ.Kind() != reflect.Struct || typ == reflect.TypeFor[wire.Time]() || typ == reflect.TypeFor[wire.Schema]() {
		return
	}
	fields := 0
	for field, name := range fieldsOf(typ) {
		if r.Properties[name] == nil {
			t.Errorf("%s.%s is not in the schema", at, name)
			continue
		}
		fields++
		sameFields(t, at+"."+name, field.Type, r.Properties[name])
	}
	if fields != len(r.Properties) {
		t.Errorf("%s: the schema has %d fields, the message %d", at, len(r.Properties), fields)
	}
}

func TestSchemasRefuseWhatTheAgentRefuses(t *testing.T) {
	for _, tt := range []struct{ schema, json string }{
		{"command", `{"mode":"balanced"}`},
		{"command", `{"ttl_ms":1,"expires_at":"2026-01-31T12:00:00Z"}`},
		{"command", `{"ttl_ms":0}`},
		{"command", `{"ttl_ms":1,"goal":{}}`},
		{"command", `{"ttl_ms":1,"goal":{"prefer":"speed"}}`},
		{"desired", `{"version":0,"mode":"balanced"}`},
		{"desired", `{"version":1}`},
		{"desired", `{"version":1,"mode":"balanced","goal":{"min_top1":0.5}}`},
		{"desired", `{"version":1,"goal":{}}`},
		{"desired", `{"schema":2,"version":1,"mode":"balanced"}`},
		{"command", `{"ttl_ms":1,"family":{"name":"a","digest":"sha256:0a"}}`},
		{"command", `{"ttl_ms":1,"family":{"name":"a/b","digest":"sha256:` + strings.Repeat("0a", 32) + `"}}`},
		{"command", `{"ttl_ms":1,"cancel":"a/b"}`},
		{"command", `{"ttl_ms":1,"version":"a/b"}`},
		{"command", `{"ttl_ms":1,"digest":"sha256:0a"}`},
		{"command", `{"ttl_ms":1,"shadow":{"percent":0}}`},
		{"command", `{"ttl_ms":1,"shadow":{"frames":0}}`},
		{"command", `{"ttl_ms":1,"shadow":{"agreement":97}}`},
		{"command", `{"ttl_ms":1,"probation":{"frames":-1,"max_missed":0}}`},
		{"labels", `{"schema":1,"labels":{"a b":"c"}}`},
		{"labels", `{"schema":1,"labels":{"a":""}}`},
		{"fetch", `{"schema":1,"offset":-1,"bytes":1}`},
		{"fetch", `{"schema":1,"offset":0,"bytes":262145}`},
		{"rollout_command", `{"action":"dance","rollout":"r-1","ttl_ms":1}`},
		{"rollout_command", `{"action":"pause","rollout":"r/1","ttl_ms":1}`},
		{"header", `{"codec":"gif"}`},
		{"header", `{"codec":"rgb","width":0,"height":4}`},
		{"header", `{"codec":"rgb","width":4,"height":16385}`},
		{"header", `{"deadline_ms":0}`},
		{"header", `{"priority":"urgent"}`},
		{"header", `{"min_top1":70}`},
		{"header", `{"source":"a/b"}`},
	} {
		var v any
		if err := json.Unmarshal([]byte(tt.json), &v); err != nil {
			t.Fatal(err)
		}
		if mustSchema(t, tt.schema).check("message", v) == nil {
			t.Errorf("%s: %s agrees with the schema", tt.schema, tt.json)
		}
	}
}
