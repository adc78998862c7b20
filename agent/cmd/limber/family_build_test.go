package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"image/png"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/family/ofa"
	"github.com/limber-edge/limber/family/ort/orttest"
)

// mustNarrowSupernet writes a supernet of few choices with its description.
func mustNarrowSupernet(t *testing.T, dir string) string {
	t.Helper()
	from := filepath.Join("..", "..", "..", "family", "ofa", "testdata", "cifar")
	b, err := os.ReadFile(filepath.Join(from, "supernet.pth"))
	if err != nil {
		t.Fatal(err)
	}
	desc, err := os.ReadFile(filepath.Join(from, "supernet.json"))
	if err != nil {
		t.Fatal(err)
	}
	d, err := ofa.ParseDescription(desc)
	if err != nil {
		t.Fatal(err)
	}
	d.Resolutions, d.D, d.Classes = d.Resolutions[:1], d.D[len(d.D)-1:], nil
	if desc, err = d.Marshal(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "supernet.pth")
	mustWrite(t, path, b)
	mustWrite(t, filepath.Join(dir, "supernet.json"), desc)
	return path
}

// mustTree writes images of the stock sheet from first on as class0/0.png,
// class1/1.png and so on.
func mustTree(t *testing.T, dir string, first, n int) string {
	t.Helper()
	var classes []string
	for i := range min(n, 10) {
		classes = append(classes, fmt.Sprintf("class%d", i))
	}
	return mustTreeOf(t, dir, classes, first, n)
}

// mustTreeOf writes them in turn to folders of these names.
func mustTreeOf(t *testing.T, dir string, classes []string, first, n int) string {
	t.Helper()
	file, err := os.Open(filepath.Join("..", "..", "..", "family", "stock", "test1000.png"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	sheet, err := png.Decode(file) // an image a row
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		class := filepath.Join(dir, classes[i%len(classes)])
		if err := os.MkdirAll(class, 0o755); err != nil {
			t.Fatal(err)
		}
		img := image.NewNRGBA(image.Rect(0, 0, 32, 32))
		for at := range 32 * 32 {
			img.Set(at%32, at/32, sheet.At(at, first+i))
		}
		var b bytes.Buffer
		if err := png.Encode(&b, img); err != nil {
			t.Fatal(err)
		}
		mustWrite(t, filepath.Join(class, fmt.Sprintf("%d.png", i)), b.Bytes())
	}
	return dir
}

func TestBuildMakesAVerifiedFamilyAndGoesOnAfterCtrlC(t *testing.T) {
	t.Setenv("ONNXRUNTIME_LIB", orttest.Path(t))
	dir := t.TempDir()
	out := filepath.Join(dir, "mine.family")
	args := []string{"family", "build", "--supernet", mustNarrowSupernet(t, dir), "--calibration", mustTree(t, filepath.Join(dir, "train"), 0, 40),
		"--validation", mustTree(t, filepath.Join(dir, "val"), 500, 40), "--samples", "12", "--finalists", "3", "--size", "16", "--augment", "--out", out}

	ctx, cancel := context.WithCancel(t.Context())
	var stdout, stderr strings.Builder
	code := make(chan int)
	go func() { code <- run(ctx, args, &stdout, &stderr) }()
	journal := filepath.Join(out+".work", "journal.jsonl")
	for cut := false; !cut; {
		b, err := os.ReadFile(journal)
		if cut = err == nil && bytes.Count(b, []byte("\n")) > 3; !cut {
			select {
			case c := <-code:
				t.Fatalf("ended with %d before it was cut off: %s", c, stderr.String())
			case <-time.After(time.Millisecond):
			}
		}
	}
	cancel()
	if got := <-code; got != exitFailed || !strings.Contains(stderr.String(), "the same command goes on from there") {
		t.Fatalf("cut off: got exit %d, %q; want exit 1 and what to do", got, stderr.String())
	}
	other := append(slices.Clone(args), "--calibration-batch", "7")
	if got := limber(t, other...); got.code != exitFailed || !strings.Contains(got.stderr, "another batch") {
		t.Errorf("another batch: got %+v, want it refused: the measurements do not fit", got)
	}

	got := limber(t, args...)
	if got.code != exitDone || !strings.Contains(got.stdout, "measurements taken over") || !strings.Contains(got.stdout, "pass their canaries") {
		t.Fatalf("got %+v, want a verified family that goes on from measurements", got)
	}
	for _, part := range []string{"train: all of its 40 images are used, fewer than --calibration-images 2000", "val: all of its 40 images", "members, --size asked for 16"} {
		if !strings.Contains(got.stderr, part) {
			t.Errorf("got %q, want it to say %q", got.stderr, part)
		}
	}
	f, err := family.Open(out)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if n := len(f.Members); n < 1 || n > 12+3 || len(f.Classes) != 10 || f.Classes[3] != "class3" || f.Members[0].Images != 40 {
		t.Errorf("got %d members, classes %v, %d images; want 1 to 15, those of the folders, and 40", n, f.Classes, f.Members[0].Images)
	}
	if _, err := os.Stat(out + ".work"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the working folder is still there: %v", err)
	}
	limber(t, args...).complained(t, exitFailed, "exists")
}

// A mistyped folder must not be taken for the folder above it, whose images would
// calibrate a network without complaint.
func TestBuildReadsNothingButWhatItsFlagsName(t *testing.T) {
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	supernet, train, val := mustNarrowSupernet(t, dir), mustTree(t, in("tree/train"), 0, 20), mustTree(t, in("tree/val"), 20, 20)
	mustTree(t, in("sub"), 0, 10)
	mustWrite(t, in("sub/a.png"), nil) // a sheet without labels, beside class folders
	for _, tt := range []struct{ name, calibration, validation, test, says string }{
		{"calibration beside class folders", in("tree/train/xx"), val, val, in("tree/train/xx") + ": no such folder, and no sheets xx.png"},
		{"validation beside class folders", train, in("tree/val/yy"), val, in("tree/val/yy") + ": no such folder"},
		{"test beside class folders", train, val, in("tree/val/zz"), in("tree/val/zz") + ": no such folder"},
		{"beside a sheet", in("sub/nonexist"), val, val, "no such folder, and no sheets nonexist.png"},
		{"pattern of no sheet", in("sub/train_*"), val, val, "no sheets train_*.png with train_*.labels.json in " + in("sub")},
		{"pattern that is none", in("sub/["), val, val, "syntax error in pattern"},
		{"folder of folders", in("tree"), val, val, in("tree") + ": no sheets"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			limber(t, "family", "build", "--supernet", supernet, "--calibration", tt.calibration, "--validation", tt.validation, "--test", tt.test,
				"--out", in("x.family")).complained(t, exitFailed, tt.says)
		})
	}
}

