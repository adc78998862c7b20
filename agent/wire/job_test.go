package wire_test

import (
	"bytes"
	"encoding/binary"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent/wire"
)

// envelope is a job with this header, as a foreign publisher would write it.
func envelope(header, body string) []byte {
	b := binary.BigEndian.AppendUint16([]byte("LMB1"), uint16(len(header)))
	return append(append(b, header...), body...)
}

func TestPlainBytesAreAllBody(t *testing.T) {
	for _, s := range []string{"", "L", "LMB", "LMB2....", "lmb1....", "\xff\xd8\xff\xe0", "\x89PNG\r\n\x1a\n"} {
		h, body, err := wire.SplitJob([]byte(s))
		if err != nil || h != (wire.Header{}) || string(body) != s {
			t.Errorf("%q: got %+v, %q, %v; want the bytes and no header", s, h, body, err)
		}
	}
}

func TestJoinedJobSplitsAgain(t *testing.T) {
	for _, h := range []wire.Header{
		{},
		{Codec: wire.PNG},
		{Priority: wire.Low},
		{Source: "front"},
		{Codec: wire.JPEG, DeadlineMS: new(50.0), MinTop1: new(0.7), TS: "2026-01-31T12:00:00Z", Trace: "cam<1>&"},
		{DeadlineMS: new(16.7), MinTop1: new(0.0)},
		{Codec: wire.NV12, Width: 640, Height: 480},
	} {
		payload, err := wire.JoinJob(h, []byte("body"))
		if err != nil {
			t.Fatal(err)
		}
		got, body, err := wire.SplitJob(payload)
		if err != nil || !reflect.DeepEqual(got, h) || string(body) != "body" {
			t.Errorf("%q: got %+v, %q, %v; want %+v and the body", payload, got, body, err, h)
		}
	}
	if _, err := wire.JoinJob(wire.Header{Trace: strings.Repeat("x", 1<<16)}, nil); err == nil {
		t.Error("a header over 65535 bytes was joined")
	}
	if _, err := wire.JoinJob(wire.Header{Codec: "gif"}, nil); err == nil {
		t.Error("an unsupported codec was joined")
	}
}

func TestP14_DeadlinesOutOfRangeAreRefusedAndAMissingOneIsTheDefault(t *testing.T) {
	for _, tt := range []struct {
		header string
		want   time.Duration
		err    string
	}{
		{`{}`, 100 * time.Millisecond, ""},
		{`{"deadline_ms":null}`, 100 * time.Millisecond, ""},
		{`{"deadline_ms":1}`, time.Millisecond, ""},
		{`{"deadline_ms":50.0}`, 50 * time.Millisecond, ""},
		{`{"deadline_ms":16.7}`, 16700 * time.Microsecond, ""},
		{`{"deadline_ms":600000}`, 10 * time.Minute, ""},
		{`{"deadline_ms":0}`, 0, "deadline_ms: 0 is not in [1, 600000]"},
		{`{"deadline_ms":0.999}`, 0, "deadline_ms: 0.999 is not in"},
		{`{"deadline_ms":-5}`, 0, "deadline_ms: -5 is not in"},
		{`{"deadline_ms":600001}`, 0, "deadline_ms: 600001 is not in"},
		{`{"deadline_ms":1e308}`, 0, "deadline_ms: 1e+308 is not in"},
		{`{"deadline_ms":"50ms"}`, 0, "deadline_ms at offset 21: got string, want a number"},
	} {
		h, _, err := wire.SplitJob(envelope(tt.header, ""))
		switch {
		case tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)):
			t.Errorf("%s: got %v, want ...%s...", tt.header, err, tt.err)
		case tt.err == "" && (err != nil || h.Deadline() != tt.want):
			t.Errorf("%s: got %v, %v; want %v", tt.header, h.Deadline(), err, tt.want)
		}
	}
}

