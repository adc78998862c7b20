package frame

import (
	"bytes"
	"encoding/binary"
	"slices"
)

// exifStart is what a block of EXIF begins with in a JPEG.
const exifStart = "Exif\x00\x00"

// turn is the orientation that a frame which is no JPEG asks for, if anybody listens.
func (d Decoder) turn(body []byte, h Header) int {
	switch {
	case !d.Upright:
		return 1
	case h.Codec == PNG:
		return turnOfPNG(body)
	case h.Codec == WebP:
		return turnOfWebP(body)
	}
	return 1
}

// orientation is the orientation, 1 to 8, that a block of EXIF (TIFF 6.0,
// field 274 of the first directory) gives. 1, as stored, where it has none that
// makes sense. Nothing outside of the block is read.
func orientation(tiff []byte) int {
	if len(tiff) < 8 {
		return 1
	}
	order := binary.ByteOrder(binary.BigEndian)
	if tiff[0] == 'I' {
		order = binary.LittleEndian
	}
	if tiff[0] != tiff[1] || tiff[0] != 'I' && tiff[0] != 'M' || order.Uint16(tiff[2:]) != 42 {
		return 1
	}
	at := uint64(order.Uint32(tiff[4:]))
	if at+2 > uint64(len(tiff)) {
		return 1
	}
	for rest := tiff[at+2:]; len(rest) >= 12; rest = rest[12:] {
		if len(tiff[at+2:])-len(rest) >= 12*int(order.Uint16(tiff[at:])) {
			break
		}
		if order.Uint16(rest) == 274 {
			return turnOf(order, rest)
		}
	}
	return 1
}

// turnOf is the value of a directory's field, if it is one short that is an
// orientation.
func turnOf(order binary.ByteOrder, field []byte) int {
	const short = 3
	v := int(order.Uint16(field[8:]))
	if order.Uint16(field[2:]) != short || order.Uint32(field[4:]) != 1 || v < 1 || v > 8 {
		return 1
	}
	return v
}

// turnOfPNG is the orientation that the chunk eXIf of a PNG gives.
func turnOfPNG(body []byte) int {
	const signature, frame = 8, 12 // bytes; a chunk has length, name and checksum around its data
	for rest := body[min(signature, len(body)):]; len(rest) >= frame; {
		n := uint64(binary.BigEndian.Uint32(rest))
		if n+frame > uint64(len(rest)) {
			break
		}
		if string(rest[4:8]) == "eXIf" {
			return orientation(rest[8:][:n])
		}
		rest = rest[n+frame:]
	}
	return 1
}

// turnOfWebP is the orientation that the chunk EXIF of a WebP gives.
func turnOfWebP(body []byte) int {
	const header = 12 // bytes
	for rest := body[min(header, len(body)):]; ; {
		kind, data, next, err := nextChunk(rest)
		switch {
		case err != nil:
			return 1
		case kind == "EXIF":
			return orientation(bytes.TrimPrefix(data, []byte(exifStart)))
		}
		rest = next
	}
}

// turned is how the picture that EXIF's orientation turn makes upright is stored:
// with the axes swapped, its stored lines mirrored, its stored columns upended.
func turned(turn int) (swapped, mirrored, upended bool) {
	return turn > 4, slices.Contains([]int{2, 3, 7, 8}, turn), slices.Contains([]int{3, 4, 6, 7}, turn)
}

// stored are the axes, along stored lines and down stored columns, of what x and y
// lay out of the upright picture.
func (p *Picture) stored(x, y axis) (across, down axis) {
	w, h := p.Width, p.Height
	swapped, mirrored, upended := turned(p.turn)
	if swapped {
		x, y, w, h = y, x, h, w
	}
	if mirrored {
		x = x.reversed(w)
	}
	if upended {
		y = y.reversed(h)
	}
	size := p.img.Bounds()
	x.per, x.most = p.scale, size.Dx()
	y.per, y.most = p.scale, size.Dy()
	return x, y
}
