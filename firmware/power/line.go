package power

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// maxLine bounds what either side of a helper's socket reads, in bytes: a line and its
// end.
const maxLine = 4 << 10

// parseLine reads what a helper is asked for, one JSON object and nothing else:
//
//	{"set":"MODE_15W","at_reboot":true}
//
// It is stricter than encoding/json: no other key, none twice, none of another case.
func parseLine(line []byte) (c Change, err error) {
	dec := json.NewDecoder(bytes.NewReader(line))
	if open, err := dec.Token(); err != nil || open != json.Delim('{') {
		return c, errors.New("the line is no JSON object")
	}
	read := map[json.Token]bool{}
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return c, fmt.Errorf("JSON is malformed: %w", err)
		}
		if read[key] {
			return c, fmt.Errorf("%.40q stands twice", key)
		}
		read[key] = true
		if err := c.take(dec, key); err != nil {
			return c, err
		}
	}
	if _, err := dec.Token(); err != nil {
		return c, errors.New("the JSON object has no end")
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return c, errors.New("something follows the JSON object")
	}
	if !modeName.MatchString(c.Mode) {
		return c, fmt.Errorf("set: %.80q is not [A-Za-z0-9_.-]{1,64}", c.Mode)
	}
	return c, nil
}

// take reads the value of a key.
func (c *Change) take(dec *json.Decoder, key json.Token) error {
	value, err := dec.Token()
	if err != nil {
		return fmt.Errorf("JSON is malformed: %w", err)
	}
	ok := false
	switch key {
	case "set":
		c.Mode, ok = value.(string)
	case "at_reboot":
		c.AtReboot, ok = value.(bool)
	case "allow_reboot":
		c.AllowReboot, ok = value.(bool)
	default:
		return fmt.Errorf("%.40q is unknown: want set, at_reboot, allow_reboot", key)
	}
	if !ok {
		return fmt.Errorf("%s: %.40v is of another type", key, value)
	}
	return nil
}

// reply is what a helper answers.
type reply struct {
	OK     bool   `json:"ok"`
	Mode   string `json:"mode"`             // in force now; empty if unknown
	Reason string `json:"reason,omitempty"` // why it is not ok, as Reason says it
	Detail string `json:"detail,omitempty"` // a sentence
}
