package resident

import (
	"fmt"
	"slices"

	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/family/onnx"
)

// foreign returns a foreign member's model if it passes the scan and is what
// the manifest says.
func (s *Shelf) foreign(m *family.Member) ([]byte, error) {
	model, err := s.blobs.Blob(m.Model)
	if err != nil {
		return nil, err
	}
	info, err := onnx.Scan(model)
	if err != nil {
		return nil, err
	}
	return model, Fits(info, m, len(s.fam.Classes))
}

// Fits tells whether what enters and leaves a model is what the manifest says:
// an image of 3×R×R under the input's name, a logit a class under the output's,
// for one image or for any number.
func Fits(info onnx.Info, m *family.Member, classes int) error {
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
			return fmt.Errorf("%s %s %v of the model is not the manifest's %s %v", port.what, port.got.Name, port.got.Dims, port.name, port.dims)
		}
	}
	return nil
}
