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
	}
	for _, tt := range []struct {
		name    string
		classes []string
		want    [3]int // labels of ant/2.PNG, ant/3.jpeg, cat/1.png
	}{
		{"folders named after classes", []string{"dog", "cat", "ant"}, [3]int{2, 2, 1}},
		{"folders in alphabetical order", []string{"dog", "cat"}, [3]int{0, 0, 1}},
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

func TestFolderErrorsNameTheFile(t *testing.T) {
	f, err := OpenFolder(fstest.MapFS{"cat/1.png": {Data: []byte("GIF89a")}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Picture(0); err == nil || !strings.Contains(err.Error(), "cat/1.png: the frame is neither") {
		t.Errorf("got %v, want the file and what is wrong", err)
	}
	if _, err := OpenFolder(fstest.MapFS{"1.png": {}}, nil); err == nil || !strings.Contains(err.Error(), "no CLASS/NAME.jpg") {
		t.Errorf("got %v, want what is missing", err)
	}
}
