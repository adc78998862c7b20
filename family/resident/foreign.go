package resident

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/family/onnx"
	"github.com/limber-edge/limber/family/ort"
)

// Guard runs a foreign model before this process does.
type Guard interface {
	// Try runs model on input, an image of 3×R×R, where it can do this process
	// no harm, and returns the logits. It ends by itself. The error says what
	// the model did and what helps; or that it could not be tried.
	Try(ctx context.Context, model []byte, shape ort.Shape, input []float32) ([]float32, error)
}

// foreign returns a foreign member's model if it passes the scan, is what the
// manifest says, and gave the stored logits in a trial. It is called when a
// cache folder is built, so a model is tried once for each runtime and CPU.
func (s *Shelf) foreign(m *family.Member) ([]byte, error) {
	model, err := s.blobs.Blob(m.Model)
	if err != nil {
		return nil, err
	}
	info, err := onnx.Scan(model)
	if err != nil {
		return nil, err
	}
	if err := Fits(info, m, len(s.fam.Classes)); err != nil {
		return nil, err
	}
	return model, s.try(m, model)
}

func (s *Shelf) try(m *family.Member, model []byte) error {
	if s.guard == nil {
		return errors.New("a foreign model is used only after a trial in a process of its own, which this program cannot " +
			"make")
	}
	input, want, err := s.stored(m)
	if err != nil {
		return err
	}
	// A trial has limits of its own; nobody waits for less.
	got, err := s.guard.Try(context.Background(), model, ShapeOf(m, len(want)), input)
	if err != nil {
		return err
	}
	return agrees(got, want)
}

// ShapeOf is what enters and leaves a foreign member's model.
func ShapeOf(m *family.Member, classes int) ort.Shape {
	return ort.Shape{Input: m.Input, R: m.Arch.R, Output: m.Output, Classes: classes}
}

// maxSide bounds the images that a foreign model may want, in pixels: what a
// camera gives.
const maxSide = 4096

// Fits tells whether what enters and leaves a model is what the manifest says:
// an image of 3×R×R under the input's name, a number a class under the output's,
// for one image or for any number. It is strict, since onnx.Plain has made every
// model so where the family was made.
func Fits(info onnx.Info, m *family.Member, classes int) error {
	if m.Arch.R < 1 || m.Arch.R > maxSide {
		return fmt.Errorf("input of %d pixels a side, wants 1 to %d: export the model with a fixed size of its images",
			m.Arch.R, maxSide)
	}
	for _, port := range []struct {
		what string
		got  onnx.Value
		name string
		dims []int
	}{
		{"input", info.Input, m.Input, []int{1, 3, m.Arch.R, m.Arch.R}},
		{"output", info.Output, m.Output, []int{1, classes}},
	} {
		fits := func(got, want int) bool { return got == want || got == onnx.Dynamic }
		if port.got.Name != port.name || !slices.EqualFunc(port.got.Dims, port.dims, fits) {
			return fmt.Errorf("%s %s %v of the model is not the manifest's %s %v", port.what, port.got.Name, port.got.Dims,
				port.name, port.dims)
		}
	}
	return nil
}
