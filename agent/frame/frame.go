// Package frame turns the bytes of a camera frame into the tensor a
// sub-network reads.
//
//	bytes ──Decode──→ Picture ──Tensor──→ 1×3×r×r float32, NCHW
//
// The one rule: nothing is allocated for a picture before its header was
// judged, so a frame costs what its declared size costs and that is limited.
// JPEG, PNG and WebP are read, and what a frame is called never decides how it
// is read: the first bytes do, and a sender who says otherwise is refused. Only
// raw frames need to be declared, as they have no first bytes; their size is
// judged by their length. A frame that is none of these is refused with what it
// looks like and what to send instead.
//
// A JPEG that has more pixels than a tensor needs is shrunk while it is decoded,
// by Scale. The largest resolution that may still be chosen for a frame must be
// known by then, and the caller knows it: who may yet take another member gives
// the largest r of those that can still be taken, not that of the likely one. A
// tensor of a smaller r is then made of more samples than it needs, and one of a
// larger r would be made of fewer, which is less exact and nothing worse.
//
// A JPEG that lacks part of its picture is refused, and one whose bits are damaged
// is read where Pillow reads it: what is looked at is whether its data suffice, not
// what trails them. The library that decodes makes up what is missing, so each JPEG
// is written anew for it, see stream, in a way that shows what it made up.
//
// The pixels are those PIL gives for convert("RGB"), the reference the
// networks are trained with: alpha is dropped, 16 bits are cut to the upper
// eight, of an animation the default image is taken, colour profiles are not
// applied, and EXIF orientation is where it is asked for. PNG, WebP and resizing
// agree bit by bit, JPEG to the rounding of the inverse DCT. What follows the
// pixels of a PNG or a WebP is not judged; of an animated WebP no image is taken. A
// picture is turned by turning the axes of the resize: no pixel is moved for it.
package frame

import (
	"errors"
	"fmt"
	"image"
	"image/png"
	"io"
	"strings"
)

// The codecs a sender may declare, beside those of raw frames.
const (
	JPEG = "jpeg"
	PNG  = "png"
	WebP = "webp"
)

// DefaultPixels is the limit on width times height that suits a device with 4
// GB: a progressive JPEG of this size takes some 250 MB while it is decoded.
const DefaultPixels = 4096 * 4096

// maxSide is the limit on width and on height, in pixels.
const maxSide = 16384

// ErrUnsupported marks a JPEG, PNG or WebP that is sound but of a variant that is
// not read, such as 12 bits a sample.
var ErrUnsupported = errors.New("unsupported")

// Claim is what a sender says of a frame. The zero Claim says nothing.
type Claim struct {
	Codec         string // empty: the first bytes decide; raw frames need it
	Width, Height int    // in pixels, of a raw frame; 0 for others
}

// Header is what a frame says of itself, before any pixel of it is read.
type Header struct {
	Codec         string
	Width, Height int // in pixels, as stored
	Bytes         int // of the frame
}

// Pixels is the size of the picture at full scale.
func (h Header) Pixels() int { return h.Width * h.Height }

// Decoder decodes frames of limited size. It may be used by many goroutines.
type Decoder struct {
	MaxPixels int  // width times height; DefaultPixels suits most
	Upright   bool // turn and mirror as EXIF says, instead of taking pixels as they are stored
}

// Inspect judges a frame by its header, without memory for the pixels, in a
// time that its size in bytes bounds. What it lets through may still be damaged.
func (d Decoder) Inspect(body []byte, claim Claim) (Header, error) {
	if isRaw(claim.Codec) {
		return d.inspectRaw(body, claim)
	}
	if err := claim.checkEncoded(); err != nil {
		return Header{}, err
	}
	is, err := sniff(body)
	if err != nil {
		return Header{}, err
	}
	if claim.Codec != "" && claim.Codec != is.name {
		return Header{}, fmt.Errorf("declared as %.40q, but the bytes are %s", claim.Codec, is.name)
	}
	return d.checkHeader(body, is)
}

