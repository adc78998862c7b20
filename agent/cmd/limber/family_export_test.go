package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/family/familytest"
	"github.com/limber-edge/limber/family/onnx"
	"github.com/limber-edge/limber/family/ort"
	"github.com/limber-edge/limber/family/ort/orttest"
	"github.com/limber-edge/limber/family/resident"
	"github.com/limber-edge/limber/family/stock"
	"github.com/limber-edge/limber/family/workshop"
)

// mustExport exports a member and returns what was said of it, and its file.
func mustExport(t *testing.T, args ...string) (workshop.Exported, []byte) {
	t.Helper()
	out := filepath.Join(t.TempDir(), "m.onnx")
	got := limber(t, append([]string{"family", "export", "--json", "--out", out}, args...)...)
	var line workshop.Exported
	if err := json.Unmarshal([]byte(got.stdout), &line); got.code != exitDone || err != nil || got.stderr != "" {
		t.Fatalf("got %+v, %v", got, err)
	}
	model := familytest.Read(t, out)
	if line.Out != out || line.Bytes != len(model) || line.SHA256 != family.DigestOf(model) ||
		!(line.Difference <= workshop.ExportTolerance) {
		t.Errorf("got %+v of a file of %d bytes", line, len(model))
	}
	return line, model
}

func TestAnExportedMemberGivesItsCanarysLogits(t *testing.T) {
	f, err := stock.Family()
	if err != nil {
		t.Fatal(err)
	}
	m := f.Members[0]
	line, model := mustExport(t, "--member", m.Name)
	info, err := onnx.Scan(model) // which lets in no weights in other files
	if err != nil || line.Input != info.Input.Name || line.Output != info.Output.Name || line.Outputs != "logits" ||
		line.Resolution != m.Arch.R || line.Classes != 10 {
		t.Fatalf("got %+v of a file of %+v, %v", line, info, err)
	}
	for _, note := range []string{"limber.preprocess", `"crop":"none"`, "limber.classes", `"airplane"`, "limber.top1"} {
		if !bytes.Contains(model, []byte(note)) {
			t.Errorf("the file does not say %s", note)
		}
	}
	if bytes.Contains(model, []byte("BatchNormalization")) {
		t.Error("batch normalisation is not folded")
	}
	blob, err := f.Blob(m.Canary)
	if err != nil {
		t.Fatal(err)
	}
	canary, err := family.Floats(blob)
	if err != nil {
		t.Fatal(err)
	}
	pixels := 3 * m.Arch.R * m.Arch.R
	run, err := orttest.Open(t).NewBatch(model, line.Input, []string{line.Output}, ort.DefaultOptions())
	if err != nil {
		t.Fatal(err)
	}
	defer run.Close()
	two, err := run.Run(append(canary[:pixels:pixels], canary[:pixels]...), 2, m.Arch.R)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 2 {
		if off := resident.Distance(two[0][10*i:][:10], canary[pixels:]); !(off <= 1e-4) { // which another machine computed
			t.Errorf("image %d: a logit is %.2g standard deviations from the canary's", i, off)
		}
	}
}

func TestAnExportedMemberCanBeImported(t *testing.T) {
	f, err := stock.Family()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	_, model := mustExport(t, "--member", f.Members[0].Name)
	mustWrite(t, in("m.onnx"), model)
	mustWrite(t, in("p.onnx"), familytest.ModelThatEnds(t, "Softmax"))
	mustWrite(t, in("d.json"), f.Describe)
	says(t, 0, "limber: member p: ends in Softmax", "family", "import", "--describe", in("d.json"),
		"--out", in("f.family"), "--member", "p="+in("p.onnx")+":0.3", "--member", "m="+in("m.onnx")+":0.7")
	_, again := mustExport(t, "--family", in("f.family"), "--member", "m")
	if n := bytes.Count(again, []byte("limber.classes")); n != 1 {
		t.Errorf("the file says its classes %d times", n)
	}
	line, _ := mustExport(t, "--family", in("f.family"), "--member", "p")
	if line.Outputs != family.Probabilities || line.Input != "x" || line.Output != "y" {
		t.Errorf("got %+v, want probabilities y of x", line)
	}
	says(t, 0, "probabilities of airplane", "family", "export", "--family", in("f.family"), "--member", "p",
		"--out", in("p2.onnx"))
}

func TestAnExportThatFailsWritesNothing(t *testing.T) {
	f, err := stock.Family()
	if err != nil {
		t.Fatal(err)
	}
	dir, name := t.TempDir(), f.Members[0].Name
	in := func(name string) string { return filepath.Join(dir, name) }
	familytest.Foreign(t, in("wrong.family"), resident.Canary(workshop.Noise(3*24*24), make([]float32, 10)),
		familytest.Model(t, "Identity"))
	familytest.Foreign(t, in("bomb.family"), make([]byte, 4*(3*24*24+10)), familytest.Bomb(t))
	mustWrite(t, in("m.onnx"), []byte("before"))
	for _, tt := range []struct {
		name string
		code int
		args []string
		says []string
	}{
		{"no member", exitUsage, []string{"--out", in("m.onnx")}, []string{"limber family export", "--member"}},
		{"no file", exitUsage, []string{"--member", name}, []string{"--out"}},
		{"another member", exitUsage, []string{"--member", "huge", "--out", in("m.onnx")},
			[]string{"--member huge: family cifar10 has " + name}},
		{"no family", exitFailed, []string{"--member", name, "--out", in("m.onnx"), "--family", in("none")},
			[]string{"none"}},
		{"no folder", exitFailed, []string{"--member", name, "--out", in("none/m.onnx")}, []string{"none/m.onnx"}},
		{"canary of another", exitFailed, []string{"--member", "a", "--out", in("m.onnx"), "--family", in("wrong.family")},
			[]string{"limber: member a: canary"}},
		{"bomb", exitFailed, []string{"--member", "a", "--out", in("m.onnx"), "--family", in("bomb.family")},
			[]string{"limber: member a: trial"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			limber(t, append([]string{"family", "export"}, tt.args...)...).complained(t, tt.code, tt.says...)
			if got := familytest.Read(t, in("m.onnx")); string(got) != "before" {
				t.Errorf("the file that was there is %d other bytes", len(got))
			}
			if _, err := os.Stat(in("m.onnx.part")); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("a part is left: %v", err)
			}
		})
	}
}
