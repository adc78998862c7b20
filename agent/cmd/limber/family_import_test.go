package main

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/family/familytest"
	"github.com/limber-edge/limber/family/onnx"
	"github.com/limber-edge/limber/family/stock"
)

func TestForeignModelsBecomeAFamilyThatADeviceServes(t *testing.T) {
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	f := familytest.Stock(t)
	members := familytest.Members(t, f)
	last := len(f.Members) - 1
	for name, with := range map[string]struct{ member, batch int }{
		"small.onnx": {0, 1}, "large.onnx": {last, onnx.Dynamic},
	} {
		model, err := members[with.member].Model(with.batch)
		if err != nil {
			t.Fatal(err)
		}
		mustWrite(t, in(name), model)
	}
	mustWrite(t, in("d.json"), f.Describe)
	mustWrite(t, in("text.onnx"), []byte("this is no model"))

	build := func(describe string, members ...string) []string {
		args := []string{"family", "import", "--name", "foreign", "--describe", in(describe), "--out", in("foreign.family")}
		for _, m := range members {
			args = append(args, "--member", m)
		}
		return args
	}
	small, large := "small="+in("small.onnx")+":0.72", "large="+in("large.onnx")+":0.81"
	says(t, 0, "2 members", build("d.json", small, large)...)
	says(t, 0, "2 members pass their canaries", "family", "verify", "--family", in("foreign.family"))
	says(t, 0, "foreign models", "family", "show", "--family", in("foreign.family"))
	familytest.Tree(t, in("photos"), 0, 50, f.Classes...)
	says(t, 0, "stated %", "family", "eval", "--family", in("foreign.family"), "--data", in("photos"), "--agreement",
		"--confusion", "small")
	says(t, 0, "foreign", "family", "install", "--family", in("foreign.family"), "--state", in("state"))
	if got := installed(t, in("state")); got != "foreign" {
		t.Errorf("the device has family %s, want foreign", got)
	}
	says(t, 0, "", "coldstart", "--state", in("state")) // a device that answers a frame

	for _, tt := range []struct {
		name, member, want string
		code               int
	}{
		{"no model", "m=" + in("text.onnx") + ":0.5", "protobuf", 1},
		{"no accuracy", "m=" + in("small.onnx"), "NAME=FILE:TOP1", 2},
		{"accuracy in percent", "m=" + in("small.onnx") + ":72", "fraction", 2},
	} {
		t.Run(tt.name, func(t *testing.T) { says(t, tt.code, tt.want, build("d.json", tt.member)...) })
	}
	says(t, 1, "more accurate", build("d.json", large, small)...)
}

func TestDiffOfForeignFamiliesSaysWhatDiffers(t *testing.T) {
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	f, err := stock.Family()
	if err != nil {
		t.Fatal(err)
	}
	canary, identity, abs := make([]byte, 4*(3*24*24+10)), familytest.Model(t, "Identity"), familytest.Model(t, "Abs")
	familytest.Foreign(t, in("old"), canary, identity, identity)
	familytest.Foreign(t, in("now"), canary, identity, abs)
	was, is := family.DigestOf(identity).Short(), family.DigestOf(abs).Short()
	got := limber(t, "family", "diff", in("old"), in("now"))
	for _, want := range []string{"a       same    50.00    24      " + was,
		"b       other   60.00    24      " + was + " -> " + is,
		"both of foreign models, without a supernet; a device with the old family needs 1 blobs"} {
		if got.code != exitDone || !strings.Contains(got.stdout, want) {
			t.Errorf("got exit %d,\n%s%swant %q", got.code, got.stdout, got.stderr, want)
		}
	}
	for _, no := range []string{"MMACs", "same supernet", "description"} {
		if strings.Contains(got.stdout, no) {
			t.Errorf("got\n%swant nothing of %q", got.stdout, no)
		}
	}

	other := f.Family
	other.Describe = append(append(json.RawMessage("  "), f.Describe...), ' ')
	if got := whatTheyAre(&f.Family, &other); got != "the same supernet" {
		t.Errorf("got %q of space in a description", got)
	}
	other.Supernet, other.Describe, other.Classes = "", json.RawMessage(`{}`), f.Classes[1:]
	if got := whatTheyAre(&f.Family, &other); got != "the new one is of foreign models, "+
		"without a supernet, other classes, another description" {
		t.Errorf("got %q", got)
	}
}
