package workshop

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/limber-edge/limber/family/familytest"
	"github.com/limber-edge/limber/family/search"
)

// smallRecipe is one of few and quick choices.
func smallRecipe(supernet, calibration, validation, out string) Recipe {
	return Recipe{Supernet: supernet, Name: "mine", Calibration: calibration, Validation: validation, Out: out,
		Cost:              CostMMACs,
		Plan:              search.Plan{Size: 6, Samples: 10, Rough: 1000, Finalists: 2, Climbs: 10, Seed: 1},
		CalibrationImages: 20, ValidationImages: 5000, Batch: 200, Threads: 1}
}

// A mistyped folder must not be taken for the folder above it, whose images would
// calibrate a network without complaint.
func TestBuildReadsNothingButWhatItsFlagsName(t *testing.T) {
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	supernet, train, val := familytest.NarrowSupernet(t, dir), familytest.Tree(t, in("tree/train"), 0,
		20), familytest.Tree(t, in("tree/val"), 20, 20)
	familytest.Tree(t, in("sub"), 0, 10)
	familytest.Write(t, in("sub/a.png"), nil) // a sheet without labels, beside class folders
	for _, tt := range []struct{ name, calibration, validation, test, says string }{
		{"calibration beside class folders", in("tree/train/xx"), val, val,
			in("tree/train/xx") + ": no such folder, and no sheets xx.png"},
		{"validation beside class folders", train, in("tree/val/yy"), val, in("tree/val/yy") + ": no such folder"},
		{"test beside class folders", train, val, in("tree/val/zz"), in("tree/val/zz") + ": no such folder"},
		{"beside a sheet", in("sub/nonexist"), val, val, "no such folder, and no sheets nonexist.png"},
		{"pattern of no sheet", in("sub/train_*"), val, val,
			"no sheets train_*.png with train_*.labels.json in " + in("sub")},
		{"pattern that is none", in("sub/["), val, val, "syntax error in pattern"},
		{"folder of folders", in("tree"), val, val, in("tree") + ": no sheets"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := smallRecipe(supernet, tt.calibration, tt.validation, in("x.family"))
			r.Test = tt.test
			wantError(t, Shop{Progress: &heard{}}.Build(t.Context(), r), tt.says)
		})
	}
}

// Labels of the test images are by name those of the validation images, however many
// there are.
func TestBuildReportsOnTheClassesItChoseBy(t *testing.T) {
	dir := t.TempDir()
	tree := familytest.Tree(t, filepath.Join(dir, "tree"), 0, 20)
	r := smallRecipe(familytest.NarrowSupernet(t, dir), tree, tree, filepath.Join(dir, "x.family"))
	r.CalibrationImages, r.Test = 5, familytest.Tree(t, filepath.Join(dir, "test"), 0, 2, "class3", "class10")
	wantError(t, Shop{Progress: &heard{}}.Build(t.Context(), r), "folders class10 are none of the classes class0")
}

func TestBuildWantsImagesForEachOfItsTasks(t *testing.T) {
	dir := t.TempDir()
	few := familytest.Tree(t, filepath.Join(dir, "few"), 0, 9)
	for images, says := range map[int]string{2000: "has 9 images; after 2000 for BN statistics none is left",
		5: "9 classes, and the supernet tells 10 apart"} {
		r := smallRecipe(familytest.NarrowSupernet(t, dir), few, few, filepath.Join(dir, "x"))
		r.CalibrationImages = images
		wantError(t, Shop{Progress: &heard{}}.Build(t.Context(), r), says)
	}
}

// The fixture takes no image for class2, so that nothing it gives has a top-1 a
// device could use.
func TestBuildMakesNoFamilyThatIsNeverRight(t *testing.T) {
	shop, _ := mustShop(t)
	dir := t.TempDir()
	tree := familytest.Tree(t, filepath.Join(dir, "tree"), 0, 40)
	r := smallRecipe(familytest.NarrowSupernet(t, dir), tree, tree, filepath.Join(dir, "mine.family"))
	r.Test = familytest.Tree(t, filepath.Join(dir, "test"), 500, 5, "class2")
	wantError(t, shop.Build(t.Context(), r), r.Test+": of ", "none classifies a single image right")
	if _, err := os.Stat(r.Out); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a family was written: %v", err)
	}
}
