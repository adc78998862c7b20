package frame

import (
	"os"
	"strings"
	"testing"
	"testing/fstest"
)

func TestFolderHasThePicturesOfItsClasses(t *testing.T) {
	b, err := os.ReadFile("testdata/pil-1x40.png")
	if err != nil {
		t.Fatal(err)
	}
	tree := fstest.MapFS{
		"cat/1.png": {Data: b}, "cat/notes.txt": {}, "ant/2.PNG": {Data: b}, "ant/3.jpeg": {Data: b}, "README": {},
		".cache/4.png": {Data: b},
	}
	for _, tt := range []struct {
		name    string
		classes []string
		want    [3]int // labels of ant/2.PNG, ant/3.jpeg, cat/1.png
	}{
		{"folders named after classes", []string{"dog", "cat", "ant"}, [3]int{2, 2, 1}},
		{"no classes", nil, [3]int{0, 0, 1}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f, err := OpenFolder(tree, tt.classes)
			if err != nil {
				t.Fatal(err)
			}
			if f.Len() != 3 || [3]int{f.Label(0), f.Label(1), f.Label(2)} != tt.want {
				t.Errorf("got %d pictures, labels %v; want 3, %v", f.Len(), f.labels, tt.want)
			}
			if p, err := f.Picture(0); err != nil || p.Width != 1 || p.Height != 40 {
				t.Errorf("got %+v, %v; want 1 x 40 pixels", p, err)
			}
		})
	}
}

func TestSynsetsAreNumberedInAlphabeticalOrder(t *testing.T) {
	tree := fstest.MapFS{"n02085620/a.png": {}, "n01440764/b.png": {}}
	f, err := OpenFolder(tree, []string{"tench", "chihuahua"})
	if err != nil || f.Len() != 2 || f.Label(0) != 0 || f.Label(1) != 1 {
		t.Errorf("got %+v, %v; want tench and chihuahua", f, err)
	}
}

func TestSynsetsThatAreClassesHaveTheirLabels(t *testing.T) {
	tree := fstest.MapFS{"n01440764/a.png": {}, "n02085620/b.png": {}}
	f, err := OpenFolder(tree, []string{"n02085620", "n01440764"})
	if err != nil || f.Label(0) != 1 || f.Label(1) != 0 {
		t.Errorf("got %+v, %v; want labels by name", f, err)
	}
}

func TestFoldersThatAreNoClassesAreNamed(t *testing.T) {
	ten := []string{"c0", "c1", "c2", "c3", "c4", "c5", "c6", "c7", "c8", "c9"}
	for _, tt := range []struct {
		name    string
		folders []string
		classes []string
		says    string
	}{
		{"other names", []string{"ant", "bee"}, []string{"cat", "dog"}, "folders ant, bee are none of the classes cat, dog"},
		{"one of two", []string{"ant", "bee"}, []string{"bee", "dog"}, "folders ant are none of the classes bee, dog"},
		{"fewer synsets than classes", []string{"n01440764"}, []string{"tench", "goldfish"}, "folders n01440764 are none of"},
		{"synsets and others", []string{"n01440764", "odd"}, []string{"tench", "goldfish"},
			"folders n01440764, odd are none of"},
		{"many", ten, append([]string{"x", "y"}, ten...)[:11], "folders c9 are none of the classes x, y, c0, c1, c2, c3, " +
			"c4, c5, c6, c7 and 1 more"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tree := fstest.MapFS{}
			for _, folder := range tt.folders {
				tree[folder+"/1.png"] = &fstest.MapFile{}
			}
			if _, err := OpenFolder(tree, tt.classes); err == nil || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("got %v, want %q", err, tt.says)
			}
		})
	}
}

func TestFolderErrorsNameTheFile(t *testing.T) {
	f, err := OpenFolder(fstest.MapFS{"cat/1.png": {Data: []byte("GIF89a")}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Picture(0); err == nil || !strings.Contains(err.Error(), "cat/1.png: the frame is neither") {
		t.Errorf("got %v, want the file and what is wrong", err)
	}
	if _, err := OpenFolder(fstest.MapFS{"1.png": {}}, nil); err == nil || !strings.Contains(err.Error(),
		"no CLASS/NAME.jpg") {
		t.Errorf("got %v, want what is missing", err)
	}
}
