package wire_test

import (
	"strings"
	"testing"

	"github.com/limber-edge/limber/agent/wire"
)

func TestAnUpdateThatNoDeviceCanObeyIsRefusedByName(t *testing.T) {
	digest := "sha256:" + strings.Repeat("0a", 32)
	for _, tt := range []struct{ json, err string }{
		{`{"ttl_ms":1}`, "the command has no family"},
		{`{"ttl_ms":1,"family":{"name":"a/b","digest":"` + digest + `"}}`, "family.name: "},
		{`{"ttl_ms":1,"family":{"name":"a","digest":"` + strings.ToUpper(digest) + `"}}`, "family.digest: "},
		{`{"ttl_ms":1,"family":{"name":"a","digest":"0a"}}`, "family.digest: "},
		{`{"ttl_ms":1,"family":{"name":"a","digest":"` + digest + `"},"sources":["file:///etc/passwd"]}`, "sources: "},
		{`{"ttl_ms":1,"family":{"name":"a","digest":"` + digest + `"},"sources":["/etc/passwd"]}`, "sources: "},
		{`{"ttl_ms":1,"family":{"name":"a","digest":"` + digest + `"},"probation":{"frames":-1}}`, "probation: "},
		{`{"ttl_ms":1,"family":{"name":"a","digest":"` + digest + `"},"shadow":{"percent":0}}`, "shadow.percent: 0 is not in"},
		{`{"ttl_ms":1,"family":{"name":"a","digest":"` + digest + `"},"shadow":{"percent":101}}`, "shadow.percent: 101 is not in"},
		{`{"ttl_ms":1,"family":{"name":"a","digest":"` + digest + `"},"shadow":{"frames":0}}`, "shadow.frames: "},
		{`{"ttl_ms":1,"family":{"name":"a","digest":"` + digest + `"},"shadow":{"frames":1000001}}`, "shadow.frames: "},
		{`{"ttl_ms":1,"family":{"name":"a","digest":"` + digest + `"},"shadow":{"agreement":97}}`, "shadow.agreement: 97 is not in"},
		{`{"ttl_ms":1,"family":{"name":"a","digest":"` + digest + `"},"shadow":{}}`, ""},
		{`{"ttl_ms":1,"family":{"name":"a","digest":"` + digest + `"},"mode":"balanced"}`, "mode: the verb family takes none"},
		{`{"ttl_ms":1,"family":{"name":"a","digest":"` + digest + `"},"sources":["https://files.example/"]}`, ""},
	} {
		var c wire.Command
		if err := wire.Decode([]byte(tt.json), &c); err != nil {
			t.Errorf("%s: %v", tt.json, err)
			continue
		}
		err := c.Check(wire.VerbFamily)
		if (err == nil) != (tt.err == "") || err != nil && !strings.HasPrefix(err.Error(), tt.err) {
			t.Errorf("%s: got %v, want %q", tt.json, err, tt.err)
		}
	}
	if err := (wire.Command{Cancel: "a b"}).Check(wire.VerbCancel); err == nil {
		t.Error("an id that is no name can be cancelled")
	}
}

func TestAReleaseThatNoDeviceCanTakeIsRefusedByName(t *testing.T) {
	digest := "sha256:" + strings.Repeat("0a", 32)
	for _, tt := range []struct{ json, err string }{
		{`{"ttl_ms":1}`, "the command has no "},
		{`{"ttl_ms":1,"version":"1.5.0"}`, "the command has no digest"},
		{`{"ttl_ms":1,"digest":"` + digest + `"}`, "the command has no version"},
		{`{"ttl_ms":1,"version":"1.5.0/../a","digest":"` + digest + `"}`, "version: "},
		{`{"ttl_ms":1,"version":"1.5.0","digest":"` + strings.ToUpper(digest) + `"}`, "digest: "},
		{`{"ttl_ms":1,"version":"1.5.0","digest":"` + digest + `","sources":["file:///etc"]}`, "sources: "},
		{`{"ttl_ms":1,"version":"1.5.0","digest":"` + digest + `","mode":"balanced"}`, "mode: the verb release takes none"},
		{`{"ttl_ms":1,"version":"1.5.0","digest":"` + digest + `","sources":["https://files.example/"],"retry":true,` +
			`"downgrade":true,"one_way":true}`, ""},
	} {
		var c wire.Command
		if err := wire.Decode([]byte(tt.json), &c); err != nil {
			t.Errorf("%s: %v", tt.json, err)
			continue
		}
		err := c.Check(wire.VerbRelease)
		if (err == nil) != (tt.err == "") || err != nil && !strings.HasPrefix(err.Error(), tt.err) {
			t.Errorf("%s: got %v, want %q", tt.json, err, tt.err)
		}
		if tt.err == "" && c.Verb() != wire.VerbRelease {
			t.Errorf("%s is a command of the verb %s", tt.json, c.Verb())
		}
	}
}

