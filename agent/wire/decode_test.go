package wire_test

import (
	"encoding/json"
	"iter"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent/wire"
)

// nested is a field with arrays that make the whole n levels deep.
func nested(n int) string {
	return `{"x":` + strings.Repeat("[", n-1) + strings.Repeat("]", n-1) + `}`
}

func TestP11_HostileJSONIsRefusedAndTheErrorSaysWhere(t *testing.T) {
	for _, tt := range []struct {
		name, json, want string // want is a part of the error; empty for none
	}{
		{"duplicate key", `{"version":1,"version":2}`, `duplicate key "version"`},
		{"duplicate key by escape", `{"version":1,"\u0076ersion":2}`, `duplicate key "version"`},
		{"duplicate key inside", `{"goal":{"prefer":"energy","prefer":"latency"}}`, `goal at offset`},
		{"duplicate key in an unknown field", `{"x":[{"a":1,"a":1}]}`, `duplicate key "a"`},
		{"the same key in two objects", `{"a":{"k":1},"b":{"k":1}}`, ""},
		{"depth 16", nested(16), ""},
		{"depth 17", nested(17), "deeper than 16"},
		{"depth 30000", nested(30000), "deeper than 16"},
		{"float out of range", `{"goal":{"max_watts":1e400}}`, "goal.max_watts at offset 20: the number 1e400 is out of " +
			"range"},
		{"float out of range in an unknown field", `{"x":-1e400}`, "out of range"},
		{"integer beyond 64 bits", `{"version":18446744073709551616}`, "out of range"},
		{"integer of 64 bits", `{"version":18446744073709551615}`, ""},
		{"negative integer beyond 64 bits", `{"x":-9223372036854775809}`, "out of range"},
		{"huge integer", `{"x":` + strings.Repeat("9", 60000) + `}`, "out of range"},
		{"negative version", `{"version":-1}`, "version at offset 13: got number -1, want a whole number from 0"},
		{"version with a fraction", `{"version":1.5}`, "version at offset"},
		{"string for a number", `{"version":"1"}`, "got string, want a whole number"},
		{"array for an object", `{"goal":[]}`, "goal at offset 9: got array, want an object"},
		{"invalid UTF-8", "{\"mode\":\"\xff\"}", "not valid UTF-8"},
		{"byte order mark", "\ufeff{}", "byte order mark"},
		{"trailing bytes", `{} x`, "1 bytes follow"},
		{"trailing object", `{}{}`, "2 bytes follow"},
		{"trailing NUL", "{}\x00", "1 bytes follow"},
		{"trailing white space", "{} \r\n\t", ""},
		{"empty", ``, "ends too early"},
		{"blank", ` `, "ends too early"},
		{"cut off", `{"version":1`, "ends too early"},
		{"cut off in a key", `{"vers`, "ends too early"},
		{"missing comma", `{"version":1 "mode":"x"}`, "malformed"},
		{"trailing comma", `{"version":1,}`, "malformed"},
		{"comment", `{/**/}`, "malformed"},
		{"NaN", `{"version":NaN}`, "malformed"},
		{"leading zero", `{"version":01}`, "malformed"},
		{"control character in a string", "{\"mode\":\"\n\"}", "malformed"},
		{"null", `null`, "not an object"},
		{"array", `[]`, "not an object"},
		{"string", `"x"`, "not an object"},
		{"over 64 KiB", `{"x":"` + strings.Repeat("x", wire.MaxControl) + `"}`, "more than 65536"},
		{"at 64 KiB", `{"x":"` + strings.Repeat("x", wire.MaxControl-8) + `"}`, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := wire.Decode([]byte(tt.json), new(wire.Desired))
			switch {
			case tt.want == "" && err != nil:
				t.Errorf("got %v, want no error", err)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("got %v, want ...%s...", err, tt.want)
			case err != nil && len(err.Error()) > 300:
				t.Errorf("the error repeats the payload: %d bytes", len(err.Error()))
			}
		})
	}
}

func TestP15_UnknownFieldsAreIgnoredAndUnknownSchemasAreNot(t *testing.T) {
	for _, tt := range []struct {
		json string
		want wire.Desired
		says string // in the error; "" if there is none
	}{
		{`{"schema":1,"version":3,"mode":"balanced","rates":{"telemetry_s":5}}`, wire.Desired{Version: 3, Mode: "balanced"},
			""},
		{`{"version":3}`, wire.Desired{Version: 3}, ""},
		{`{"schema":2,"version":3}`, wire.Desired{}, "schema 2: unknown version"},
		{`{"schema":"1","version":3}`, wire.Desired{}, `schema "1": unknown version`},
		{`{"schema":1.0,"version":3}`, wire.Desired{}, "schema 1.0: unknown version"},
	} {
		var got wire.Desired
		err := wire.Decode([]byte(tt.json), &got)
		if (err == nil) != (tt.says == "") || err == nil && got != tt.want || err != nil &&
			!strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: got %+v, %v; want %+v, %q", tt.json, got, err, tt.want, tt.says)
		}
	}
}

