package frame

import (
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// Folder is a tree of pictures in the ImageFolder layout, CLASS/NAME.jpg. The
// pictures are read one by one, when they are asked for.
type Folder struct {
	tree    fs.FS
	classes []string // by label
	files   []string
	labels  []int
}

// OpenFolder lists the JPEG and PNG files of a tree. Where every class folder
// is named after one of classes, that is its label; otherwise the folders are
// numbered in alphabetical order, as for ImageNet's synsets.
func OpenFolder(tree fs.FS, classes []string) (*Folder, error) {
	folders, err := fs.ReadDir(tree, ".")
	if err != nil {
		return nil, fmt.Errorf("image folder: %w", err)
	}
	var names []string
	for _, f := range folders {
		if f.IsDir() {
			names = append(names, f.Name())
		}
	}
	f := &Folder{tree: tree, classes: classes}
	named := !slices.ContainsFunc(names, func(n string) bool { return !slices.Contains(classes, n) })
	if !named {
		f.classes = names
	}
	for i, name := range names {
		label := i
		if named {
			label = slices.Index(classes, name)
		}
		if err := f.add(name, label); err != nil {
			return nil, fmt.Errorf("image folder: %w", err)
		}
	}
	if len(f.files) == 0 {
		return nil, fmt.Errorf("image folder: no CLASS/NAME.jpg or CLASS/NAME.png in it")
	}
	return f, nil
}

func (f *Folder) add(class string, label int) error {
	entries, err := fs.ReadDir(f.tree, class)
	if err != nil {
		return err
	}
	for _, e := range entries {
		switch strings.ToLower(path.Ext(e.Name())) {
		case ".jpg", ".jpeg", ".png":
			f.files = append(f.files, path.Join(class, e.Name()))
			f.labels = append(f.labels, label)
		}
	}
	return nil
}

// Len is the number of pictures.
func (f *Folder) Len() int { return len(f.files) }

// Classes names the labels: the classes it was opened with, or the folders.
func (f *Folder) Classes() []string { return f.classes }

// Label is the class of picture i, an index from 0.
func (f *Folder) Label(i int) int { return f.labels[i] }

// Picture reads picture i.
func (f *Folder) Picture(i int) (*Picture, error) {
	b, err := fs.ReadFile(f.tree, f.files[i])
	if err != nil {
		return nil, err
	}
	p, err := Decoder{MaxPixels: DefaultPixels}.Decode(b, "")
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.files[i], err)
	}
	return p, nil
}
