package main

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/family/onnx"
	"github.com/limber-edge/limber/family/ort/orttest"
	"github.com/limber-edge/limber/family/stock"
)

func TestForeignModelsBecomeAFamilyThatADeviceServes(t *testing.T) {
	t.Setenv("ONNXRUNTIME_LIB", orttest.Path(t))
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	f, err := stock.Family()
	if err != nil {
		t.Fatal(err)
	}
	cut, err := cutFamily(f)
	if err != nil {
		t.Fatal(err)
	}
	last := len(f.Members) - 1
	for name, with := range map[string]struct{ member, batch int }{"small.onnx": {0, 1}, "large.onnx": {last, onnx.Dynamic}} {
		model, err := cut.members[with.member].Model(with.batch)
		if err != nil {
			t.Fatal(err)
		}
		mustWrite(t, in(name), model)
	}
	mustWrite(t, in("d.json"), f.Describe)
	mustWrite(t, in("text.onnx"), []byte("this is no model"))
	mustWrite(t, in("bomb.onnx"), mustBomb(t))
	mustWrite(t, in("loop.onnx"), mustModel(t, "Loop"))
	mustWrite(t, in("nan.onnx"), mustModel(t, "Log"))
	mustWrite(t, in("two.json"), []byte(`{"mean":[0,0,0],"std":[1,1,1],"resize":"bilinear","crop":"none","classes":["a","b"]}`))
	mustWrite(t, in("bad.json"), []byte(`{"mean":[0,0,0],"std":[0,1,1],"resize":"bilinear","crop":"none","classes":["a","b"]}`))

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
	mustEvalAlike(t, in("foreign.family"), mustTreeOf(t, in("photos"), f.Classes, 0, 50), map[string]string{"small": f.Members[0].Name, "large": f.Members[last].Name})
	says(t, 0, "stated %", "family", "eval", "--family", in("foreign.family"), "--data", in("photos"), "--agreement", "--confusion", "small")
	says(t, 0, "foreign", "family", "install", "--family", in("foreign.family"), "--state", in("state"))
	if got := installed(t, in("state")); got != "foreign" {
		t.Errorf("the device has family %s, want foreign", got)
	}
	says(t, 0, "", "coldstart", "--state", in("state")) // a device that answers a frame

	for _, tt := range []struct{ name, describe, member, want string }{
		{"M10 text", "d.json", "m=" + in("text.onnx") + ":0.5", "protobuf"},
		{"M11 bomb at run time", "d.json", "m=" + in("bomb.onnx") + ":0.5", "MiB of memory"},
		{"M12 control flow", "d.json", "m=" + in("loop.onnx") + ":0.5", "Loop, which is not among the operators"},
		{"M13 other classes", "two.json", small, "output logits 1x10 of the model is not of 2 classes"},
		{"M14 no numbers", "d.json", "m=" + in("nan.onnx") + ":0.5", "computes no numbers"},
		{"standard deviation of nothing", "bad.json", small, "std"},
		{"no such file", "d.json", "m=" + in("none.onnx") + ":0.5", "no such file"},
		{"no accuracy", "d.json", "m=" + in("small.onnx"), "NAME=FILE:TOP1"},
		{"accuracy in percent", "d.json", "m=" + in("small.onnx") + ":72", "fraction"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			code := 1
			if tt.want == "NAME=FILE:TOP1" || tt.want == "fraction" {
				code = 2
			}
			says(t, code, tt.want, build(tt.describe, tt.member)...)
		})
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
	canary, identity, abs := make([]byte, 4*(3*24*24+10)), mustModel(t, "Identity"), mustModel(t, "Abs")
	mustForeign(t, in("old"), canary, identity, identity)
	mustForeign(t, in("now"), canary, identity, abs)
	was, is := family.DigestOf(identity).Short(), family.DigestOf(abs).Short()
	got := limber(t, "family", "diff", in("old"), in("now"))
	for _, want := range []string{"a       same    50.00    24      " + was, "b       other   60.00    24      " + was + " -> " + is,
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
	if got := whatTheyAre(&f.Family, &other); got != "the new one is of foreign models, without a supernet, other classes, another description" {
		t.Errorf("got %q", got)
	}
}

// mustEvalAlike checks that a foreign family's members classify images as the
// stock family's do that they were exported from.
func mustEvalAlike(t *testing.T, foreign, data string, exported map[string]string) {
	t.Helper()
	lines := func(args ...string) map[string]evalLine {
		got := limber(t, append([]string{"family", "eval", "--data", data, "--json"}, args...)...)
		found := map[string]evalLine{}
		for text := range strings.Lines(got.stdout) {
			var l evalLine
			if err := json.Unmarshal([]byte(text), &l); err != nil {
				t.Fatal(err)
			}
			found[l.Member] = l
		}
		return found
	}
	ours, theirs := lines(), lines("--family", foreign)
	if len(theirs) != len(exported) {
		t.Errorf("got %v, want a line for each of %v", theirs, exported)
	}
	for name, from := range exported {
		if got, want := theirs[name], ours[from]; got.Top1 != want.Top1 || got.Top5 != want.Top5 || got.Images != want.Images || got.MMACs != 0 {
			t.Errorf("got %+v, want what it was exported from gives, %+v", got, want)
		}
	}
}
