// Package frame turns the bytes of a camera frame into the tensor a
// sub-network reads.
//
//	bytes ──Decode──→ Picture ──Tensor──→ 1×3×r×r float32, NCHW
//
// The one rule: nothing is allocated for a picture before its header was
// judged, so a frame costs what its declared size costs and that is limited.
// Only JPEG and PNG are read, and what a frame is called never decides how it
// is read: the first bytes do, and a sender who says otherwise is refused.
//
// The pixels are those PIL gives for convert("RGB"), the reference the
// networks are trained with: alpha is dropped, 16 bits are cut to the upper
// eight, of an animation the default image is taken, EXIF orientation and
// colour profiles are not applied. PNG and resizing agree bit by bit, JPEG to
// the rounding of the inverse DCT.
package frame

import (
	"bytes"
	"errors"
	"fmt"
	"image"
	"image/jpeg"
	"image/png"
	"io"
	"strings"
)

// The codecs a sender may declare.
const (
	JPEG = "jpeg"
	PNG  = "png"
)

// DefaultPixels is the limit on width times height that suits a device with 4
// GB: a progressive JPEG of this size takes some 250 MB while it is decoded.
const DefaultPixels = 4096 * 4096

// maxSide is the limit on width and on height, in pixels.
const maxSide = 16384

// maxScans is the limit on the scans of a JPEG. Encoders write about ten; each
// one goes over the whole picture, however few bytes it has.
const maxScans = 100

// ErrUnsupported marks a JPEG or PNG that is sound but of a variant that is
// not read, such as 12 bits a sample.
var ErrUnsupported = errors.New("unsupported")

// Decoder decodes frames of limited size. It may be used by many goroutines.
type Decoder struct {
	MaxPixels int // width times height; DefaultPixels suits most
}

// Decode reads one JPEG or PNG. The sender declared JPEG, PNG or, if empty,
// nothing. The Picture does not refer to body.
func (d Decoder) Decode(body []byte, declared string) (*Picture, error) {
	is, err := sniff(body)
	if err != nil {
		return nil, err
	}
	if declared != "" && declared != is.name {
		return nil, fmt.Errorf("declared as %.40q, but the bytes are %s", declared, is.name)
	}
	if is.name == JPEG && bytes.Count(body, []byte{0xff, 0xda}) > maxScans {
		return nil, fmt.Errorf("jpeg: more than %d scans", maxScans)
	}
	if err := d.checkHeader(body, is); err != nil {
		return nil, err
	}
	img, err := is.whole(body)
	if err != nil {
		return nil, worded(is.name, err)
	}
	return newPicture(img)
}

// codec is one way to encode a frame. Its pictures have pixels of the types that
// newPicture knows.
type codec struct {
	name   string
	magic  string // its first bytes
	config func(io.Reader) (image.Config, error)
	decode func(io.Reader) (image.Image, error)
}

func codecs() [2]codec {
	return [...]codec{
		{JPEG, "\xff\xd8\xff", jpeg.DecodeConfig, jpeg.Decode},
		{PNG, "\x89PNG\r\n\x1a\n", png.DecodeConfig, png.Decode},
	}
}

// sniff is the codec that the first bytes show.
func sniff(body []byte) (codec, error) {
	if len(body) == 0 {
		return codec{}, errors.New("the frame is empty")
	}
	for _, c := range codecs() {
		if bytes.HasPrefix(body, []byte(c.magic)) {
			return c, nil
		}
	}
	return codec{}, errors.New("the frame is neither JPEG nor PNG")
}

// checkHeader judges the declared size, without memory for the pixels.
func (d Decoder) checkHeader(body []byte, is codec) error {
	config, err := is.header(body)
	if err != nil {
		return worded(is.name, err)
	}
	w, h := config.Width, config.Height
	switch {
	case w < 1 || h < 1:
		return fmt.Errorf("%s: %d x %d pixels are none", is.name, w, h)
	case w > maxSide || h > maxSide:
		return fmt.Errorf("%s: %d x %d pixels: no side may be over %d", is.name, w, h, maxSide)
	case w*h > d.MaxPixels:
		return fmt.Errorf("%s: %d x %d pixels are more than %d", is.name, w, h, d.MaxPixels)
	}
	return nil
}

func (c *codec) header(body []byte) (config image.Config, err error) {
	defer guard(&err)
	return c.config(bytes.NewReader(body))
}

func (c *codec) whole(body []byte) (img image.Image, err error) {
	defer guard(&err)
	return c.decode(bytes.NewReader(body))
}

// guard turns a panic of an image codec into an error. The codecs are foreign
// code at the edge of the world and hold nothing that a panic could leave
// half done; no known input makes them panic.
func guard(err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("the codec gave up: %v", p)
	}
}

// worded says what a codec's error means for the sender.
func worded(codec string, err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%s: the frame ends too early", codec)
	}
	if j, ok := errors.AsType[jpeg.UnsupportedError](err); ok {
		return fmt.Errorf("jpeg: %w: %s", ErrUnsupported, string(j))
	}
	if p, ok := errors.AsType[png.UnsupportedError](err); ok {
		return fmt.Errorf("png: %w: %s", ErrUnsupported, string(p))
	}
	if strings.HasPrefix(err.Error(), codec+": ") {
		return err
	}
	return fmt.Errorf("%s: %w", codec, err)
}
