package frame

import (
	"fmt"
	"image"
	"io"

	"github.com/gen2brain/jpegn"
)

// decodeJPEG fills dst with a JPEG.
func (d Decoder) decodeJPEG(dst *Picture, body []byte, h Header, scale int) error {
	s := &dst.jpeg
	defer s.forget()
	if err := s.read(body); err != nil {
		return err
	}
	if s.head.width != h.Width || s.head.height != h.Height {
		return fmt.Errorf("a header of %d x %d pixels for a frame of %d x %d", h.Width, h.Height, s.head.width, s.head.height)
	}
	if scale < 1 || scale > 8 || 8%scale != 0 {
		return fmt.Errorf("a scale of 1/%d", scale)
	}
	img, err := s.decode(scale)
	if err != nil {
		return err
	}
	turn := 1
	if d.Upright {
		turn = s.head.turn
	}
	if err := dst.take(img); err != nil {
		return err
	}
	dst.lay(h, scale, turn)
	return nil
}

// decode is the picture at 1/scale. It has memory of its own, which was zeroed:
// nothing of an earlier frame is in it.
func (s *stream) decode(scale int) (image.Image, error) {
	if err := s.checkFirst(); err != nil {
		return nil, err
	}
	img, err := s.pixels(scale)
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
		switch {
		case !s.ends && s.missing(sc):
			return io.ErrUnexpectedEOF
		case first && s.missing(sc), !s.head.progressive && s.scarce(sc):
			return errMissing
		}
	}
	return nil
}

// pixels runs the decoder. Should it panic, what it was about is dropped with the
// stream; the library then clears every field and table of the decoder that it
// takes back, as it does after each picture.
func (s *stream) pixels(scale int) (img image.Image, err error) {
	defer guard(&err)
	img, err = jpegn.Decode(s, &jpegn.Options{ScaleDenom: scale, UpsampleMethod: jpegn.CatmullRom})
	if err != nil {
		return nil, fmt.Errorf("the data are damaged: %w", err)
	}
	return img, nil
}
