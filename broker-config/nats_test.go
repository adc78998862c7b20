package brokerconfig

import (
	"slices"
	"strings"
	"testing"

	"github.com/limber-edge/limber/agent/wire"
)

func mustWriteNATS(tb testing.TB, acl string, devices, groups []string) string {
	tb.Helper()
	var text strings.Builder
	if err := mustParse(tb, acl).WriteNATS(&text, devices, groups); err != nil {
		tb.Fatal(err)
	}
	return text.String()
}

func TestThePermissionsForNATSAreTheLinesOfTheAccessList(t *testing.T) {
	acl := `
pattern write limber/v1/+/%u/state
pattern read limber/v1/+/%u/job/#
pattern read limber/v1/+/@all/desired
user operator
topic readwrite limber/#
topic read $SYS/#
user viewer
topic deny limber/v1/+/viewer/#
topic read limber/#
`
	want := `# Written by ` + "`limber broker acl --for nats`" + `.
authorization {
  users = [
    {
      user: "CN=cam.1"
      permissions: {
        publish: {
          allow: [
            "limber.v1.*.cam//1.state"
          ]
        }
        subscribe: {
          allow: [
            "limber.v1.*.@all.desired"
            "limber.v1.*.@gate//2.desired"
            "limber.v1.*.cam//1.job"
            "limber.v1.*.cam//1.job.>"
          ]
        }
      }
    }
    {
      user: "CN=operator"
      permissions: {
        publish: {
          allow: [
            "limber"
            "limber.>"
            "limber.v1.*.operator.state"
          ]
        }
        subscribe: {
          allow: [
            "limber"
            "limber.>"
            "limber.v1.*.@all.desired"
            "limber.v1.*.@gate//2.desired"
            "limber.v1.*.operator.job"
            "limber.v1.*.operator.job.>"
          ]
        }
      }
    }
    {
      user: "CN=viewer"
      permissions: {
        publish: {
          allow: [
            "limber.v1.*.viewer.state"
          ]
          deny: [
            "limber.v1.*.viewer"
            "limber.v1.*.viewer.>"
          ]
        }
        subscribe: {
          allow: [
            "limber"
            "limber.>"
            "limber.v1.*.@all.desired"
            "limber.v1.*.@gate//2.desired"
            "limber.v1.*.viewer.job"
            "limber.v1.*.viewer.job.>"
          ]
          deny: [
            "limber.v1.*.viewer"
            "limber.v1.*.viewer.>"
          ]
        }
      }
    }
  ]
}
`
	if got := mustWriteNATS(t, acl, []string{"cam.1"}, []string{"@gate.2"}); got != want {
		t.Errorf("got\n%s", got)
	}
}

func TestWhoMayWriteNothingIsDeniedEverythingOnNATS(t *testing.T) {
	got := mustWriteNATS(t, "user viewer\ntopic read limber/#\n", nil, nil)
	if !strings.Contains(got, "publish: {\n          deny: [\n            \">\"\n") {
		t.Errorf("a user with no topic to write may write any:\n%s", got)
	}
}

func TestAListThatNATSCannotKeepIsRefused(t *testing.T) {
	for name, acl := range map[string]string{
		"an empty level":   "user cam-1\ntopic read limber//x\n",
		"a blank":          "user cam-1\ntopic read limber/two words\n",
		"a star":           "user cam-1\ntopic read limber/*\n",
		"a user of blanks": "user two words\ntopic read limber/x\n",
	} {
		if err := mustParse(t, acl).WriteNATS(new(strings.Builder), nil, nil); err == nil {
			t.Errorf("%s: it was written", name)
		}
	}
}

// inSubject tells what NATS matches: * is one token, > is one or more.
func inSubject(wild, subject string) bool {
	of, tokens := strings.Split(wild, "."), strings.Split(subject, ".")
	for i, w := range of {
		switch {
		case w == ">":
			return len(tokens) > i
		case i >= len(tokens) || w != "*" && w != tokens[i]:
			return false
		}
	}
	return len(of) == len(tokens)
}

// FuzzNATSSubjects has no filter become a subject that matches more.
func FuzzNATSSubjects(f *testing.F) {
	f.Add("limber/v1/+/a.b/job/#", "limber/v1/x/a.b/job/1")
	f.Add("+/state", "a/state")
	f.Add("a/#", "a")
	f.Fuzz(func(t *testing.T, filter, topic string) {
		levels, name := strings.Split(filter, "/"), strings.Split(topic, "/")
		subjects, err := natsSubjects(levels)
		if err != nil || !valid(levels) || strings.ContainsAny(topic, "+#$ ") {
			return
		}
		of, err := natsSubjects(name)
		if err != nil || len(of) != 1 {
			return
		}
		got := slices.ContainsFunc(subjects, func(s string) bool { return inSubject(s, of[0]) })
		if want := covers(levels, name); got != want {
			t.Errorf("%q, %q: subjects %q match %q: %v, want %v", filter, topic, subjects, of, got, want)
		}
	})
}

func TestTheShippedListNamesADeviceOnceForNATS(t *testing.T) {
	acl, err := DefaultACL()
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	if err := acl.WriteNATS(&text, []string{"cam-2", "cam-1", "cam-2"}, nil); err != nil {
		t.Fatal(err)
	}
	for _, user := range []string{"cam-1", "cam-2", wire.Operator, wire.Viewer, wire.HomeAssistant} {
		if got := strings.Count(text.String(), `"CN=`+user+`"`); got != 1 {
			t.Errorf("user %s stands there %d times, want once", user, got)
		}
	}
}
