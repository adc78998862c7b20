package trial

import (
	"bytes"
	"testing"
)

// The process that a foreign model ran in may write anything.
func FuzzParseOutcome(f *testing.F) {
	for _, line := range []string{"", `{"logits":[1,2,3]}` + "\n", `{"logits":[1e39,2,3]}`, `{"fault":"x","ran":true}`,
		`{"ran":true,"logits":[1,2,3]}`, `{"logits":[null,2,3]}`, "[]"} {
		f.Add([]byte(line))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		o, err := parseOutcome(line, 3)
		if err == nil && o.Fault == "" && (o.Ran || len(o.Logits) != 3) {
			t.Errorf("got %+v of %q", o, line)
		}
	})
}

func FuzzReadRequest(f *testing.F) {
	f.Add(append([]byte(`{"shape":{"R":1,"Classes":2}}`+"\n"), make([]byte, 20)...))
	f.Add([]byte(`{"shape":{"R":1}}` + "\n"))
	f.Add([]byte(`{"shape":{"R":-1}}` + "\n"))
	f.Add([]byte(`{"shape":{"R":2147483648}}` + "\n"))
	f.Add([]byte(`{"shape":{"R":1000000000}}` + "\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, input, model, err := readRequest(bytes.NewReader(b))
		if err == nil && (len(input) != 3*r.Shape.R*r.Shape.R || len(model) > len(b)) {
			t.Errorf("got %d numbers and a model of %d bytes for %+v", len(input), len(model), r.Shape)
		}
	})
}
