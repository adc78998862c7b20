package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strconv"
	"strings"
	"unicode/utf8"
)

// MaxControl is the size limit of every payload but jobs, in bytes.
const MaxControl = 64 << 10

// maxDepth is how deep objects and arrays may nest; the outermost is 1.
const maxDepth = 16

// freeForm tells whether the keys in a field are data, not fields of the protocol.
func freeForm(field string) bool { return field == "temps_c" || field == "labels" }

// Decode reads one JSON object into a pointer to a struct of this package.
//
// It is stricter than encoding/json: the payload is at most MaxControl bytes of
// valid UTF-8 without a byte order mark, nothing follows the object, no object
// has a key twice, nothing nests deeper than 16, every number fits 64 bits, and
// a key is a field only if it has the same case. Unknown fields are ignored,
// but obey the rules.
func Decode(b []byte, v any) error {
	switch {
	case len(b) > MaxControl:
		return fmt.Errorf("%d bytes of JSON are more than %d", len(b), MaxControl)
	case bytes.HasPrefix(b, []byte("\ufeff")):
		return errors.New("JSON begins with a byte order mark: leave it out")
	case !utf8.Valid(b):
		return errors.New("JSON is not valid UTF-8")
	}
	s := scanner{text: b, dec: json.NewDecoder(bytes.NewReader(b))}
	s.dec.UseNumber()
	if err := s.scan(); err != nil {
		return err
	}
	return sentence(json.Unmarshal(s.text, v))
}

// sentence words an error of encoding/json for those who sent the payload.
func sentence(err error) error {
	if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return fmt.Errorf("%s at offset %d: got %.40s, want %s", wrong.Field, wrong.Offset, wrong.Value,
			wanted(wrong.Type.Kind()))
	}
	return err
}

// wanted is the JSON name of a kind of Go value.
func wanted(kind reflect.Kind) string {
	switch kind {
	case reflect.Uint, reflect.Uint64:
		return "a whole number from 0"
	case reflect.Int, reflect.Int64:
		return "a whole number"
	case reflect.Float64:
		return "a number"
	case reflect.Bool:
		return "true or false"
	case reflect.Slice:
		return "an array"
	case reflect.Struct, reflect.Map:
		return "an object"
	}
	return "a " + kind.String()
}

// scanner goes over the tokens of a payload before encoding/json may read it.
type scanner struct {
	text  []byte // the payload; a copy once a key is hidden
	dec   *json.Decoder
	open  []level
	owned bool // text is a copy
}

// level is an object or array that is not closed yet.
type level struct {
	object bool
	keys   map[string]bool // seen in this object
	key    string          // the last key, whose value follows
	value  bool            // a key was read, its value was not
}

func (s *scanner) scan() error {
	for started := false; len(s.open) > 0 || !started; started = true {
		from := s.dec.InputOffset()
		token, err := s.dec.Token()
		if err == io.EOF || errors.Is(err, io.ErrUnexpectedEOF) {
			return fmt.Errorf("JSON ends too early, at offset %d", len(s.text))
		} else if err != nil {
			return fmt.Errorf("JSON is malformed near offset %d: %w", s.dec.InputOffset(), err)
		}
		if !started && token != json.Delim('{') {
			return errors.New("JSON is not an object")
		}
		if err := s.take(token, int(from)); err != nil {
			return fmt.Errorf("%s at offset %d: %w", s.path(), from, err)
		}
	}
	if rest := bytes.TrimLeft(s.text[s.dec.InputOffset():], " \t\r\n"); len(rest) > 0 {
		return fmt.Errorf("%d bytes follow the JSON object", len(rest))
	}
	return nil
}

// take judges one token, which lies after the offset from.
func (s *scanner) take(token json.Token, from int) error {
	if top := len(s.open) - 1; top >= 0 && s.open[top].object && !s.open[top].value {
		if key, ok := token.(string); ok {
			return s.takeKey(&s.open[top], key, from)
		}
	}
	switch t := token.(type) {
	case json.Number:
		if err := checkNumber(string(t)); err != nil {
			return err
		}
	case json.Delim:
		return s.takeDelim(t)
	}
	s.valueRead()
	return nil
}

func (s *scanner) takeKey(in *level, key string, from int) error {
	if in.keys[key] {
		return fmt.Errorf("duplicate key %.80q", key)
	}
	in.keys[key], in.key, in.value = true, key, true
	if !fieldLike(key) && !s.inFreeForm() {
		s.hide(from)
	}
	return nil
}

func (s *scanner) takeDelim(d json.Delim) error {
	if d == '}' || d == ']' {
		s.open = s.open[:len(s.open)-1]
		s.valueRead()
		return nil
	}
	if len(s.open) == maxDepth {
		return fmt.Errorf("JSON nests deeper than %d", maxDepth)
	}
	in := level{object: d == '{'}
	if in.object {
		in.keys = map[string]bool{}
	}
	s.open = append(s.open, in)
	return nil
}

// valueRead notes that the value of the innermost key is complete.
func (s *scanner) valueRead() {
	if n := len(s.open); n > 0 {
		s.open[n-1].value = false
	}
}

// fieldLike tells whether key is written like the fields of the protocol.
func fieldLike(key string) bool {
	for _, c := range []byte(key) {
		if !('a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '_') {
			return false
		}
	}
	return true
}

func (s *scanner) inFreeForm() bool {
	n := len(s.open)
	return n > 1 && freeForm(s.open[n-2].key)
}

// hide makes the key after the offset from one that no struct has, because
// encoding/json would take "MODE" for "mode".
func (s *scanner) hide(from int) {
	if !s.owned {
		s.text, s.owned = bytes.Clone(s.text), true
	}
	start := from + bytes.IndexByte(s.text[from:], '"') + 1
	for i := start; i < int(s.dec.InputOffset())-1; i++ {
		s.text[i] = '-'
	}
}

// path names where the scanner is, such as stages.queue.
func (s *scanner) path() string {
	var keys []string
	for _, l := range s.open {
		if l.value {
			keys = append(keys, fmt.Sprintf("%.40s", l.key))
		}
	}
	if len(keys) == 0 {
		return "JSON"
	}
	return strings.Join(keys, ".")
}

// checkNumber refuses what would be read as another number: beyond 64 bits or
// beyond the range of a float64.
func checkNumber(n string) error {
	var err error
	switch {
	case strings.ContainsAny(n, ".eE"):
		_, err = strconv.ParseFloat(n, 64)
	case strings.HasPrefix(n, "-"):
		_, err = strconv.ParseInt(n, 10, 64)
	default:
		_, err = strconv.ParseUint(n, 10, 64)
	}
	if err != nil {
		return fmt.Errorf("the number %.40s is out of range", n)
	}
	return nil
}
