package main

import (
	"context"
	"path/filepath"
	"strings"
	"testing"

	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/family/ort/orttest"
	"github.com/limber-edge/limber/family/stock"
)

func TestEvalTellsHowMembersAgreeAndWhatTheyConfuse(t *testing.T) {
	t.Setenv("ONNXRUNTIME_LIB", orttest.Path(t))
	got := limber(t, "family", "eval", "--agreement", "--confusion", "23.1M")
	for _, want := range []string{"images that two members take for the same", "taken for the class above", "truck"} {
		if got.code != exitDone || !strings.Contains(got.stdout, want) {
			t.Errorf("got %+v, want exit 0 and %q", got, want)
		}
	}
	says(t, 2, "no such member", "family", "eval", "--confusion", "nix")
	interrupted, cancel := context.WithCancel(t.Context())
	cancel()
	for _, what := range []string{"eval", "verify"} {
		var stdout, stderr strings.Builder
		if code := run(interrupted, []string{"family", what}, &stdout, &stderr); code != exitFailed || !strings.Contains(stderr.String(), "limber: interrupted") {
			t.Errorf("%s that is interrupted: got exit %d, %s", what, code, stderr.String())
		}
	}
	says(t, 2, "json", "family", "eval", "--json", "--agreement")
}

func TestEvalTakesATreeOfTheFamilysClassesOrAPatternOfSheets(t *testing.T) {
	t.Setenv("ONNXRUNTIME_LIB", orttest.Path(t))
	tree := mustTreeOf(t, filepath.Join(t.TempDir(), "tree"), []string{"truck", "cat", ".cache"}, 0, 6)
	sheets := filepath.Join("..", "..", "..", "family", "stock", "test*")
	says(t, 0, `"images":4,`, "family", "eval", "--data", tree, "--json")
	says(t, 0, `"images":1000,`, "family", "eval", "--data", sheets, "--json")
	says(t, 0, `"images":1000,`, "family", "eval", "--data", strings.TrimSuffix(sheets, "*")+"1000.png", "--json")
}

// The figures of such images would be of labels that were made up.
func TestEvalRefusesImagesThatAreNotOfTheFamilysClasses(t *testing.T) {
	dir := t.TempDir()
	for _, tt := range []struct {
		name, data string
		says       []string
	}{
		{"other classes, as many", mustTree(t, filepath.Join(dir, "ten"), 0, 10), []string{"folders class0, class1, ", "none of the classes airplane, automobile, "}},
		{"one other class", mustTreeOf(t, filepath.Join(dir, "one"), []string{"cat", "lynx"}, 0, 2), []string{"folders lynx are none", "airplane"}},
		{"no such folder", "nonexist", []string{"images nonexist: no such folder"}},
		{"empty folder", t.TempDir(), []string{"no sheets", "no CLASS/NAME.jpg"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			limber(t, "family", "eval", "--data", tt.data).complained(t, exitFailed, tt.says...)
		})
	}
}

func TestEvalSaysForWhatCIFARsImagesAreCounted(t *testing.T) {
	f, err := stock.Family()
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name    string
		classes []string
		says    string
		err     bool
	}{
		{"its own", f.Classes, "", false},
		{"other names", []string{"a", "b", "c", "d", "e", "f", "g", "h", "i", "j"}, "classes a, b, c, d, e, f, ... stand for airplane", false},
		{"fewer", []string{"a", "b"}, "2 classes (a, b) and not of CIFAR-10's: name images of them with --data", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var said strings.Builder
			_, err := testImages(&said, "", &family.Family{Classes: tt.classes})
			if err != nil {
				said.WriteString(err.Error())
			}
			if got := said.String(); (err != nil) != tt.err || !strings.Contains(got, tt.says) || tt.says == "" && got != "" {
				t.Errorf("got %q, %v; want %q", got, err, tt.says)
			}
		})
	}
}
