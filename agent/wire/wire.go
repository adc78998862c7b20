// Package wire says what travels between a device, its operator and those who
// send it frames: topics, payloads, states and reasons, and how strictly they
// are read.
//
//	limber/v1/{fleet}/{device}/
//	    state caps reported telemetry sync     device → broker
//	    result/{id} ack/{verb}/{id} event/{severity} fetch/{digest}
//	    desired synced job/{id} frame/{source}
//	    cmd/{verb}/{id} blob/{digest}/{offset} broker → device
//	    labels                                 between operators
//	limber/v1/{fleet}/@controller/
//	    state ack/rollout/{id} rollout/{id}    controller → broker
//	    cmd/rollout/{id}                       broker → controller
//
//	command: received → accepted → executing → succeeded | failed | timed_out
//	             └────→ rejected        └────→ cancelled | superseded
//
// Reserved, as no version sends it yet: the reason thermal.
//
// The one rule: bytes from outside become a value of this package or an error
// that names the field, and nothing in between. A name that is not
// [A-Za-z0-9_.-]{1,64} never reaches a topic; JSON with a duplicate key, excess
// depth, trailing bytes or a number out of range is never half read. Unknown
// fields are ignored, so that a newer peer can say more.
//
// The JSON Schemas in schema/ are the published form of the payloads and the
// golden files in testdata/ freeze them; asyncapi.json is both, with the topics, in one
// document, which a test writes. Units: top-1 and probabilities are
// fractions in [0, 1], *_percent are percentages, *_ms milliseconds, ts RFC
// 3339 in UTC.
package wire

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"time"
)

// Schema is the version of a payload. Its one value is written as 1; a payload
// without the field is read as version 1, one with another version is refused.
type Schema struct{}

func (Schema) MarshalJSON() ([]byte, error) { return []byte("1"), nil }

func (Schema) UnmarshalJSON(b []byte) error {
	if !bytes.Equal(b, []byte("1")) {
		return fmt.Errorf("schema %.20s: unknown version, this program reads 1", b)
	}
	return nil
}

// Time is an instant as the wire writes it: RFC 3339, UTC, whole milliseconds.
type Time struct{ time.Time }

// At is t as the wire can carry it, so that writing and reading give it back.
func At(t time.Time) Time { return Time{t.UTC().Truncate(time.Millisecond)} }

func (t Time) MarshalJSON() ([]byte, error) {
	return t.UTC().AppendFormat(nil, `"2006-01-02T15:04:05.000Z"`), nil
}

// UnmarshalJSON reads any RFC 3339 time, whatever its zone and precision.
func (t *Time) UnmarshalJSON(b []byte) error {
	var read time.Time
	err := json.Unmarshal(b, &read)
	year := read.UTC().Year() // of four digits in its own zone, but perhaps not in ours
	if err != nil || year < 0 || year > 9999 {
		return fmt.Errorf("time %.40s: want RFC 3339, such as \"2026-01-31T12:00:00Z\"", b)
	}
	t.Time = read.UTC()
	return nil
}

// Millis is d in milliseconds, to the microsecond.
func Millis(d time.Duration) float64 { return math.Round(float64(d)/float64(time.Microsecond)) / 1000 }

// duration is the reverse of Millis for a value already checked for range.
func duration(ms float64) time.Duration {
	return time.Duration(math.Round(ms * float64(time.Millisecond)))
}
