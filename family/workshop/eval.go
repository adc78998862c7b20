package workshop

import (
	"context"
	"errors"
	"fmt"

	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/family/ort"
	"github.com/limber-edge/limber/family/resident"
	"github.com/limber-edge/limber/family/search"
)

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