func TestARolloutCommandAsksForOneThing(t *testing.T) {
	digest := "sha256:" + strings.Repeat("0a", 32)
	arm := `{"arch":"arm64","digest":"` + digest + `"}`
	arm2 := strings.Replace(arm, "0a", "0b", 1)
	release := func(of, more string) string {
		return `{"action":"start","rollout":"r-1","ttl_ms":1,"spec":{"where":"","release":{"version":"1.5.0","manifests":[` + of +
			`]}` + more + `}}`
	}
	for _, tt := range []struct{ json, err string }{
		{`{"action":"start","rollout":"r-1","ttl_ms":1}`, "spec: start has one"},
		{`{"action":"pause","rollout":"r-1","spec":{"where":"","mode":"balanced"},"ttl_ms":1}`, "spec: start has one"},
		{`{"action":"start","rollout":"r-1","spec":{"where":""},"ttl_ms":1}`, "spec: want one of family, release, mode and goal"},
		{`{"action":"start","rollout":"r-1","spec":{"where":"","mode":"a","goal":{"min_top1":0.7}},"ttl_ms":1}`, "spec: want one of"},
		{`{"action":"start","rollout":"r 1","spec":{"where":"","mode":"balanced"},"ttl_ms":1}`, "rollout: "},
		{`{"action":"halt","rollout":"r-1","ttl_ms":1}`, "action: "},
		{`{"action":"abort","rollout":"r-1","rollback":true,"ttl_ms":1}`, ""},
		{release(arm, ``), ""},
		{release(``, ``), "release.manifests: 0: want"},
		{release(arm+`,`+arm2, ``), "release.manifests: 1: "},
		{release(`{"arch":"arm 64","digest":"`+digest+`"}`, ``), "release.manifests: 0: "},
		{release(`{"arch":"arm64","digest":"0a"}`, ``), "release.digest: "},
		{release(arm, `,"mode":"balanced"`), "spec: want one of"},
		{release(arm, `,"force":true`), "probation, force: "},
		{release(arm, `,"shadow":{}`), "shadow: "},
		{`{"action":"start","rollout":"r-1","spec":{"where":"","mode":"a","shadow":{}},"ttl_ms":1}`, "shadow: it is of a family"},
		{`{"action":"start","rollout":"r-1","spec":{"where":"","family":{"name":"a","digest":"` + digest +
			`"},"shadow":{"frames":0}},"ttl_ms":1}`, "shadow.frames: "},
		{release(arm, `,"sources":["file:///etc"]`), "sources: "},
		{strings.Replace(release(arm, `,"rollback":true`), `"version"`, `"one_way":true,"version"`, 1), "rollback: "},
		{`{"action":"start","rollout":"r-1","spec":{"where":"","mode":"balanced"},"ttl_ms":1}`, ""},
	} {
		var c wire.RolloutCommand
		if err := wire.Decode([]byte(tt.json), &c); err != nil {
			t.Errorf("%s: %v", tt.json, err)
			continue
		}
		err := c.Check()
		if (err == nil) != (tt.err == "") || err != nil && !strings.HasPrefix(err.Error(), tt.err) {
			t.Errorf("%s: got %v, want %q", tt.json, err, tt.err)
		}
	}
}

func TestTheControllerIsNoGroup(t *testing.T) {
	if wire.ValidGroup(wire.Controller) || (wire.Address{Fleet: "demo", Device: wire.Controller}).IsGroup() {
		t.Error("a group may have the controller's name")
	}
}
