package frame

import (
	"fmt"
	"io/fs"
	"path"
	"regexp"
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

// OpenFolder lists the JPEG and PNG files of a tree. Every class folder is named
// after one of classes, which is its label; or all are ImageNet's synsets, as many
// as there are classes, and are numbered in alphabetical order, as they are where
// there are no classes. Hidden folders are no classes.
func OpenFolder(tree fs.FS, classes []string) (*Folder, error) {
	folders, err := fs.ReadDir(tree, ".")
	if err != nil {
		return nil, fmt.Errorf("image folder: %w", err)
	}
	var names []string
	for _, f := range folders {
		if f.IsDir() && !strings.HasPrefix(f.Name(), ".") {
			names = append(names, f.Name())
		}
	}
	f := &Folder{tree: tree, classes: classes}
	switch strange := without(names, classes); {
	case len(classes) == 0 || len(strange) > 0 && numbered(names, classes):
		f.classes = names
	case len(strange) > 0: // a label that was made up would be counted as right or wrong
		return nil, fmt.Errorf("image folder: folders %s are none of the classes %s", some(strange), some(classes))
	}
	for _, name := range names {
		if err := f.add(name, slices.Index(f.classes, name)); err != nil {
			return nil, fmt.Errorf("image folder: %w", err)
		}
	}
	if len(f.files) == 0 {
		return nil, fmt.Errorf("image folder: no CLASS/NAME.jpg or CLASS/NAME.png in it")
	}
	return f, nil
}

// numbered tells whether the folders are ImageNet's synsets (n01440764), whose
// alphabetical order is that of the classes.
func numbered(names, classes []string) bool {
	return len(names) == len(classes) && !slices.ContainsFunc(names, func(n string) bool { return !synset.MatchString(n) })
}

var synset = regexp.MustCompile(`^n[0-9]{8}$`)

// without is the names that are not among others.
func without(names, others []string) []string {
	var rest []string
	for _, n := range names {
		if !slices.Contains(others, n) {
			rest = append(rest, n)
		}
	}
	return rest
}

// some names the first few.
func some(names []string) string {
	const few = 10
	if len(names) <= few {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:few], ", "), len(names)-few)
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
	p, err := Decoder{MaxPixels: DefaultPixels}.Read(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.files[i], err)
	}
	return p, nil
}