// Decode fills dst with the frame that Inspect let through with h, at 1/scale of
// its size: 1, 2, 4 or 8, which only JPEG heeds. Memory of dst is used again. An
// error leaves dst unfit for use, but for the next Decode. dst does not refer to
// body.
func (d Decoder) Decode(dst *Picture, body []byte, h Header, scale int) error {
	if isRaw(h.Codec) {
		return dst.takeRaw(body, h)
	}
	if h.Codec == JPEG {
		return worded(JPEG, d.decodeJPEG(dst, body, h, scale))
	}
	for _, is := range codecs() {
		if is.name != h.Codec {
			continue
		}
		img, err := is.whole(body)
		if err != nil {
			return worded(is.name, err)
		}
		err = dst.take(img)
		dst.lay(h, 1, d.turn(body, h))
		return err
	}
	return fmt.Errorf("a header of codec %.40q", h.Codec)
}

// Read decodes a frame at full scale, as the commands that prepare families do.
func (d Decoder) Read(body []byte) (*Picture, error) {
	h, err := d.Inspect(body, Claim{})
	if err != nil {
		return nil, err
	}
	p := new(Picture)
	if err := d.Decode(p, body, h, 1); err != nil {
		return nil, err
	}
	return p, nil
}

// codec is one way to encode a frame. Its pictures have pixels of the types that
// Picture.take knows.
type codec struct {
	name   string
	magic  string // its first bytes; ? is any
	config func(body []byte) (image.Config, error)
	decode func(body []byte) (pixels, error)
}

func codecs() [3]codec {
	return [...]codec{
		{JPEG, "\xff\xd8\xff", jpegConfig, nil}, // a decoder of its own
		{PNG, pngMagic, pngConfig, pngDecode},
		{WebP, "RIFF????WEBP", webpConfig, webpDecode},
	}
}

// begins tells whether a body begins with the codec's first bytes.
func (c codec) begins(body []byte) bool {
	if len(body) < len(c.magic) {
		return false
	}
	for i, b := range []byte(c.magic) {
		if b != '?' && b != body[i] {
			return false
		}
	}
	return true
}

// sniff is the codec that the first bytes show.
func sniff(body []byte) (codec, error) {
	if len(body) == 0 {
		return codec{}, errors.New("the frame is empty")
	}
	for _, c := range codecs() {
		if c.begins(body) {
			return c, nil
		}
	}
	return codec{}, foreign(body)
}

// checkHeader judges the declared size.
func (d Decoder) checkHeader(body []byte, is codec) (Header, error) {
	config, err := is.header(body)
	if err != nil {
		return Header{}, worded(is.name, err)
	}
	w, h := config.Width, config.Height
	switch {
	case w < 1 || h < 1:
		return Header{}, fmt.Errorf("%s: %d x %d pixels are none", is.name, w, h)
	case w > maxSide || h > maxSide:
		return Header{}, fmt.Errorf("%s: %d x %d pixels: no side may be over %d", is.name, w, h, maxSide)
	case w*h > d.MaxPixels:
		return Header{}, fmt.Errorf("%s: %d x %d pixels are more than %d", is.name, w, h, d.MaxPixels)
	}
	return Header{Codec: is.name, Width: w, Height: h, Bytes: len(body)}, nil
}

func (c *codec) header(body []byte) (config image.Config, err error) {
	defer guard(&err)
	return c.config(body)
}

func (c *codec) whole(body []byte) (img pixels, err error) {
	defer guard(&err)
	return c.decode(body)
}

// guard turns a panic of an image codec into an error. The codecs are foreign
// code at the edge of the world and hold nothing that a panic could leave half
// done: each frame has a decoder of its own, or one of which every field and table
// was set anew. No input that gets so far is known to make them panic.
func guard(err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("the codec gave up: %v", p)
	}
}

// worded says what a codec's error means for the sender.
func worded(codec string, err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%s: the frame ends too early", codec)
	}
	if p, ok := errors.AsType[png.UnsupportedError](err); ok {
		return fmt.Errorf("png: %w: %s", ErrUnsupported, string(p))
	}
	if strings.HasPrefix(err.Error(), codec+": ") {
		return err
	}
	return fmt.Errorf("%s: %w", codec, err)
}
