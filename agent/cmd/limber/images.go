package main

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/limber-edge/limber/agent/frame"
	"github.com/limber-edge/limber/family"
)

// pictures is what sheets and folders have in common.
type pictures interface {
	Len() int
	Label(i int) int
	Picture(i int) (*frame.Picture, error)
}

// images preprocesses pictures for a supernet. One goroutine at a time may use
// it.
type images struct {
	pictures
	scaler *frame.Scaler
}

func (s images) Tensor(dst []float32, i, r int) error {
	p, err := s.Picture(i)
	if err != nil {
		return fmt.Errorf("image %d: %w", i, err)
	}
	s.scaler.Tensor(dst, p, r)
	return nil
}

// augmented is images as they are drawn in training. An image is the same every
// time, whatever was asked for before.
type augmented struct {
	images
	seed uint64
}

func (s augmented) Tensor(dst []float32, i, r int) error {
	p, err := s.Picture(i)
	if err != nil {
		return fmt.Errorf("image %d: %w", i, err)
	}
	s.scaler.Augmented(dst, p, r, rand.New(rand.NewPCG(s.seed, uint64(i))))
	return nil
}

func preprocessed(p pictures, how family.Preprocess) (images, error) {
	scaler, err := frame.NewScaler(how)
	return images{p, scaler}, err
}

// openPictures opens what a flag names: a folder, of sheets NAME.png with
// NAME.labels.json or else an ImageFolder tree, or a pattern of sheets in a
// folder (dir/train_*). Nothing but what is named is read. The folders of a tree
// are named after the classes, see frame.OpenFolder.
func openPictures(path string, classes []string) (pictures, error) {
	info, err := os.Stat(path)
	switch {
	case err == nil && info.IsDir():
		return openFolder(path, classes)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("images: %w", err)
	}
	dir, pattern := filepath.Split(strings.TrimSuffix(filepath.Clean(path), ".png"))
	found, err := openSheets(filepath.Clean(dir), pattern)
	if err == nil && len(found) == 0 {
		err = fmt.Errorf("no such folder, and no sheets %s.png with %[1]s.labels.json in %s", pattern, filepath.Clean(dir))
	}
	if err != nil {
		return nil, fmt.Errorf("images %s: %w", path, err)
	}
	return found, nil
}

func openFolder(dir string, classes []string) (pictures, error) {
	found, err := openSheets(dir, "*")
	if err != nil {
		return nil, fmt.Errorf("images %s: %w", dir, err)
	}
	if len(found) > 0 {
		return found, nil
	}
	folder, err := frame.OpenFolder(os.DirFS(dir), classes)
	if err != nil {
		return nil, fmt.Errorf("images %s: no sheets NAME.png with NAME.labels.json in it; %w", dir, err)
	}
	return folder, nil
}

// openSheets opens the sheets of a folder that match a pattern, in alphabetical
// order; none where there is no such folder.
func openSheets(dir, pattern string) (sheets, error) {
	tree := os.DirFS(dir)
	found, err := fs.Glob(tree, pattern+".labels.json")
	if err != nil {
		return nil, err
	}
	slices.Sort(found)
	var all sheets
	for _, name := range found {
		sheet, err := frame.OpenSheet(tree, strings.TrimSuffix(name, ".labels.json"))
		if err != nil {
			return nil, err
		}
		all = append(all, sheet)
	}
	return all, nil
}

// sheets is several sheets one after the other.
type sheets []*frame.Sheet

func (s sheets) Len() int {
	n := 0
	for _, sheet := range s {
		n += sheet.Len()
	}
	return n
}

// at finds the sheet that holds picture i, and its row there.
func (s sheets) at(i int) (*frame.Sheet, int) {
	for _, sheet := range s {
		if i < sheet.Len() {
			return sheet, i
		}
		i -= sheet.Len()
	}
	panic("limber: picture past the end of the sheets")
}

func (s sheets) Label(i int) int {
	sheet, row := s.at(i)
	return sheet.Label(row)
}

func (s sheets) Picture(i int) (*frame.Picture, error) {
	sheet, row := s.at(i)
	return sheet.Picture(row), nil
}