func TestABrokenEnvelopeIsRefused(t *testing.T) {
	for _, tt := range []struct {
		name    string
		payload []byte
		want    string
	}{
		{"no length", []byte("LMB1"), "end before the header length"},
		{"half a length", []byte("LMB1\x00"), "end before the header length"},
		{"length over the payload", []byte("LMB1\x00\x05{}"), "has 5 bytes, but only 2 follow"},
		{"greatest length", []byte("LMB1\xff\xff{}"), "has 65535 bytes, but only 2 follow"},
		{"empty header", envelope("", "body"), "ends too early"},
		{"not JSON", envelope("\x81\xa5codec", "body"), "not valid UTF-8"},
		{"two objects", envelope("{}{}", ""), "2 bytes follow"},
		{"duplicate key", envelope(`{"codec":"png","codec":"jpeg"}`, ""), "duplicate key"},
		{"length in the wrong byte order", append([]byte("LMB1\x12\x00"), `{"codec":"jpeg"  }body`...),
			"wrong byte order, as 4608: write 18 big endian"},
		{"the same, with a long body", append([]byte("LMB1\x12\x00"), `{"codec":"jpeg"  }`+strings.Repeat("x", 1<<16)...),
			"wrong byte order, as 4608: write 18 big endian"},
		{"P15 unknown codec", envelope(`{"codec":"gif"}`, ""),
			`codec: "gif" is not supported, want jpeg, png, webp, or of raw frames rgb, bgr, gray or nv12`},
		{"P9 width with a fraction", envelope(`{"codec":"rgb","width":4.5,"height":4}`, ""),
			"width at offset 26: got number 4.5, want a whole number"},
		{"P9 height of text", envelope(`{"codec":"rgb","width":4,"height":"4"}`, ""),
			"height at offset 37: got string, want a whole number"},
		{"P9 width beyond 64 bits", envelope(`{"codec":"rgb","width":18446744073709551616,"height":4}`, ""),
			"width at offset 22: the number 18446744073709551616 is out of range"},
		{"P9 width beyond a number", envelope(`{"codec":"rgb","width":1e400,"height":4}`, ""),
			"width at offset 22: the number 1e400 is out of range"},
		{"P9 width beyond the sign", envelope(`{"codec":"rgb","width":9223372036854775808,"height":4}`, ""),
			"width at offset"},
		{"codec in capitals", envelope(`{"codec":"JPEG"}`, ""), "is not supported"},
		{"top-1 in percent", envelope(`{"min_top1":70}`, ""), "min_top1: 70 is not a fraction in [0, 1]"},
		{"unknown priority", envelope(`{"priority":"urgent"}`, ""), "priority: \"urgent\" is not known, want low, normal " +
			"or high"},
		{"source with a slash", envelope(`{"source":"a/b"}`, ""), "source: \"a/b\" is not [A-Za-z0-9_.-]{1,40}"},
		{"source too long", envelope(`{"source":"`+strings.Repeat("a", 41)+`"}`, ""), "is not [A-Za-z0-9_.-]{1,40}"},
		{"source a number", envelope(`{"source":1}`, ""), "source at offset 11: got number, want a string"},
		{"negative top-1", envelope(`{"min_top1":-0.1}`, ""), "is not a fraction"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, body, err := wire.SplitJob(tt.payload)
			if err == nil || !strings.Contains(err.Error(), tt.want) || body != nil {
				t.Errorf("got %q, %v; want ...%s... and no body", body, err, tt.want)
			}
		})
	}
}

func FuzzSplitJob(f *testing.F) {
	f.Add([]byte("\xff\xd8\xff"))
	f.Add([]byte("LMB1\x00"))
	f.Add(envelope(`{"codec":"png","deadline_ms":50,"min_top1":0.5,"source":"front","ts":"t","trace":"x"}`, "body"))
	f.Add(envelope(`{"deadline_ms":1e400}`, ""))
	f.Add(envelope(`{"codec":"rgb","width":1,"height":1}`, "rgb"))
	f.Add([]byte("LMB1\x02\x00{}body"))
	f.Fuzz(func(t *testing.T, payload []byte) {
		h, body, err := wire.SplitJob(payload)
		if err != nil {
			return
		}
		if !bytes.HasSuffix(payload, body) {
			t.Fatalf("%q: the body %q is not its end", payload, body)
		}
		if d := h.Deadline(); d < time.Millisecond || d > 10*time.Minute {
			t.Fatalf("%q: deadline %v", payload, d)
		}
		joined, err := wire.JoinJob(h, body)
		if err != nil {
			t.Skip("escapes made the header longer than 65535 bytes")
		}
		h2, body2, err := wire.SplitJob(joined)
		if err != nil || !reflect.DeepEqual(h, h2) || !bytes.Equal(body, body2) {
			t.Fatalf("%q: joined and split again: %+v, %q, %v", payload, h2, body2, err)
		}
	})
}
