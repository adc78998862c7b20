package frame

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
)

// riffOf is a WebP of these chunks.
func riffOf(chunks ...[]byte) []byte {
	all := slices.Concat(chunks...)
	b := binary.LittleEndian.AppendUint32([]byte("RIFF"), uint32(4+len(all)))
	return append(append(b, "WEBP"...), all...)
}

func riffChunk(kind string, data ...byte) []byte {
	b := append(binary.LittleEndian.AppendUint32([]byte(kind), uint32(len(data))), data...)
	return append(b, make([]byte, len(data)%2)...)
}

// canvasOf is VP8X of a size.
func canvasOf(flags byte, w, h int) []byte {
	w, h = w-1, h-1
	return riffChunk(vp8xChunk, flags, 0, 0, 0, byte(w), byte(w>>8), byte(w>>16), byte(h), byte(h>>8), byte(h>>16))
}

// lossyOf and losslessOf declare w x h pixels and have none.
func lossyOf(w, h int) []byte {
	return riffChunk(vp8Chunk, 0x10, 0, 0, 0x9d, 1, 0x2a, byte(w), byte(w>>8), byte(h), byte(h>>8))
}

func losslessOf(w, h int) []byte {
	bits := uint32(w-1) | uint32(h-1)<<14
	return riffChunk(vp8lChunk, binary.LittleEndian.AppendUint32([]byte{0x2f}, bits)...)
}

// chunksOf are the chunks of a WebP file.
func chunksOf(t *testing.T, file string) (chunks [][]byte) {
	t.Helper()
	for rest := mustRead(t, file)[12:]; len(rest) > 0; {
		kind, data, after, err := nextChunk(rest)
		if err != nil {
			t.Fatal(err)
		}
		chunks, rest = append(chunks, riffChunk(kind, data...)), after
	}
	return chunks
}

func TestP6_WebPHasThePixelsOfPIL(t *testing.T) {
	for _, kind := range []string{"lossy", "lossless", "alpha", "extras"} {
		checkSame(t, kind, mustRead(t, "testdata/pil-"+kind+".webp"), mustDecode(t, "testdata/pil-webp-"+kind+".png"))
	}
}

func TestP6_WebPIsReadWhateverLiesAroundItsPixels(t *testing.T) {
	want := mustDecode(t, "testdata/pil-webp-lossy.png")
	lossy := chunksOf(t, "testdata/pil-lossy.webp")[0]
	for name, body := range map[string][]byte{
		"bytes after the file":     append(riffOf(lossy), "more"...),
		"a chunk after the pixels": riffOf(lossy, riffChunk("EXIF", 1, 2, 3)),
		"a cut chunk after them":   riffOf(lossy, []byte("EXIF\xff\xff\xff\xff")),
		"an unknown chunk":         riffOf(canvasOf(0, 75, 53), riffChunk("abcd", 1, 2, 3), lossy),
		"damaged alpha":            riffOf(canvasOf(1<<4, 75, 53), riffChunk("ALPH", 0xff), lossy),
		"no alpha, though said":    riffOf(canvasOf(1<<4, 75, 53), lossy),
	} {
		checkSame(t, name, body, want)
	}
}

