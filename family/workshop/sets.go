package workshop

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"

	"github.com/limber-edge/limber/agent/frame"
	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/family/ofa"
	"github.com/limber-edge/limber/family/search"
)

// buildImages are the three sets of a build.
type buildImages struct {
	search.Sets
	test    search.Images // nil: reports are on the validation images
	classes []string      // of the validation images
}

func (r Recipe) images(d ofa.Description) (buildImages, error) {
	// Labels of these do not matter.
	opened, _, err := openSet(r.Calibration, nil, d.Preprocess)
	if err != nil {
		return buildImages{}, err
	}
	calibration := search.Images(opened)
	if r.Augment {
		calibration = augmented{opened, r.Plan.Seed}
	}
	validation, classes, err := openSet(r.Validation, d.Classes, d.Preprocess)
	if err != nil {
		return buildImages{}, err
	}
	rng := rand.New(rand.NewPCG(r.Plan.Seed, 1))
	first, second := rng.Perm(calibration.Len()), rng.Perm(validation.Len())
	if filepath.Clean(r.Calibration) == filepath.Clean(r.Validation) {
		if len(first) <= r.CalibrationImages {
			return buildImages{}, fmt.Errorf("%s has %d images; after %d for BN statistics none is left to choose by",
				r.Calibration, len(first), r.CalibrationImages)
		}
		second = first[r.CalibrationImages:]
	}
	some := func(all search.Images, at []int, n int) search.Images {
		return search.Pick(all, at[:min(n, len(at))])
	}
	sets := search.Sets{Calibration: some(calibration, first, r.CalibrationImages),
		Validation: some(validation, second, r.ValidationImages)}
	all := buildImages{Sets: sets, classes: classes}
	if r.Test == "" {
		return all, nil
	}
	all.test, _, err = openSet(r.Test, classes, d.Preprocess)
	return all, err
}

// openSet opens images and names their classes: a tree does where nothing else
// has.
func openSet(path string, classes []string, how family.Preprocess) (Set, []string, error) {
	p, err := OpenPictures(path, classes)
	if err != nil {
		return Set{}, nil, err
	}
	if folder, ok := p.(*frame.Folder); ok && len(classes) == 0 {
		classes = folder.Classes()
	}
	set, err := Preprocessed(p, how)
	return set, classes, err
}
