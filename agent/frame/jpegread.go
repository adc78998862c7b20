package frame

import (
	"fmt"
	"image"

	"github.com/gen2brain/jpegn"
)

// jpegReader decodes JPEGs, one after another.
type jpegReader struct {
	stream stream
}

// decode is the picture of a JPEG at 1/scale. It has memory of its own, which was
// zeroed: nothing of an earlier frame is in it.
func (r *jpegReader) decode(body []byte, scale int) (image.Image, error) {
	s := &r.stream
	defer s.forget()
	if err := s.read(body); err != nil {
		return nil, err
	}
	if err := s.checkFirst(); err != nil {
		return nil, err
	}
	img, err := r.pixels(scale)
	if err != nil {
		return nil, err
	}
	for i := range s.scans {
		if sc := &s.scans[i]; s.ends && !s.head.progressive && s.doubtful(sc, img, scale) && s.missing(sc) {
			return nil, errMissing
		}
	}
	return img, nil
}

// checkFirst looks for missing data before the picture is decoded, where the
// decoder would make them up: in progressive pictures and in those without end.
func (s *stream) checkFirst() error {
	for i := range s.scans {
		sc := &s.scans[i]
		if (s.head.progressive && sc.from == 0 && sc.high == 0 || !s.ends) && s.missing(sc) {
			return errMissing
		}
	}
	return nil
}

// pixels runs the decoder. Should it panic, what it was about is dropped with the
// stream; the library then clears every field and table of the decoder that it
// takes back, as it does after each picture.
func (r *jpegReader) pixels(scale int) (img image.Image, err error) {
	defer guard(&err)
	img, err = jpegn.Decode(&r.stream, &jpegn.Options{ScaleDenom: scale, UpsampleMethod: jpegn.CatmullRom})
	if err != nil {
		return nil, fmt.Errorf("the data are damaged: %w", err)
	}
	return img, nil
}
