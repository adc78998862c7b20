package frame

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"image"
	"image/gif"
	"image/jpeg"
	"image/png"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

var limits = Decoder{MaxPixels: DefaultPixels}

// chunk is a chunk of a PNG.
func chunk(kind string, data []byte) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(len(data)))
	b = append(append(b, kind...), data...)
	return binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(b[4:]))
}

// pngOf is a PNG that declares w x h pixels of RGB and has none.
func pngOf(w, h uint32) []byte {
	header := binary.BigEndian.AppendUint32(nil, w)
	header = binary.BigEndian.AppendUint32(header, h)
	header = append(header, 8, 2, 0, 0, 0)
	b := append([]byte("\x89PNG\r\n\x1a\n"), chunk("IHDR", header)...)
	b = append(b, chunk("IDAT", []byte{0x78, 0x9c})...)
	return append(b, chunk("IEND", nil)...)
}

// jpegOf is a JPEG that declares w x h pixels with this frame marker and
// precision, and has none.
func jpegOf(marker, bits byte, w, h uint16) []byte {
	b := []byte{0xff, 0xd8, 0xff, marker, 0, 17, bits}
	b = binary.BigEndian.AppendUint16(b, h)
	b = binary.BigEndian.AppendUint16(b, w)
	b = append(b, 3, 1, 0x11, 0, 2, 0x11, 0, 3, 0x11, 0)
	return append(b, 0xff, 0xda, 0, 12, 3, 1, 0, 2, 0, 3, 0, 0, 63, 0, 0xff, 0xd9)
}

// allocated is how many bytes f takes from the heap, freed or not.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

func TestP1_WhatIsNoPictureIsRefused(t *testing.T) {
	for _, tt := range []struct{ name, body, want string }{
		{"empty", "", "the frame is empty"},
		{"one byte", "\xff", "neither JPEG, PNG nor WebP"},
		{"start of a JPEG", "\xff\xd8\xff", "jpeg: the frame ends too early"},
		{"start of a PNG", "\x89PNG\r\n\x1a\n", "png: the frame ends too early"},
		{"start of a WebP", "RIFF\x24\x00\x00\x00WEBP", "webp: the frame ends too early"},
		{"random", "\x17\x2a\xfe random \x00 bytes", "neither JPEG, PNG nor WebP"},
		{"JPEG start, then random", "\xff\xd8\xff\xe0\x00\x04abXYZ", "jpeg: "},
		{"PNG start, then random", "\x89PNG\r\n\x1a\n\x00\x00\x00\x0dIHDRrandom bytes follow", "png: "},
		{"GIF", "GIF89a\x01\x00\x01\x00", "neither JPEG, PNG nor WebP"},
		{"P8 SVG", "<svg xmlns=", "neither JPEG, PNG nor WebP"},
		{"P8 TIFF", "II*\x00", "neither JPEG, PNG nor WebP"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, err := limits.Read([]byte(tt.body))
			if p != nil || err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, %v; want ...%s...", p, err, tt.want)
			}
		})
	}
}

func TestP2_ATruncatedPictureIsRefused(t *testing.T) {
	files, err := filepath.Glob("testdata/pil-*.jpg")
	if err != nil || len(files) == 0 {
		t.Fatalf("%d pictures, %v", len(files), err)
	}
	for _, file := range append(files, "testdata/pil-lossy.webp", "testdata/pil-lossless.webp",
		"testdata/pil-alpha.webp") {
		whole, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for percent := range 100 {
			if _, err := limits.Read(whole[:len(whole)*percent/100]); err == nil {
				t.Errorf("%s: %d %% of it were accepted", file, percent)
			}
		}
		least := 3 // of two bytes only the end is missing, and all pixels are there
		if filepath.Ext(file) == ".png" || strings.Contains(file, "progressive") {
			least = 1
		}
		for missing := least; missing <= 16; missing++ {
			if _, err := limits.Read(whole[:len(whole)-missing]); err == nil {
				t.Errorf("%s: accepted without its last %d bytes", file, missing)
			}
		}
	}
}

