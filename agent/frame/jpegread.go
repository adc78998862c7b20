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
	return img, s.checkLast(img, scale)
}

// checkLast looks for missing data in a decoded picture.
func (s *stream) checkLast(img image.Image, scale int) error {
	for i := range s.scans {
		if sc := &s.scans[i]; s.ends && !s.head.progressive && s.doubtful(sc, img, scale) && s.missing(sc) {
			return errMissing
		}
	}
	return nil
}

// checkFirst looks for missing data before there is memory for the picture. It
// finds all of them where the decoder would make them up, in progressive pictures
// and in those without end, and elsewhere those that the fewest bits of a block show.
func (s *stream) checkFirst() error {
	for i := range s.scans {
		sc := &s.scans[i]
		first := s.head.progressive && sc.from == 0 && sc.high == 0
		if (first || !s.ends) && s.missing(sc) || !s.head.progressive && s.scarce(sc) {
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