// Labels of --test are by name those of --validation, however many there are.
func TestBuildReportsOnTheClassesItChoseBy(t *testing.T) {
	dir := t.TempDir()
	supernet, tree := mustNarrowSupernet(t, dir), mustTree(t, filepath.Join(dir, "tree"), 0, 20)
	strange := mustTreeOf(t, filepath.Join(dir, "test"), []string{"class3", "class10"}, 0, 2)
	limber(t, "family", "build", "--supernet", supernet, "--calibration", tree, "--validation", tree, "--calibration-images", "5", "--test", strange,
		"--out", filepath.Join(dir, "x.family")).complained(t, exitFailed, "folders class10 are none of the classes class0")
}

// The fixture takes no image for class2, so that nothing it gives has a top-1 a
// device could use.
func TestBuildMakesNoFamilyThatIsNeverRight(t *testing.T) {
	t.Setenv("ONNXRUNTIME_LIB", orttest.Path(t))
	dir := t.TempDir()
	out, tree := filepath.Join(dir, "mine.family"), mustTree(t, filepath.Join(dir, "tree"), 0, 40)
	test := mustTreeOf(t, filepath.Join(dir, "test"), []string{"class2"}, 500, 5)
	got := limber(t, "family", "build", "--supernet", mustNarrowSupernet(t, dir), "--calibration", tree, "--calibration-images", "20",
		"--validation", tree, "--test", test, "--samples", "10", "--finalists", "2", "--cost", "mmacs", "--out", out)
	if got.code != exitFailed || !strings.Contains(got.stderr, test+": of ") || !strings.Contains(got.stderr, "none classifies a single image right") {
		t.Errorf("got %+v, want exit %d and the images that no sub-network classifies", got, exitFailed)
	}
	if _, err := os.Stat(out); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a family was written: %v", err)
	}
}

func TestBuildSaysWhatItNeeds(t *testing.T) {
	t.Setenv("ONNXRUNTIME_LIB", orttest.Path(t))
	dir := t.TempDir()
	supernet, tree := mustNarrowSupernet(t, dir), mustTree(t, filepath.Join(dir, "few"), 0, 9)
	with := func(more ...string) []string {
		return append([]string{"family", "build", "--supernet", supernet, "--calibration", tree, "--validation", tree, "--out", filepath.Join(dir, "x")}, more...)
	}
	for _, tt := range []struct {
		name string
		code int
		args []string
		says string
	}{
		{"no flags", exitUsage, []string{"family", "build"}, "--supernet is missing"},
		{"unknown cost", exitUsage, with("--cost", "money"), "known are latency and mmacs"},
		{"one member", exitUsage, with("--size", "1"), "--size 1: wants at least 2"},
		{"too many members", exitUsage, with("--size", "17"), "at most 16"},
		{"name of no family", exitUsage, with("--name", "a b"), "--name"},
		{"too few images", exitFailed, with(), "has 9 images; after 2000 for BN statistics none is left"},
		{"nine classes of ten", exitFailed, with("--calibration-images", "5"), "9 classes, and the supernet tells 10 apart"},
	} {
		t.Run(tt.name, func(t *testing.T) { limber(t, tt.args...).complained(t, tt.code, tt.says) })
	}
}