func TestP3_ABombIsRefusedByItsHeader(t *testing.T) {
	for _, tt := range []struct {
		name string
		body []byte
		want string
	}{
		{"PNG 65535 x 65535", pngOf(65535, 65535), "no side may be over 16384"},
		{"PNG 16384 x 16384", pngOf(16384, 16384), "more than 16777216"},
		{"PNG one line over the limit", pngOf(4096, 4097), "more than 16777216"},
		{"JPEG 65535 x 65535", jpegOf(0xc0, 8, 65535, 65535), "no side may be over 16384"},
		{"JPEG 5000 x 5000", jpegOf(0xc0, 8, 5000, 5000), "more than 16777216"},
		{"progressive JPEG 65535 x 65535", jpegOf(0xc2, 8, 65535, 65535), "no side may be over 16384"},
		{"GIF of 34 bytes", []byte("GIF89a\xff\xff\xff\xff\x00\x00\x00,\x00\x00\x00\x00\xff\xff\xff\xff\x00\x02\x02D\x01\x00;        "), "neither JPEG, PNG nor WebP"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var err error
			n := allocated(func() { _, err = limits.Read(tt.body) })
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want ...%s...", err, tt.want)
			}
			if n > 5<<20 {
				t.Errorf("%d bytes were allocated, want under 5 MB", n)
			}
		})
	}
}

func TestP4_DimensionsThatOverflowAreRefused(t *testing.T) {
	for _, side := range [][2]uint32{
		{math.MaxInt32, math.MaxInt32}, {math.MaxUint32, math.MaxUint32}, {math.MaxInt32, 1}, {1, math.MaxInt32},
		{1 << 31, 1 << 31}, {0x20000000, 0x20000000}, {0, 0}, {0, 1}, {1, 0},
	} {
		var err error
		n := allocated(func() { _, err = limits.Read(pngOf(side[0], side[1])) })
		if err == nil || n > 5<<20 {
			t.Errorf("%v: got %v and %d bytes allocated, want an error under 5 MB", side, err, n)
		}
	}
}

func TestP5_OfAnAnimationTheDefaultImageIsTaken(t *testing.T) {
	still, err := os.ReadFile("testdata/pil-32x32.png")
	if err != nil {
		t.Fatal(err)
	}
	const header = 8 + 25 // signature and IHDR
	animated := bytes.Clone(still[:header])
	animated = append(animated, chunk("acTL", []byte{0, 0, 0x27, 0x10, 0, 0, 0, 0})...)
	animated = append(animated, chunk("fcTL", make([]byte, 26))...)
	animated = append(animated, still[header:len(still)-12]...)
	for range 10_000 {
		animated = append(animated, chunk("fdAT", []byte{0, 0, 0, 1, 0x78, 0x9c})...)
	}
	animated = append(animated, chunk("IEND", nil)...)
	p, err := limits.Read(animated)
	if err != nil {
		t.Fatal(err)
	}
	got, want := make([]float32, 3*32*32), make([]float32, 3*32*32)
	mustScaler(t, plain).Tensor(got, p, 32)
	mustScaler(t, plain).Tensor(want, mustDecode(t, "testdata/pil-32x32.png"), 32)
	for i := range want {
		if got[i] != want[i] {
			t.Fatalf("value %d: got %v, want %v", i, got[i], want[i])
		}
	}
}

func TestP6_JPEGVariantsHaveThePixelsOfPIL(t *testing.T) {
	for _, tt := range []struct {
		kind string
		mean float64 // allowed mean difference, in levels of 255
	}{
		{"444", 0.3}, {"422", 0.3}, {"420", 0.3}, {"progressive", 0.3}, {"exif6", 0.3}, {"gray", 0.1}, {"rgb", 0.1},
		{"cmyk", 0.1},
	} {
		t.Run(tt.kind, func(t *testing.T) {
			want := mustPixels(t, "testdata/pil-"+tt.kind+".png")
			p := mustDecode(t, "testdata/pil-"+tt.kind+".jpg")
			if p.Width != 75 || p.Height != 53 {
				t.Fatalf("got %d x %d, want 75 x 53", p.Width, p.Height)
			}
			line, sum := make([]byte, 3*p.Width), 0.0
			for i := range want {
				c, y, x := i/(75*53), i/75%53, i%75
				p.row(line, 0, y)
				sum += math.Abs(float64(line[3*x+c]) - float64(want[i]))
			}
			if mean := sum / float64(len(want)); mean > tt.mean {
				t.Errorf("got a mean difference of %.2f levels, want at most %v", mean, tt.mean)
			}
		})
	}
}

func TestP6_VariantsThatAreNotReadAreUnsupported(t *testing.T) {
	for name, body := range map[string][]byte{
		"12 bits":    jpegOf(0xc1, 12, 8, 8),
		"lossless":   jpegOf(0xc3, 8, 8, 8),
		"arithmetic": jpegOf(0xc9, 8, 8, 8),
	} {
		if _, err := limits.Read(body); !errors.Is(err, ErrUnsupported) {
			t.Errorf("%s: got %v, want %v", name, err, ErrUnsupported)
		}
	}
}