func TestAKeyIsAFieldOnlyInItsOwnCase(t *testing.T) {
	in := `{"Mode":"a","mode":"b","MODE":"c","\u004dodE":"d","version":7,"Ver\u017fion":8,"verſion":9, "Goal" :{"prefer":"energy"}}`
	before := strings.Clone(in)
	payload := []byte(in)
	var got wire.Desired
	if err := wire.Decode(payload, &got); err != nil {
		t.Fatal(err)
	}
	if want := (wire.Desired{Mode: "b", Version: 7}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if string(payload) != before {
		t.Errorf("the payload became %s", payload)
	}
}

func TestSensorNamesKeepTheirCase(t *testing.T) {
	var got wire.Telemetry
	if err := wire.Decode([]byte(`{"temps_c":{"CPU-therm":41.5,"cpu-therm":40}}`), &got); err != nil {
		t.Fatal(err)
	}
	if got.TempsC["CPU-therm"] != 41.5 || got.TempsC["cpu-therm"] != 40 {
		t.Errorf("got %v, want both sensors", got.TempsC)
	}
}

// Decode hides keys that are not written like fields, so every field must be
// written like one, and only the maps whose keys it knows to be data may be there.
func TestEveryFieldIsLowerCaseAndEveryMapIsKnown(t *testing.T) {
	for _, m := range messages() {
		visit(reflect.TypeOf(m.value), func(field reflect.StructField, name string) {
			if strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789_") != "" || name == "" {
				t.Errorf("%v: the field %q would be hidden", m.name, name)
			}
			if field.Type.Kind() == reflect.Map && name != "temps_c" && name != "labels" {
				t.Errorf("%v: the keys of the map %s would be hidden", m.name, name)
			}
		})
	}
}

// fieldsOf are the fields of a struct by their names in JSON, with those of structs
// that are embedded in it.
func fieldsOf(typ reflect.Type) iter.Seq2[reflect.StructField, string] {
	return func(yield func(reflect.StructField, string) bool) {
		for _, field := range reflect.VisibleFields(typ) {
			name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
			if !field.Anonymous && !yield(field, name) {
				return
			}
		}
	}
}

func visit(typ reflect.Type, see func(reflect.StructField, string)) {
	for typ.Kind() == reflect.Pointer || typ.Kind() == reflect.Slice {
		typ = typ.Elem()
	}
	if typ.Kind() != reflect.Struct || typ == reflect.TypeFor[wire.Time]() {
		return
	}
	for field, name := range fieldsOf(typ) {
		see(field, name)
		visit(field.Type, see)
	}
}

// decodeAs reads b as the message that which chooses.
func decodeAs(b []byte, which byte) (any, error) {
	switch which % 9 {
	case 0:
		v := new(wire.Command)
		return v, wire.Decode(b, v)
	case 1:
		v := new(wire.Desired)
		return v, wire.Decode(b, v)
	case 3:
		v := new(wire.Ack)
		return v, wire.Decode(b, v)
	case 4:
		v := new(wire.Reported)
		return v, wire.Decode(b, v)
	case 5:
		v := new(wire.Telemetry)
		return v, wire.Decode(b, v)
	case 6:
		v := new(wire.RolloutCommand)
		return v, wire.Decode(b, v)
	case 7:
		v := new(wire.Labels)
		return v, wire.Decode(b, v)
	case 8:
		v := new(wire.Fetch)
		return v, wire.Decode(b, v)
	}
	v := new(wire.Header)
	return v, wire.Decode(b, v)
}

func FuzzDecode(f *testing.F) {
	for i, s := range []string{
		`{"mode":"balanced","ttl_ms":500}`, `{"version":3,"goal":{"deadline_ms":50,"prefer":"energy"}}`,
		`{"codec":"jpeg","min_top1":0.7,"deadline_ms":50}`,
		`{"MODE":"x","expires_at":"2026-01-31T12:00:00+02:00"}`, nested(17), `{"x":1e400}`, "\ufeff{}", `{"a":1,"\u0061":2}`,
		`{"temps_c":{"A":[{"B":1}]}}`,
	} {
		f.Add([]byte(s), byte(i))
	}
	f.Add([]byte(`{"goal":{"deadline_ms":50,"min_top1":0.8,"max_watts":5},"ttl_ms":500}`), byte(0))
	f.Add([]byte(`{"state":"rejected","reason":"infeasible","nearest":{"min_top1":0.7,"prefer":"latency"}}`), byte(3))
	f.Add([]byte(`{"version":3,"status":"rejected","nearest":{"max_watts":1e400},"goal":{"prefer":"energy"}}`), byte(4))
	f.Add([]byte(`{"mode":"goal","goal":{"deadline_ms":5}}`), byte(5))
	f.Fuzz(func(t *testing.T, b []byte, which byte) {
		got, err := decodeAs(b, which)
		if err != nil {
			return
		}
		if !json.Valid(b) {
			t.Fatalf("%q is not JSON and was read", b)
		}
		again, err := json.Marshal(got)
		if err != nil {
			t.Fatalf("%q was read as %+v, which cannot be written: %v", b, got, err)
		}
		second, err := decodeAs(again, which)
		if err != nil || canonical(t, second) != string(again) {
			t.Fatalf("%q: wrote %s, read %+v, %v", b, again, second, err)
		}
	})
}

func canonical(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// A command is sound under its own verb if its aim is, or if it has a power mode
// and no aim.
func FuzzAim(f *testing.F) {
	f.Add([]byte(`{"goal":{"deadline_ms":50,"min_top1":0.8,"max_watts":5,"prefer":"energy"}}`))
	f.Add([]byte(`{"mode":"balanced"}`))
	f.Add([]byte(`{"mode":"balanced","goal":{}}`))
	f.Add([]byte(`{"power_mode":"MAXN"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var c wire.Command
		if wire.Decode(b, &c) != nil {
			return
		}
		aim, err := c.Aim(), c.Check(c.Verb())
		sound := aim.Check() == nil
		if c.PowerMode != "" {
			sound = aim == wire.Aim{}
		}
		if (err == nil) != sound {
			t.Errorf("%s: the command is judged %v, its aim %v", b, err, aim.Check())
		}
		if g := aim.Goal; err == nil && g != nil && (g.Deadline() < 0 || g.Deadline() > 10*time.Minute || g.String() == "") {
			t.Errorf("%s: deadline %v, in words %q", b, g.Deadline(), g)
		}
	})
}
