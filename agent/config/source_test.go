package config_test

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent/config"
	"github.com/limber-edge/limber/agent/control"
)

func TestASourceIsReadAndWrittenBack(t *testing.T) {
	got, err := config.Read(configFile(t, `
[frames]
keep = "all"
retained = true
orientation = "as-stored"

[[source]]
name = "yard"
topic = "cam/+/jpg"

[[source]]
name = "door"
topic = "frigate/+/snapshot"
result_topic = "home/door/seen"
deadline = "250ms"
min_top1 = 0.0
priority = "low"
max_fps = 2.5
`))
	want := config.Default()
	want.Frames = config.Frames{Keep: config.KeepAll, Retained: true, Orientation: config.OrientStored}
	want.Sources = config.Sources{{Name: "yard", Topic: "cam/+/jpg"}, {
		Name: "door", Topic: "frigate/+/snapshot", ResultTopic: "home/door/seen",
		Deadline: control.Duration{Duration: 250 * time.Millisecond}, MinTop1: new(0.0), Priority: "low", MaxFPS: 2.5,
	}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("got %+v, %v; want %+v", got, err, want)
	}
	if err := got.Validate(); err != nil {
		t.Error(err)
	}
	b, err := got.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if back, err := config.Read(configFile(t, string(b))); err != nil || !reflect.DeepEqual(back, want) {
		t.Errorf("wrote\n%s\nand read %+v, %v", b, back, err)
	}
}

func TestC9_ASourceThatCannotBeIsNamedByItsKey(t *testing.T) {
	sound := config.Source{Name: "yard", Topic: "cam/+/jpg", ResultTopic: "seen/yard"}
	with := func(change func(*config.Source)) config.Sources {
		s := sound
		change(&s)
		return config.Sources{s}
	}
	both := func(other config.Source) config.Sources { return config.Sources{sound, other} }
	for _, tt := range []struct {
		name    string
		sources config.Sources
		want    string
	}{
		{"sound", config.Sources{sound, {Name: "door", Topic: "cam/+/png", ResultTopic: "seen/yard"}}, ""},
		{"no name", with(func(s *config.Source) { s.Name = "" }), `source.name: entry 1: "" is not`},
		{"name with a slash", with(func(s *config.Source) { s.Name = "a/b" }), "source.name: entry 1"},
		{"name of 41", with(func(s *config.Source) { s.Name = strings.Repeat("a", 41) }), "source.name: entry 1"},
		{"name twice", both(config.Source{Name: "yard", Topic: "x"}), `source.name: entry 2: "yard" is that of entry 1`},
		{"no topic", with(func(s *config.Source) { s.Topic = "" }), "source.topic: entry 1"},
		{"no filter", with(func(s *config.Source) { s.Topic = "cam/#/jpg" }), "source.topic: entry 1"},
		{"everything", with(func(s *config.Source) { s.Topic = "#" }), "source.topic: entry 1: \"#\" can match limber/#"},
		{"ours", with(func(s *config.Source) { s.Topic = "limber/v1/demo/desk/frame/+" }), "can match limber/#"},
		{"our root", with(func(s *config.Source) { s.Topic = "limber" }), "can match limber/#"},
		{"ours by a wildcard", with(func(s *config.Source) { s.Topic = "+/v1/#" }), "can match limber/#"},
		{"the broker's", with(func(s *config.Source) { s.Topic = "$SYS/#" }), "source.topic: entry 1: \"$SYS/#\" is of the broker's own"},
		{"shared", with(func(s *config.Source) { s.Topic = "$share/g/cam/+/jpg" }), "is of the broker's own"},
		{"two overlap", both(config.Source{Name: "door", Topic: "+/front/jpg"}), `source.topic: entry 2: "+/front/jpg" and "cam/+/jpg" of entry 1`},
		{"two are the same", both(config.Source{Name: "door", Topic: "cam/+/jpg"}), "source.topic: entry 2"},
		{"own result", with(func(s *config.Source) { s.Topic = "seen/#" }), `source.topic: entry 1: "seen/#" can match the result_topic "seen/yard" of entry 1`},
		{"result of a later one", config.Sources{{Name: "all", Topic: "seen/+"}, sound}, `source.topic: entry 1: "seen/+" can match the result_topic "seen/yard" of entry 2`},
		{"result with a wildcard", with(func(s *config.Source) { s.ResultTopic = "seen/+" }), `source.result_topic: entry 1: "seen/+"`},
		{"result with a hash", with(func(s *config.Source) { s.ResultTopic = "seen/#" }), "source.result_topic: entry 1"},
		{"result as a job", with(func(s *config.Source) { s.ResultTopic = "limber/v1/demo/desk/job/1" }), "source.result_topic: entry 1"},
		{"result of the broker", with(func(s *config.Source) { s.ResultTopic = "$SYS/x" }), "source.result_topic: entry 1"},
		{"deadline negative", with(func(s *config.Source) { s.Deadline.Duration = -time.Second }), "source.deadline: entry 1"},
		{"deadline too short", with(func(s *config.Source) { s.Deadline.Duration = time.Microsecond }), "source.deadline: entry 1"},
		{"deadline too long", with(func(s *config.Source) { s.Deadline.Duration = time.Hour }), "source.deadline: entry 1: 1h0m0s is not from 1ms to 10m"},
		{"percent", with(func(s *config.Source) { s.MinTop1 = new(87.0) }), "source.min_top1: entry 1"},
		{"priority", with(func(s *config.Source) { s.Priority = "urgent" }), `source.priority: entry 1: "urgent" is not low, normal or high`},
		{"negative rate", with(func(s *config.Source) { s.MaxFPS = -1 }), "source.max_fps: entry 1"},
		{"rate too high", with(func(s *config.Source) { s.MaxFPS = 1001 }), "source.max_fps: entry 1"},
		{"too many", many(257), "source: 257 entries are more than 256"},
		{"as many as there may be", many(256), ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := config.Default()
			c.Sources = tt.sources
			err := c.Validate()
			if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want ...%s...", err, tt.want)
			}
		})
	}
}

func many(n int) (s config.Sources) {
	for i := range n {
		s = append(s, config.Source{Name: fmt.Sprint("cam", i), Topic: fmt.Sprintf("cam/%d/jpg", i)})
	}
	return s
}

func TestC9_FramesAreTakenAsTheConfigurationCanSay(t *testing.T) {
	c := config.Default()
	c.Frames = config.Frames{Keep: "oldest", Orientation: "EXIF"}
	err := c.Validate()
	for _, want := range []string{`frames.keep: "oldest" is not newest or all`, `frames.orientation: "EXIF" is not exif or as-stored`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want ...%s...", err, want)
		}
	}
}
