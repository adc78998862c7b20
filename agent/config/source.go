package config

import (
	"errors"
	"fmt"
	"slices"

	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/uplink"
	"github.com/limber-edge/limber/agent/wire"
)

// Frames is how frames that come without an id are taken: those of
// frame/{source} and of Sources.
type Frames struct {
	// which of a source's frames that come at QoS 0 and wait: KeepNewest or KeepAll
	Keep        string `toml:"keep"`
	Retained    bool   `toml:"retained"`    // also those that the broker kept, which are old
	Orientation string `toml:"orientation"` // OrientEXIF or OrientStored
}

// What Frames may say.
const (
	KeepNewest   = "newest" // a newer frame may take the place of one that waits
	KeepAll      = "all"
	OrientEXIF   = "exif"      // a picture is turned as its EXIF says
	OrientStored = "as-stored" // as training and Pillow see it
)

// Sources are cameras that publish where they like, on the device's broker.
type Sources []Source

// Source is one of them: all topics that its filter matches.
type Source struct {
	Name        string   `toml:"name"`
	Topic       string   `toml:"topic"`                  // a filter
	ResultTopic string   `toml:"result_topic,omitempty"` // empty: result/{id}
	Deadline    Duration `toml:"deadline,omitzero"`      // 0: the goal's; from when a frame's turn under MaxFPS has come
	MinTop1     *float64 `toml:"min_top1,omitempty"`     // in [0, 1]; nil: the goal's
	Priority    string   `toml:"priority,omitempty"`     // empty: normal
	MaxFPS      float64  `toml:"max_fps,omitempty"`      // frames a second; 0 is no limit
}

// maxFPS is more than any camera has.
const maxFPS = 1000

// validate joins every complaint. Each names the key and the entry.
func (s Sources) validate() error {
	var errs []error
	if len(s) > uplink.MaxSources {
		errs = append(errs, fmt.Errorf("source: %d entries are more than %d", len(s), uplink.MaxSources))
	}
	for i, one := range s {
		complain := func(bad bool, key, format string, args ...any) {
			if bad {
				errs = append(errs, fmt.Errorf("source.%s: entry %d: %w", key, i+1, fmt.Errorf(format, args...)))
			}
		}
		one.check(complain)
		for j, before := range s[:i] {
			complain(before.Name == one.Name, "name", "%q is that of entry %d as well", one.Name, j+1)
			complain(overlap(before.Topic, one.Topic), "topic",
				"%q and %q of entry %d have topics in common: a message would come twice", one.Topic, before.Topic, j+1)
		}
		for j, other := range s {
			complain(overlap(one.Topic, other.ResultTopic), "topic",
				"%q can match the result_topic %q of entry %d: results would come back as frames", one.Topic, other.ResultTopic,
				j+1)
		}
	}
	return errors.Join(errs...)
}

// overlap is mqtt.Overlap for what was not checked.
func overlap(filter, other string) bool {
	return mqtt.ValidFilter(filter) && mqtt.ValidFilter(other) && mqtt.Overlap(filter, other)
}

// check judges the entry alone.
func (s Source) check(complain func(bad bool, key, format string, args ...any)) {
	complain(!wire.ValidSource(s.Name), "name", "%q is not [A-Za-z0-9_.-]{1,%d}", s.Name, wire.MaxSource)
	switch filter := s.Topic; {
	case !mqtt.ValidFilter(filter):
		complain(true, "topic", `%q is not a topic filter such as "cam/+/jpg"`, filter)
	case filter[0] == '$':
		complain(true, "topic", "%q is of the broker's own topics: wants one of a camera's", filter)
	default:
		complain(mqtt.Overlap(filter, ours), "topic",
			"%q can match %s, which is Limber's own: a camera that can choose sends to frame/%s of this device", filter, ours,
			s.Name)
	}
	if topic := s.ResultTopic; topic != "" {
		complain(!mqtt.ValidTopic(topic), "result_topic", "%q is not a topic without wildcards", topic)
		complain(topic[0] == '$' || overlap(topic, ours), "result_topic",
			"%q is a topic of the broker or of Limber: leave it out for result/{id}", topic)
	}
	if h := s.Header(); h.DeadlineMS != nil {
		ms := *h.DeadlineMS
		complain(!(ms >= wire.MinDeadlineMS && ms <= wire.MaxDeadlineMS), "deadline", "%v is not from 1ms to 10m", s.Deadline)
	}
	complain(s.MinTop1 != nil && !(*s.MinTop1 >= 0 && *s.MinTop1 <= 1), "min_top1", "not a fraction from 0 to 1")
	complain(!slices.Contains([]string{"", wire.Low, wire.Normal, wire.High}, s.Priority), "priority",
		"%q is not %s, %s or %s", s.Priority, wire.Low, wire.Normal, wire.High)
	complain(!(s.MaxFPS >= 0 && s.MaxFPS <= maxFPS), "max_fps",
		"%v is not from 0, for no limit, to %d frames a second", s.MaxFPS, maxFPS)
}

// ours are the topics that no source may have.
const ours = "limber/#"

// Header is what a frame of the source says where it says nothing itself.
func (s Source) Header() wire.Header {
	h := wire.Header{MinTop1: s.MinTop1, Priority: s.Priority}
	if s.Deadline.Duration != 0 {
		h.DeadlineMS = new(wire.Millis(s.Deadline.Duration))
	}
	return h
}
