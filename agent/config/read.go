package config

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// maxConfig bounds the configuration file, in bytes.
const maxConfig = 1 << 20

// Read reads a TOML file over the defaults. Unknown keys are errors with
// their line.
func Read(path string) (Config, error) {
	info, err := os.Stat(path)
	if err == nil && info.Size() > maxConfig {
		err = fmt.Errorf("%s has %d bytes, more than %d", path, info.Size(), maxConfig)
	}
	var b []byte
	if err == nil {
		b, err = os.ReadFile(path)
	}
	if err != nil {
		return Config{}, fmt.Errorf("configuration: %w", err)
	}
	c, err := parse(b)
	if err != nil {
		return Config{}, fmt.Errorf("configuration %s: %w", path, err)
	}
	return c, nil
}

func parse(b []byte) (Config, error) {
	c := Default()
	dec := toml.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	err := dec.Decode(&c)
	var strict *toml.StrictMissingError
	var wrong *toml.DecodeError
	switch {
	case errors.As(err, &strict):
		var errs []error
		for _, e := range strict.Errors {
			line, _ := e.Position()
			errs = append(errs, fmt.Errorf("line %d: unknown key %s", line, strings.Join(e.Key(), ".")))
		}
		return Config{}, errors.Join(errs...)
	case errors.As(err, &wrong):
		line, _ := wrong.Position()
		return Config{}, fmt.Errorf("line %d: %s", line, plain(wrong))
	case err != nil: // of a type of ours, and without the key
		var doc map[string]any
		if toml.Unmarshal(b, &doc) == nil {
			err = fmt.Errorf("%s: %w", culprit(doc, refused), err)
		}
		return Config{}, err
	}
	return c, nil
}

// refused tells whether a document cannot be decoded.
func refused(doc map[string]any) bool {
	b, err := toml.Marshal(doc)
	return err != nil || toml.Unmarshal(b, new(Config)) != nil
}

// culprit names a key that is the reason why a document is refused.
func culprit(doc map[string]any, refused func(map[string]any) bool) string {
	for key, value := range doc {
		if !refused(map[string]any{key: value}) {
			continue
		}
		if table, ok := value.(map[string]any); ok {
			return key + "." + culprit(table, func(in map[string]any) bool { return refused(map[string]any{key: in}) })
		}
		tables, _ := value.([]any)
		for _, each := range tables {
			within := func(in map[string]any) bool { return refused(map[string]any{key: []any{in}}) }
			if table, ok := each.(map[string]any); ok && within(table) {
				return key + "." + culprit(table, within)
			}
		}
		return key
	}
	return ""
}

// plain says what is wrong with a value in the words of the file.
func plain(e *toml.DecodeError) string {
	text := strings.TrimPrefix(e.Error(), "toml: ")
	key := strings.Join(e.Key(), ".")
	if key == "" {
		return text
	}
	given, field, ok := strings.Cut(strings.TrimPrefix(text, "cannot decode TOML "), " into struct field ")
	if !ok {
		return key + ": " + strings.TrimPrefix(text, "toml: ")
	}
	_, kind, _ := strings.Cut(field, " of type ")
	kind = strings.TrimPrefix(kind, "*")
	wants, ok := map[string]string{
		"int": "a whole number", "string": "a string", "[]string": "a list of strings", "bool": "true or false",
		"control.Duration":  `a duration such as "5s"`,
		"control.TimeOfDay": `a time of day such as "07:00"`, "[]control.Weekday": `a list of days such as "mon"`,
		"float64": "a number",
	}[kind]
	if !ok {
		wants = "a table"
	}
	return fmt.Sprintf("%s: wants %s, got a value of type %s", key, wants, given)
}

// Marshal writes the configuration as a file that Read reads.
func (c Config) Marshal() ([]byte, error) { return toml.Marshal(c) }
