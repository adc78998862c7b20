package workshop

import (
	"context"
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
	"github.com/limber-edge/limber/family/ort"
	"github.com/limber-edge/limber/family/resident"
	"github.com/limber-edge/limber/family/search"
	"github.com/limber-edge/limber/family/stock"
)

// Pictures is what sheets and folders have in common.
type Pictures interface {
	Len() int
	Label(i int) int
	Picture(i int) (*frame.Picture, error)
}

// A Set is pictures preprocessed for a family. One goroutine at a time may use it.
type Set struct {
	Pictures
	scaler *frame.Scaler
	drawn  *uint64 // the seed of a set as they are drawn in training; nil: as they are
}

func (s Set) Tensor(dst []float32, i, r int) error {
	p, err := s.Picture(i)
	if err != nil {
		return fmt.Errorf("image %d: %w", i, err)
	}
	if s.drawn == nil {
		s.scaler.Tensor(dst, p, r)
	} else { // the same every time, whatever was asked for before
		s.scaler.Augmented(dst, p, r, rand.New(rand.NewPCG(*s.drawn, uint64(i))))
	}
	return nil
}

// Preprocessed prepares pictures as a family says.
func Preprocessed(p Pictures, how family.Preprocess) (Set, error) {
	scaler, err := frame.NewScaler(how)
	return Set{Pictures: p, scaler: scaler}, err
}

// OpenPictures opens what a flag names: a folder, of sheets NAME.png with
// NAME.labels.json or else an ImageFolder tree, or a pattern of sheets in a
// folder (dir/train_*). Nothing but what is named is read. The folders of a tree
// are named after the classes, see frame.OpenFolder.
func OpenPictures(path string, classes []string) (Pictures, error) {
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

// TestImages opens what is named, else all of CIFAR-10's test images where they
// have been fetched, else those that the program carries. CIFAR-10's are counted
// by the numbers of its classes, whatever the family calls them; it warns of that.
func (s Shop) TestImages(path string, f *family.Family) (Pictures, error) {
	if path != "" {
		return OpenPictures(path, f.Classes)
	}
	known, err := stock.Family()
	if err != nil {
		return nil, err
	}
	switch names := f.Labels(); {
	case len(f.Classes) != len(known.Classes):
		return nil, fmt.Errorf("family %s is of %d classes (%s) and not of CIFAR-10's: name images of them with --data",
			f.Name, len(f.Classes), names)
	case !slices.Equal(f.Classes, known.Classes):
		s.Progress.Warn(fmt.Sprintf("on CIFAR-10's images, "+
			"for which the family's classes %s stand for %s; --data names others", names, known.Labels()))
	}
	if exe, err := os.Executable(); err == nil {
		fetched := filepath.Join(filepath.Dir(filepath.Dir(exe)), ".data", "cifar10")
		if _, err := os.Stat(filepath.Join(fetched, "test.png")); err == nil {
			return OpenPictures(filepath.Join(fetched, "test"), f.Classes)
		}
	}
	sheet, err := stock.Sheet(frame.OpenSheet)
	if err != nil {
		return nil, err
	}
	return sheets{sheet}, nil
}

func openFolder(dir string, classes []string) (Pictures, error) {
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
	panic("workshop: picture past the end of the sheets")
}

func (s sheets) Label(i int) int {
	sheet, row := s.at(i)
	return sheet.Label(row)
}

func (s sheets) Picture(i int) (*frame.Picture, error) {
	sheet, row := s.at(i)
	return sheet.Picture(row), nil
}

// An Evaluator runs the members of one family on sets of images, those of a foreign
// one as on a device.
type Evaluator struct {
	fam   *family.Folder
	room  *scratch
	shelf *resident.Shelf // of the members of a foreign family, and of the supernet
}

// NewEvaluator opens what members run in; Close lets go of it.
func (s Shop) NewEvaluator(f *family.Folder) (*Evaluator, error) {
	room, err := openScratch()
	if err != nil {
		return nil, err
	}
	shelf, err := room.shelf(f, ort.DefaultOptions(), s.Guard)
	if err != nil {
		return nil, errors.Join(err, room.Close())
	}
	return &Evaluator{f, room, shelf}, nil
}

// Close ends the evaluator.
func (e *Evaluator) Close() error { return e.room.Close() }

// Guesses are what member i takes each image for.
func (e *Evaluator) Guesses(ctx context.Context, i int, set search.Images) (guesses []search.Guess, err error) {
	m := e.fam.Members[i]
	if e.fam.Foreign() {
		guesses, err = e.foreign(ctx, i, m.Arch.R, set)
	} else {
		guesses, err = e.ours(ctx, m, set)
	}
	if err != nil {
		return nil, fmt.Errorf("member %s: %w", m.Name, err)
	}
	return guesses, nil
}

func (e *Evaluator) ours(ctx context.Context, m family.Member, set search.Images) ([]search.Guess, error) {
	net, err := e.shelf.Supernet()
	if err != nil {
		return nil, err
	}
	sub, err := net.Member(m, e.fam)
	if err != nil {
		return nil, err
	}
	return search.Guesses(ctx, sub, Loader(e.room.rt, 2), set)
}

// foreign runs somebody else's model.
func (e *Evaluator) foreign(ctx context.Context, i, r int, set search.Images) (guesses []search.Guess, err error) {
	session, err := e.shelf.Session(i)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, session.Close()) }()
	logits := make([]float32, len(e.fam.Classes))
	one := func(in []float32, _, _ int) ([][]float32, error) {
		return [][]float32{logits}, session.Run(logits, in)
	}
	return search.Classifier{Run: one, R: r, Classes: len(logits), AtOnce: 1}.Guesses(ctx, set)
}
