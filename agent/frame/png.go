package frame

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"errors"
	"hash"
	"hash/adler32"
	"hash/crc32"
	"image"
	"image/png"
	"io"
)

// pngMagic is the signature of a PNG, after which chunks follow: length, kind,
// data and a check over kind and data.
const pngMagic = "\x89PNG\r\n\x1a\n"

// chunkEdge is what a chunk has beside its data, in bytes: length, kind, check.
const chunkEdge = 12

func pngConfig(body []byte) (image.Config, error) { return png.DecodeConfig(bytes.NewReader(body)) }

// pngDecode reads a PNG whose pixels are whole, whatever follows them. image/png
// wants an end as well, and nothing between; libpng and Pillow warn at most, and
// cameras rely on it.
func pngDecode(body []byte) (pixels, error) {
	head, data, err := splitPNG(body)
	if err != nil {
		return nil, err
	}
	img, err := png.Decode(io.MultiReader(bytes.NewReader(head), bytes.NewReader(data), bytes.NewReader(pngChunk("IEND",
		nil))))
	if err == png.FormatError("too much pixel data") {
		img, err = trimmedPNG(head, data)
	}
	return img, err
}

// splitPNG is what lies before the pixel data of a PNG, and the chunks of pixel
// data, of which none may be cut.
func splitPNG(body []byte) (head, data []byte, err error) {
	at, from := len(pngMagic), -1
	for at+chunkEdge <= len(body) {
		isData := string(body[at+4:at+8]) == "IDAT"
		if from < 0 && isData {
			from = at
		} else if from >= 0 && !isData {
			break
		}
		size := int64(binary.BigEndian.Uint32(body[at:])) + chunkEdge
		if size > int64(len(body)-at) {
			return nil, nil, io.ErrUnexpectedEOF
		}
		at += int(size)
	}
	if from < 0 {
		return nil, nil, io.ErrUnexpectedEOF
	}
	return body[:from], body[from:at], nil
}

// trimmedPNG reads a PNG that has more data than pixels. The surplus is neither
// unpacked nor kept: image/png is given what the pixels need, packed anew.
func trimmedPNG(head, data []byte) (image.Image, error) {
	if err := checkChunks(data); err != nil {
		return nil, err
	}
	z, err := zlib.NewReader(&pngData{rest: data})
	if err != nil {
		return nil, err
	}
	want := rawPNG(head[len(pngMagic)+8:])
	again := &repacked{raw: io.LimitReader(z, want), sum: adler32.New(), out: pngChunk("IDAT", []byte{0x78, 0x01})}
	return png.Decode(io.MultiReader(bytes.NewReader(head), again))
}

// checkChunks verifies the checks of all chunks in a list.
func checkChunks(list []byte) error {
	for len(list) > 0 {
		end := chunkEdge + int(binary.BigEndian.Uint32(list))
		if crc32.ChecksumIEEE(list[4:end-4]) != binary.BigEndian.Uint32(list[end-4:]) {
			return png.FormatError("invalid checksum")
		}
		list = list[end:]
	}
	return nil
}

// rawPNG is how many bytes the pixels of a PNG are when they are unpacked, by its
// header: each row has a byte more than its samples. An interlaced one has seven
// pictures, of every eighth pixel of every eighth row first.
func rawPNG(header []byte) int64 {
	w, h := int64(binary.BigEndian.Uint32(header)), int64(binary.BigEndian.Uint32(header[4:]))
	bits := int64(header[8]) * samplesPNG(header[9])
	passes := [][4]int64{{0, 0, 1, 1}} // first column and row, step across and down
	if header[12] != 0 {
		passes = [][4]int64{{0, 0, 8, 8}, {4, 0, 8, 8}, {0, 4, 4, 8}, {2, 0, 4, 4}, {0, 2, 2, 4}, {1, 0, 2, 2}, {0, 1, 1, 2}}
	}
	sum := int64(0)
	for _, p := range passes {
		columns, rows := (w-p[0]+p[2]-1)/p[2], (h-p[1]+p[3]-1)/p[3]
		if columns > 0 && rows > 0 {
			sum += rows * (1 + (columns*bits+7)/8)
		}
	}
	return sum
}

// samplesPNG is how many samples a pixel of a colour type has.
func samplesPNG(colour byte) int64 {
	switch colour {
	case 2: // red, green, blue
		return 3
	case 4: // gray, alpha
		return 2
	case 6: // red, green, blue, alpha
		return 4
	}
	return 1 // gray, or an index into a palette
}

// pngData reads the data of chunks that lie one after the other.
type pngData struct {
	rest []byte // chunks
	data []byte // what is left of the one before
}

func (d *pngData) Read(p []byte) (int, error) {
	for len(d.data) == 0 {
		if len(d.rest) == 0 {
			return 0, io.EOF
		}
		end := chunkEdge + int(binary.BigEndian.Uint32(d.rest))
		d.data, d.rest = d.rest[8:end-4], d.rest[end:]
	}
	n := copy(p, d.data)
	d.data = d.data[n:]
	return n, nil
}

// repacked gives bytes as chunks of pixel data that are not compressed, and after
// them the end of a PNG, holding one chunk at a time.
type repacked struct {
	raw  io.Reader
	sum  hash.Hash32
	out  []byte
	done bool
}

func (r *repacked) Read(p []byte) (int, error) {
	if len(r.out) == 0 {
		if err := r.next(); err != nil {
			return 0, err
		}
	}
	n := copy(p, r.out)
	r.out = r.out[n:]
	return n, nil
}

// next makes the next chunk: a stored block of deflate (RFC 1951, 3.2.4), and for
// the last one its mark, the check of zlib and the end of the PNG.
func (r *repacked) next() error {
	if r.done {
		return io.EOF
	}
	const edge = 5 // mark, length, its complement
	block := make([]byte, edge+1<<15)
	n, err := io.ReadFull(r.raw, block[edge:])
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return err
	}
	block = block[:edge+n]
	binary.LittleEndian.PutUint16(block[1:], uint16(n))
	binary.LittleEndian.PutUint16(block[3:], ^uint16(n))
	r.sum.Write(block[edge:])
	if err == nil {
		r.out = pngChunk("IDAT", block)
		return nil
	}
	r.done, block[0] = true, 1
	block = binary.BigEndian.AppendUint32(block, r.sum.Sum32())
	r.out = append(pngChunk("IDAT", block), pngChunk("IEND", nil)...)
	return nil
}

func pngChunk(kind string, data []byte) []byte {
	b := binary.BigEndian.AppendUint32(make([]byte, 0, chunkEdge+len(data)), uint32(len(data)))
	b = append(append(b, kind...), data...)
	return binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(b[4:]))
}