func TestP6_ABrokenWebPIsRefused(t *testing.T) {
	lossy := chunksOf(t, "testdata/pil-lossy.webp")[0]
	for _, tt := range []struct {
		name string
		body []byte
		want string
	}{
		{"no chunk", riffOf(), "webp: the file has no picture"},
		{"size of nothing", []byte("RIFF\x00\x00\x00\x00WEBP"), "webp: the file has no picture"},
		{"half a chunk head", riffOf([]byte("VP8 \x01")), "webp: the frame ends too early"},
		{"chunk past the end", riffOf([]byte("VP8 \xff\xff\xff\xff")), "webp: the frame ends too early"},
		{"file past the end", riffOf(lossy)[:1000], "webp: the frame ends too early"},
		{"pixels cut within the file", riffOf(riffChunk(vp8Chunk, lossy[8:500]...)), "webp: the frame ends too early"},
		{"no head of pixels", riffOf(riffChunk(vp8Chunk, 0x10, 0, 0)), "webp: the frame ends too early"},
		{"no head of lossless pixels", riffOf(riffChunk(vp8lChunk, 0x2f)), "webp: the frame ends too early"},
		{"no key frame", riffOf(riffChunk(vp8Chunk, append([]byte{0x11}, lossy[9:]...)...)),
			"a difference to an earlier one"},
		{"profile 4", riffOf(riffChunk(vp8Chunk, append([]byte{0x18}, lossy[9:]...)...)), "unknown profile"},
		{"no start code", riffOf(riffChunk(vp8Chunk, 0x10, 0, 0, 1, 2, 3, 8, 0, 8, 0)), "no start code"},
		{"version of lossless", riffOf(riffChunk(vp8lChunk, 0x2f, 0, 0, 0, 0x20)), "unknown version"},
		{"VP8X of 9 bytes", riffOf(riffChunk(vp8xChunk, make([]byte, 9)...), lossy), "VP8X of 9 bytes"},
		{"VP8X twice", riffOf(canvasOf(0, 75, 53), canvasOf(0, 75, 53), lossy), "twice"},
		{"begins with something else", riffOf(riffChunk("EXIF"), lossy), "begins with the chunk"},
		{"canvas without a picture", riffOf(canvasOf(0, 75, 53), riffChunk("EXIF")), "the file has no picture"},
	} {
		p, err := limits.Read(tt.body)
		if p != nil || err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want ...%s...", tt.name, err, tt.want)
		}
	}
}

func TestP3_AWebPIsJudgedByThePictureNotByTheCanvas(t *testing.T) {
	for _, tt := range []struct {
		name string
		body []byte
		want string
	}{
		{"lossy 16383 x 16383", riffOf(lossyOf(16383, 16383)), "more than 16777216"},
		{"lossless 16384 x 16384", riffOf(losslessOf(16384, 16384)), "more than 16777216"},
		{"lossy behind a canvas of 1 x 1", riffOf(canvasOf(0, 1, 1), lossyOf(16383, 16383)),
			"the canvas is 1 x 1 pixels, the picture 16383 x 16383"},
		{"lossless behind a canvas of 1 x 1", riffOf(canvasOf(0, 1, 1), losslessOf(16383, 16383)),
			"the canvas is 1 x 1 pixels, the picture 16383 x 16383"},
		{"alpha of 16777216 x 16777216", riffOf(canvasOf(1<<4, 1<<24, 1<<24), riffChunk("ALPH", 0), lossyOf(8, 8)),
			"the canvas is 16777216 x 16777216"},
		{"lossy 0 x 0", riffOf(lossyOf(0, 0)), "0 x 0 pixels are none"},
	} {
		var err error
		n := allocated(func() { _, err = limits.Read(tt.body) })
		if err == nil || !strings.Contains(err.Error(), tt.want) || n > 1<<20 {
			t.Errorf("%s: got %v and %d bytes allocated, want ...%s... under 1 MiB", tt.name, err, n, tt.want)
		}
	}
}

// One pixel may name 65536 Huffman codes, which took 170 MiB in older releases of
// the library.
func TestP3_ALosslessWebPOfOnePixelIsCheap(t *testing.T) {
	w := bits{}
	w.put(0x2f, 8)
	w.put(0, 14+14+1+3) // 1 x 1 pixel
	w.put(0, 1)         // no transform
	w.put(0, 1)         // no colour cache
	w.put(1, 1)         // several groups of codes
	w.put(0, 3)         // a tile is 4 x 4
	w.put(0, 1)         // the tiles' picture has no colour cache
	for _, symbol := range []uint64{255, 255, 0, 0, 0} {
		w.put(1, 1)      // a simple code
		w.put(0, 1)      // of one symbol
		w.put(1, 1)      // of 8 bits
		w.put(symbol, 8) // green and red are the group's number
	}
	var err error
	n := allocated(func() { _, err = limits.Read(riffOf(riffChunk(vp8lChunk, w.bytes()...))) })
	if want := "too many Huffman trees"; err == nil || !strings.Contains(err.Error(), want) || n > 2<<20 {
		t.Errorf("got %v and %d bytes allocated, want ...%s under 2 MiB", err, n, want)
	}
}

