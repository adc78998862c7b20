package workshop

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/family/familytest"
	"github.com/limber-edge/limber/family/ort/orttest"
)

func TestEvalSaysForWhatCIFARsImagesAreCounted(t *testing.T) {
	f := familytest.Stock(t)
	for _, tt := range []struct {
		name    string
		classes []string
		says    string
		err     bool
	}{
		{"its own", f.Classes, "", false},
		{"other names", []string{"a", "b", "c", "d", "e", "f", "g", "h", "i", "j"},
			"classes a, b, c, d, e, f, ... stand for airplane", false},
		{"fewer", []string{"a", "b"}, "2 classes (a, b) and not of CIFAR-10's: name images of them with --data", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := &heard{}
			_, err := Shop{Progress: h}.TestImages("", &family.Family{Classes: tt.classes})
			if (err != nil) != tt.err {
				t.Errorf("got %v, want an error: %v", err, tt.err)
			}
			said := strings.Join(h.warnings, "\n")
			if err != nil {
				said = err.Error()
			}
			wantSaid(t, said, tt.says)
		})
	}
}

func TestEvalTakesATreeOfTheFamilysClassesOrAPatternOfSheets(t *testing.T) {
	f := familytest.Stock(t)
	tree := familytest.Tree(t, filepath.Join(t.TempDir(), "tree"), 0, 6, "truck", "cat", ".cache")
	sheets := filepath.Join(orttest.Root(t), "family", "stock", "test")
	for path, want := range map[string]int{tree: 4, sheets + "*": 1000, sheets + "1000.png": 1000} {
		got, err := Shop{Progress: &heard{}}.TestImages(path, &f.Family)
		if err != nil || got.Len() != want {
			t.Errorf("%s: got %v images, %v; want %d", path, got, err, want)
			continue
		}
		if label := got.Label(want - 1); label < 0 || label > 9 || path == tree && f.Classes[got.Label(0)] != "cat" &&
			f.Classes[got.Label(0)] != "truck" {
			t.Errorf("%s: got label %d of the last and %d of the first", path, label, got.Label(0))
		}
		if p, err := got.Picture(want - 1); err != nil || p == nil {
			t.Errorf("%s: got picture %v, %v", path, p, err)
		}
	}
}

// The figures of such images would be of labels that were made up.
func TestEvalRefusesImagesThatAreNotOfTheFamilysClasses(t *testing.T) {
	f, dir := familytest.Stock(t), t.TempDir()
	for _, tt := range []struct {
		name, data string
		says       []string
	}{
		{"other classes, as many", familytest.Tree(t, filepath.Join(dir, "ten"), 0, 10),
			[]string{"folders class0, class1, ", "none of the classes airplane, automobile, "}},
		{"one other class", familytest.Tree(t, filepath.Join(dir, "one"), 0, 2, "cat", "lynx"),
			[]string{"folders lynx are none", "airplane"}},
		{"no such folder", "nonexist", []string{"images nonexist: no such folder"}},
		{"empty folder", t.TempDir(), []string{"no sheets", "no CLASS/NAME.jpg"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Shop{Progress: &heard{}}.TestImages(tt.data, &f.Family)
			wantError(t, err, tt.says...)
		})
	}
}