func TestP7_TheFirstBytesDecideAndALieIsRefused(t *testing.T) {
	var gifBytes bytes.Buffer
	if err := gif.Encode(&gifBytes, image.NewGray(image.Rect(0, 0, 2, 2)), nil); err != nil {
		t.Fatal(err)
	}
	var jpegBytes, pngBytes bytes.Buffer
	if err := errors.Join(
		jpeg.Encode(&jpegBytes, image.NewGray(image.Rect(0, 0, 8, 8)), nil),
		png.Encode(&pngBytes, image.NewGray(image.Rect(0, 0, 8, 8))),
	); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		body  []byte
		codec string
		want  string
	}{
		{jpegBytes.Bytes(), "", ""}, {jpegBytes.Bytes(), JPEG, ""}, {pngBytes.Bytes(), "", ""}, {pngBytes.Bytes(), PNG, ""},
		{jpegBytes.Bytes(), PNG, `declared as "png", but the bytes are jpeg`},
		{pngBytes.Bytes(), JPEG, `declared as "jpeg", but the bytes are png`},
		{pngBytes.Bytes(), "gif", `declared as "gif"`},
		{jpegBytes.Bytes(), WebP, `declared as "webp", but the bytes are jpeg`},
		{gifBytes.Bytes(), PNG, "neither JPEG, PNG nor WebP"},
	} {
		_, err := limits.Inspect(tt.body, Claim{Codec: tt.codec})
		if (err == nil) != (tt.want == "") || (err != nil && !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%q as %q: got %v, want %q", tt.body[:4], tt.codec, err, tt.want)
		}
	}
}

func TestP18_OddSizesAreHandledOrRefused(t *testing.T) {
	for _, tt := range []struct {
		w, h int
		want string
	}{
		{1, 1, ""}, {1, 2, ""}, {16384, 1, ""}, {1, 16384, ""}, {16384, 128, ""}, {3, 1000, ""},
		{1, 65535, "no side may be over 16384"}, {65535, 1, "no side may be over 16384"},
	} {
		var b bytes.Buffer
		if err := png.Encode(&b, image.NewGray(image.Rect(0, 0, tt.w, tt.h))); err != nil {
			t.Fatal(err)
		}
		p, err := limits.Read(b.Bytes())
		if (err == nil) != (tt.want == "") || (err != nil && !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%d x %d: got %v, want %q", tt.w, tt.h, err, tt.want)
		}
		if err != nil {
			continue
		}
		for _, crop := range []float64{0, 0.875} {
			dst := []float32{2: 7, 3*33*33 - 1: 7}
			mustScaler(t, cropped(crop)).Tensor(dst, p, 33)
			for i, v := range dst {
				if v != 0 {
					t.Errorf("%d x %d, crop %v: value %d of a black picture is %v", tt.w, tt.h, crop, i, v)
					break
				}
			}
		}
	}
}

func TestAJPEGOfManyScansIsRefused(t *testing.T) {
	whole, err := os.ReadFile("testdata/pil-progressive.jpg")
	if err != nil {
		t.Fatal(err)
	}
	scan := bytes.LastIndex(whole, []byte{0xff, 0xc4})
	next := len(whole) - 2
	many := append(bytes.Clone(whole[:next]), bytes.Repeat(whole[scan:next], 200)...)
	if _, err := limits.Read(append(many, whole[next:]...)); err == nil || !strings.Contains(err.Error(),
		"more than 100 scans") {
		t.Errorf("got %v, want a refusal for its scans", err)
	}
}

func FuzzDecode(f *testing.F) {
	for _, file := range []string{"pil-420.jpg", "pil-progressive.jpg", "pil-cmyk.jpg", "pil-gray.jpg", "pil-1x40.png",
		"pil-32x32-none-24.png",
		"pil-lossy.webp", "pil-lossless.webp", "pil-alpha.webp", "odd-extra-row.png", "odd-no-iend.png"} {
		b, err := os.ReadFile(filepath.Join("testdata", file))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add(pngOf(65535, 65535))
	f.Add(jpegOf(0xc2, 8, 64, 64))
	s := mustScaler(f, plain)
	small := Decoder{MaxPixels: 1 << 16}
	dst := make([]float32, 3*16*16)
	f.Fuzz(func(t *testing.T, body []byte) {
		p, err := small.Read(body)
		if err != nil {
			return
		}
		if p.Width < 1 || p.Height < 1 || p.Width*p.Height > small.MaxPixels {
			t.Fatalf("a picture of %d x %d", p.Width, p.Height)
		}
		s.Tensor(dst, p, 16)
		for i, v := range dst {
			if !(v >= 0 && v <= 1) {
				t.Fatalf("value %d is %v", i, v)
			}
		}
	})
}