// bits is a stream of bits, the lowest of a byte first.
type bits struct {
	out  []byte
	used int
}

func (b *bits) put(v uint64, n int) {
	for i := range n {
		if b.used%8 == 0 {
			b.out = append(b.out, 0)
		}
		b.out[b.used/8] |= byte(v>>i&1) << (b.used % 8)
		b.used++
	}
}

func (b *bits) bytes() []byte { return b.out }

func TestP5_AnAnimatedWebPIsUnsupported(t *testing.T) {
	whole := mustRead(t, "testdata/pil-animated.webp")
	many := [][]byte{canvasOf(0, 75, 53)} // which does not own up to it
	for range 10_000 {
		many = append(many, riffChunk("ANMF", make([]byte, 16)...))
	}
	for name, body := range map[string][]byte{"as written": whole, "10,000 pictures": riffOf(many...)} {
		var err error
		n := allocated(func() { _, err = limits.Inspect(body, Claim{}) })
		if !errors.Is(err, ErrUnsupported) || !strings.Contains(err.Error(), "animation") || n > 1<<20 {
			t.Errorf("%s: got %v and %d bytes allocated, want %v under 1 MiB", name, err, n, ErrUnsupported)
		}
	}
}

func TestP18_AWebPOfOddSizesIsHandledOrRefused(t *testing.T) {
	if _, err := limits.Read(riffOf(losslessOf(16384, 1))); err == nil || strings.Contains(err.Error(), "side") {
		t.Errorf("16384 x 1: got %v, want an error of its missing pixels", err)
	}
	h, err := limits.Inspect(riffOf(lossyOf(1, 16383)), Claim{Codec: WebP})
	if want := (Header{Codec: WebP, Width: 1, Height: 16383, Bytes: 30}); err != nil || h != want {
		t.Errorf("1 x 16383: got %+v, %v; want %+v", h, err, want)
	}
}

// A part of a line must not depend on where it begins.
func TestALineOfAWebPMayBeginAnywhere(t *testing.T) {
	p := mustDecode(t, "testdata/pil-lossy.webp")
	whole, part := make([]byte, 3*p.Width), make([]byte, 3*p.Width)
	for y := range p.Height {
		p.row(whole, 0, y)
		for from := range p.Width {
			p.row(part[:3*(p.Width-from)], from, y)
			if !bytes.Equal(part[:3*(p.Width-from)], whole[3*from:]) {
				t.Fatalf("line %d: pixels from %d on differ from those of the whole line", y, from)
			}
		}
	}
}

func FuzzWebP(f *testing.F) {
	for _, name := range []string{"pil-lossy.webp", "pil-lossless.webp", "pil-alpha.webp", "pil-extras.webp",
		"pil-animated.webp"} {
		b, err := os.ReadFile("testdata/" + name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b[12:])
	}
	f.Add(append(canvasOf(0, 1, 1), losslessOf(16383, 16383)...))
	f.Add(lossyOf(16383, 16383))
	small := Decoder{MaxPixels: 1 << 14}
	f.Fuzz(func(t *testing.T, chunks []byte) {
		body := riffOf(chunks)
		h, err := small.Inspect(body, Claim{Codec: WebP})
		if err != nil {
			return
		}
		p := new(Picture)
		switch err := small.Decode(p, body, h, 1); {
		case err != nil && strings.Contains(err.Error(), "gave up"):
			t.Fatal(err)
		case err == nil && (p.Width != h.Width || p.Height != h.Height || h.Pixels() > small.MaxPixels):
			t.Fatalf("declared as %d x %d, decoded as %d x %d", h.Width, h.Height, p.Width, p.Height)
		case err == nil:
			p.row(make([]byte, 3*p.Width), 0, p.Height-1)
		}
	})
}
