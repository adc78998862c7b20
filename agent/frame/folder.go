package frame

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"image/png"
	"io/fs"
	"math"
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
	return slices.DeleteFunc(slices.Clone(names), func(n string) bool { return slices.Contains(others, n) })
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

// maxSheet is the limit on the pixels of a sheet: 1 GiB while it is open.
const maxSheet = 256 << 20

// Sheet is a set of labelled square pictures in one PNG, one picture a row:
// a row of the PNG is the picture's own rows side by side. The labels of
// NAME.png are in NAME.labels.json, an array of class indices.
type Sheet struct {
	pix    []byte // 4 bytes a pixel: R, G, B and one that does not count
	side   int    // of a picture, in pixels
	labels []int
}

// OpenSheet reads NAME.png and NAME.labels.json of a folder. A sheet has no
// limit on its sides, as it comes from the disk of the user who names it.
func OpenSheet(folder fs.FS, name string) (*Sheet, error) {
	s, err := readPixels(folder, name+".png")
	if err != nil {
		return nil, fmt.Errorf("sheet %s.png: %w", name, err)
	}
	b, err := fs.ReadFile(folder, name+".labels.json")
	if err != nil {
		return nil, fmt.Errorf("labels of the sheet: %w", err)
	}
	if err := s.setLabels(b); err != nil {
		return nil, fmt.Errorf("labels %s.labels.json: %w", name, err)
	}
	return s, nil
}

func readPixels(folder fs.FS, file string) (*Sheet, error) {
	b, err := fs.ReadFile(folder, file)
	if err != nil {
		return nil, err
	}
	config, err := png.DecodeConfig(bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	side := int(math.Round(math.Sqrt(float64(config.Width))))
	switch {
	case side*side != config.Width:
		return nil, fmt.Errorf("a row has %d pixels, which are no square picture", config.Width)
	case config.Width*config.Height > maxSheet:
		return nil, fmt.Errorf("%d x %d pixels are more than %d", config.Width, config.Height, maxSheet)
	}
	img, err := png.Decode(bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	switch m := img.(type) {
	case *image.RGBA:
		return &Sheet{pix: m.Pix, side: side}, nil
	case *image.NRGBA:
		return &Sheet{pix: m.Pix, side: side}, nil
	}
	return nil, errors.New("the pixels are not 8-bit RGB")
}

func (s *Sheet) setLabels(b []byte) error {
	if err := json.Unmarshal(b, &s.labels); err != nil {
		return fmt.Errorf("want an array of whole numbers: %w", err)
	}
	if rows := len(s.pix) / s.bytes(); len(s.labels) != rows {
		return fmt.Errorf("%d labels for %d pictures", len(s.labels), rows)
	}
	for i, label := range s.labels {
		if label < 0 {
			return fmt.Errorf("label %d is %d, want a class index from 0", i, label)
		}
	}
	return nil
}

func (s *Sheet) bytes() int { return 4 * s.side * s.side }

// Len is the number of pictures.
func (s *Sheet) Len() int { return len(s.labels) }

// Label is the class index of picture i.
func (s *Sheet) Label(i int) int { return s.labels[i] }

// Picture is picture i. It shares the memory of the sheet.
func (s *Sheet) Picture(i int) *Picture {
	return &Picture{img: s.image(i), Width: s.side, Height: s.side, scale: 1, turn: 1}
}

// PNG is picture i as a camera would send it.
func (s *Sheet) PNG(i int) ([]byte, error) {
	var b bytes.Buffer
	if err := png.Encode(&b, s.image(i)); err != nil {
		return nil, fmt.Errorf("picture %d: %w", i, err)
	}
	return b.Bytes(), nil
}

// image is picture i; alpha is set wherever the sheet has none.
func (s *Sheet) image(i int) *image.NRGBA {
	size := s.bytes()
	return &image.NRGBA{
		Pix:    s.pix[i*size:][:size:size],
		Stride: 4 * s.side,
		Rect:   image.Rect(0, 0, s.side, s.side),
	}
}
