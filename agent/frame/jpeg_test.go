package frame

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// distance is the mean difference between the pixels of a picture, as stored at
// full scale, and those of a PNG, in levels of 255.
func distance(t *testing.T, p *Picture, png string) float64 {
	t.Helper()
	want := mustPixels(t, png)
	w, h := p.img.Bounds().Dx(), p.img.Bounds().Dy()
	if 3*w*h != len(want) {
		t.Fatalf("got %d x %d, want the %d samples of %s", w, h, len(want), png)
	}
	line, sum := make([]byte, 3*w), 0.0
	for y := range h {
		p.row(line, 0, y)
		for i, v := range line {
			sum += math.Abs(float64(v) - float64(want[i%3*w*h+y*w+i/3]))
		}
	}
	return sum / float64(len(want))
}

func mustRead(tb testing.TB, file string) []byte {
	tb.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

func TestP6_JPEGsFromTheFieldHaveThePixelsOfPIL(t *testing.T) {
	files, err := filepath.Glob("testdata/field-*.jpg")
	if err != nil || len(files) < 20 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, file := range files {
		allowed := 0.35 // levels: the rounding of another inverse DCT
		if strings.Contains(file, "mixed") || strings.Contains(file, "422-as") {
			allowed = 2 // colours are spread by another curve
		}
		got := distance(t, mustDecode(t, file), strings.TrimSuffix(file, ".jpg")+".png")
		t.Logf("%s: %.3f levels", file, got)
		if got > allowed {
			t.Errorf("%s: got a mean difference of %.2f levels, want at most %v", file, got, allowed)
		}
	}
}

func TestP6_SamplesFromTheFieldAllShowTheReference(t *testing.T) {
	dir := filepath.Join("..", "..", "..", "shared", "data", "frames")
	files, _ := filepath.Glob(filepath.Join(dir, "*.jpg"))
	if len(files) == 0 {
		t.Skip("the samples are not beside this checkout")
	}
	const r = 16
	reference := mustDecode(t, filepath.Join(dir, "reference.png"))
	want, got := make([]float32, 3*r*r), make([]float32, 3*r*r)
	s := mustScaler(t, plain)
	s.Tensor(want, reference, r)
	for _, file := range files {
		p, err := Decoder{MaxPixels: DefaultPixels, Upright: true}.Read(mustRead(t, file))
		if err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		s.Tensor(got, p, r)
		if d := levels(got, want); d > 3 && p.Width > r/2 { // the smallest sample is of 4 x 4 pixels
			t.Errorf("%s: %.2f levels from the reference", file, d)
		}
	}
}

// levels is the mean difference of two tensors of fractions, in levels of 255.
func levels(a, b []float32) (mean float64) {
	for i := range a {
		mean += 255 * math.Abs(float64(a[i])-float64(b[i])) / float64(len(a))
	}
	return mean
}

// verdicts is what Pillow says of damaged beginnings of a file and of flipped bits.
type verdicts map[string]struct {
	Least int    `json:"least"`
	Flips string `json:"flips"`
}

func mustVerdicts(t *testing.T) (v verdicts) {
	t.Helper()
	if err := json.Unmarshal(mustRead(t, "testdata/verdicts.json"), &v); err != nil {
		t.Fatal(err)
	}
	if len(v) < 30 {
		t.Fatalf("%d files", len(v))
	}
	return v
}

// cuts are the lengths to try of a file: all of a small one, each 1 % of another.
func cuts(from, to int) (all []int) {
	step := (to - from) / 100
	if to < 1200 {
		step = 1
	}
	for n := from; n < to; n += step {
		all = append(all, n)
	}
	return all
}

// Pillow wants the end, and a few bytes that a code could need. A frame without end
// is read if all its pixels are there.
func TestP2_AJPEGIsReadFromTheBytesOnFromWhichPillowReadsIt(t *testing.T) {
	for file, v := range mustVerdicts(t) {
		whole := mustRead(t, filepath.Join("testdata", file))
		least := v.Least
		if end := bytes.LastIndex(whole[:least], []byte{0xff, markEOI}); end > 0 && !strings.Contains(file, "progressive") {
			least = len(unfilled(whole[:end]))
		}
		for _, n := range append(cuts(0, least), least-2, least-1, least, least+1, len(whole)) {
			_, err := limits.Read(whole[:min(n, len(whole))])
			if want := n >= least; (err == nil) != want {
				t.Errorf("%s: %d bytes of %d: got %v, want read: %v", file, n, len(whole), err, want)
			}
		}
	}
}

func TestP2_AnEndBehindMissingDataDoesNotMakeThemWhole(t *testing.T) {
	for file := range mustVerdicts(t) {
		if strings.Contains(file, "progressive") || strings.Contains(file, "after-end") {
			continue // later scans refine the picture; and what is after the end does not count
		}
		whole := mustRead(t, filepath.Join("testdata", file))
		first := bytes.Index(whole, []byte{0xff, markSOS}) + 14
		end := len(unfilled(whole[:bytes.LastIndex(whole, []byte{0xff, markEOI})]))
		for _, n := range append(cuts(first, end-1), end-1, end-2) {
			cut := append(bytes.Clone(whole[:n]), 0xff, markEOI)
			if _, err := limits.Read(cut); err == nil {
				t.Errorf("%s: read with %d bytes of %d and an end", file, n, end)
			}
		}
	}
}

func TestP2_FlippedBitsAreReadWherePillowReadsThem(t *testing.T) {
	same, all := 0, 0
	for file, v := range mustVerdicts(t) {
		whole := mustRead(t, filepath.Join("testdata", file))
		here, tried := 0, 0
		for k := 0; k < len(v.Flips); k += flipStep {
			flipped := bytes.Clone(whole)
			flipped[2+k*7919%(len(whole)-2)] ^= 1 << (k % 8)
			_, err := limits.Read(flipped)
			if (err == nil) == (v.Flips[k] == 'y') {
				here++
			}
			tried++
		}
		t.Logf("%s: %d of %d", file, here, tried)
		same, all = same+here, all+tried
	}
	if part := float64(same) / float64(all); part < 0.97 {
		t.Errorf("%.1f %% of the verdicts are Pillow's, want 97", 100*part)
	}
}

func TestAFrameWithAnOddTrailerIsRead(t *testing.T) {
	for _, file := range []string{"pil-420.jpg", "pil-gray.jpg", "pil-cmyk.jpg", "field-scans.jpg", "field-restart.jpg",
		"pil-progressive.jpg"} {
		whole := mustRead(t, "testdata/"+file)
		body, progressive := whole[:len(whole)-2], strings.Contains(file, "progressive")
		for _, tt := range []struct {
			name, trailer string
			read          bool
		}{
			{"no end", "", !progressive},
			{"zeros for an end", strings.Repeat("\x00", 5000), !progressive},
			{"zeros after the end", "\xff\xd9" + strings.Repeat("\x00", 5000), true},
			{"a text after the end", "\xff\xd9--frame\r\nContent-Type: image/jpeg\r\n\r\n", true},
			{"fill before the end", "\xff\xff\xff\xd9", true},
			{"another frame after the end", "\xff\xd9" + string(whole), true},
		} {
			_, err := limits.Read(append(bytes.Clone(body), tt.trailer...))
			if (err == nil) != tt.read {
				t.Errorf("%s, %s: got %v, want read: %v", file, tt.name, err, tt.read)
			}
		}
	}
}

func TestAPictureThatDeclaresMoreThanItHasIsRefused(t *testing.T) {
	for _, file := range []string{"pil-420.jpg", "pil-progressive.jpg", "field-restart.jpg", "field-scans.jpg"} {
		taller := mustRead(t, "testdata/"+file)
		i := bytes.Index(taller, []byte{0xff, markSOF0})
		if i < 0 {
			i = bytes.Index(taller, []byte{0xff, markSOF2})
		}
		binary.BigEndian.PutUint16(taller[i+5:], 200)
		if _, err := limits.Read(taller); err == nil || !strings.Contains(err.Error(),
			"jpeg: part of the picture is missing") {
			t.Errorf("%s: got %v, want that part of it is missing", file, err)
		}
	}
}

// exif is a segment of EXIF in this byte order.
func exif(order binary.AppendByteOrder, mark string, kind uint16, count uint32, value uint16) []byte {
	tiff := order.AppendUint16([]byte(mark), 42)
	tiff = order.AppendUint32(tiff, 8)
	tiff = order.AppendUint16(tiff, 2)
	tiff = append(order.AppendUint16(tiff, 0x0100), make([]byte, 10)...)
	tiff = order.AppendUint16(order.AppendUint16(tiff, 0x0112), kind)
	tiff = order.AppendUint16(order.AppendUint32(tiff, count), value)
	return append(tiff, make([]byte, 6)...)
}

func TestOrientationIsOneShortOf1To8OrNone(t *testing.T) {
	for v := range uint16(12) {
		want := int(v)
		if v < 1 || v > 8 {
			want = 1
		}
		for mark, order := range map[string]binary.AppendByteOrder{"II": binary.LittleEndian, "MM": binary.BigEndian} {
			if got := orientation(exif(order, mark, 3, 1, v)); got != want {
				t.Errorf("%s, %d: got %d, want %d", mark, v, got, want)
			}
		}
	}
	sound := exif(binary.BigEndian, "MM", 3, 1, 6)
	far, loop := bytes.Clone(sound), bytes.Clone(sound)
	binary.BigEndian.PutUint32(far[4:], 1<<32-1)
	binary.BigEndian.PutUint32(loop[4:], 0)
	for name, tiff := range map[string][]byte{
		"empty": nil, "short": sound[:7], "no directory": sound[:8], "half a field": sound[:30], "far away": far,
		"at its beginning": loop,
		"long":             exif(binary.BigEndian, "MM", 4, 1, 6), "two": exif(binary.BigEndian, "MM", 3, 2, 6),
		"mixed order": exif(binary.BigEndian, "IM", 3, 1, 6),
	} {
		if got := orientation(tiff); got != 1 {
			t.Errorf("%s: got %d, want 1", name, got)
		}
	}
}

func TestPNGAndWebPMayHaveEXIFToo(t *testing.T) {
	tiff := exif(binary.BigEndian, "MM", 3, 1, 6)
	whole := mustRead(t, "testdata/pil-47x90.png")
	const header = 8 + 25 // signature and IHDR
	body := append(append(bytes.Clone(whole[:header]), chunk("eXIf", tiff)...), whole[header:]...)
	p, err := Decoder{MaxPixels: DefaultPixels, Upright: true}.Read(body)
	if err != nil || p.turn != 6 || p.Width != 90 || p.Height != 47 {
		t.Errorf("PNG: got %v, %d x %d, want 90 x 47", err, p.Width, p.Height)
	}
	if p, err := limits.Read(body); err != nil || p.turn != 1 || p.Width != 47 {
		t.Errorf("PNG as stored: got %v, %d x %d, want 47 x 90", err, p.Width, p.Height)
	}
	riff := func(size int, data string) []byte {
		b := append([]byte("RIFF\x00\x00\x00\x00WEBPICCP\x01\x00\x00\x00a\x00EXIF"), byte(size), 0, 0, 0)
		return append(b, data...)
	}
	for _, tt := range []struct {
		name string
		body []byte
		want int
	}{
		{"plain", riff(len(tiff), string(tiff)), 6},
		{"with the mark of a JPEG's", riff(len(tiff)+6, exifStart+string(tiff)), 6},
		{"cut off", riff(len(tiff), string(tiff[:20])), 1},
		{"none", riff(0, "")[:12], 1},
	} {
		if got := turnOfWebP(tt.body); got != tt.want {
			t.Errorf("WebP, %s: got %d, want %d", tt.name, got, tt.want)
		}
	}
}

// What stands behind the segment looks like the rest of the directory.
func TestEXIFIsReadWithinItsSegment(t *testing.T) {
	tiff := exif(binary.BigEndian, "MM", 3, 1, 6)
	body := []byte{0xff, markSOI, 0xff, markAPP1, 0, byte(2 + len(exifStart) + 22)}
	body = append(append(body, exifStart...), tiff...)
	body = append(body, mustRead(t, "testdata/turn-1.jpg")[2:]...)
	p, err := Decoder{MaxPixels: DefaultPixels, Upright: true}.Read(body)
	if err != nil || p.turn != 1 {
		t.Errorf("got %v, turn %d; want 1", err, p.turn)
	}
}

func TestP6_EXIFOrientationIsAppliedIfAskedFor(t *testing.T) {
	upright := Decoder{MaxPixels: DefaultPixels, Upright: true}
	const r = 16
	s := mustScaler(t, plain)
	want, got := make([]float32, 3*r*r), make([]float32, 3*r*r)
	s.Tensor(want, mustDecode(t, "testdata/turn-1.jpg"), r)
	for turn := 1; turn <= 8; turn++ {
		body := mustRead(t, fmt.Sprintf("testdata/turn-%d.jpg", turn))
		p, err := upright.Read(body)
		if err != nil {
			t.Fatal(err)
		}
		s.Tensor(got, p, r)
		if d := levels(got, want); d > 2 || p.Width != 50 || p.Height != 37 {
			t.Errorf("orientation %d: got %d x %d, %.2f levels away; want 50 x 37", turn, p.Width, p.Height, d)
		}
		stored, err := limits.Read(body)
		if err != nil || turn > 4 && stored.Width != 37 {
			t.Errorf("orientation %d, as stored: got %v, %d pixels wide", turn, err, stored.Width)
		}
	}
}

// upended is a picture turned pixel by pixel.
func upended(t *testing.T, p *Picture, turn int) *Picture {
	t.Helper()
	swapped, mirrored, upended := turned(turn)
	size := p.img.Bounds()
	w, h := size.Dx(), size.Dy()
	out := image.NewNRGBA(image.Rect(0, 0, w, h))
	if swapped {
		out = image.NewNRGBA(image.Rect(0, 0, h, w))
	}
	line := make([]byte, 3*w)
	for y := range h {
		p.row(line, 0, y)
		for x := range w {
			to := image.Pt(x, y)
			if mirrored {
				to.X = w - 1 - x
			}
			if upended {
				to.Y = h - 1 - y
			}
			if swapped {
				to.X, to.Y = to.Y, to.X
			}
			out.SetNRGBA(to.X, to.Y, color.NRGBA{line[3*x], line[3*x+1], line[3*x+2], 255})
		}
	}
	turnedPicture, err := pictureOf(out)
	if err != nil {
		t.Fatal(err)
	}
	return turnedPicture
}

func TestTurningTheAxesIsTurningThePicture(t *testing.T) {
	for _, file := range []string{"pil-61x48.png", "pil-47x90.png", "pil-32x32.png", "pil-1x40.png", "pil-420.jpg"} {
		for _, crop := range []float64{0, 0.875} {
			s := mustScaler(t, cropped(crop))
			for turn := 1; turn <= 8; turn++ {
				for _, r := range []int{24, 32, 33} {
					p := mustDecode(t, "testdata/"+file)
					want, got := make([]float32, 3*r*r), make([]float32, 3*r*r)
					s.Tensor(want, upended(t, p, turn), r)
					size := p.img.Bounds()
					p.lay(Header{Width: size.Dx(), Height: size.Dy()}, 1, turn)
					s.Tensor(got, p, r)
					for i := range want {
						if d := 255 * math.Abs(float64(got[i]-want[i])); d > 1.01 {
							t.Fatalf("%s, crop %v, r %d, orientation %d: value %d is %.1f levels off", file, crop, r, turn, i, d)
						}
					}
				}
			}
		}
	}
}

// slope is a JPEG without detail, of sides that no block divides.
func slope(t *testing.T, w, h int) []byte {
	t.Helper()
	img := image.NewRGBA(image.Rect(0, 0, w, h))
	for i := range w * h {
		x, y := i%w, i/w
		img.SetRGBA(x, y, color.RGBA{uint8(250 * x / w), uint8(250 * y / h), uint8(125 * (x + y) / (w + h)), 255})
	}
	var b bytes.Buffer
	if err := jpeg.Encode(&b, img, &jpeg.Options{Quality: 98}); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// A shrunk picture has samples that reach over its edges and over those of the
// crop. On a slope each of 8 pixels that one lies aside shows as 1 to 2 levels.
func TestAShrunkPictureGivesTheTensorOfTheWholeOne(t *testing.T) {
	body := slope(t, 203, 147)
	h, err := limits.Inspect(body, Claim{})
	if err != nil {
		t.Fatal(err)
	}
	for _, scale := range []int{2, 4, 8} {
		whole, shrunk := new(Picture), new(Picture)
		if err := errors.Join(limits.Decode(whole, body, h, 1), limits.Decode(shrunk, body, h, scale)); err != nil {
			t.Fatal(err)
		}
		for _, crop := range []float64{0, 0.875} {
			for turn := 1; turn <= 8; turn++ {
				s := mustScaler(t, cropped(crop))
				whole.lay(h, 1, turn)
				shrunk.lay(h, scale, turn)
				for _, r := range []int{4, 9, 16} {
					want, got := make([]float32, 3*r*r), make([]float32, 3*r*r)
					s.Tensor(want, whole, r)
					s.Tensor(got, shrunk, r)
					if d := levels(got, want); d > 1 {
						t.Errorf("scale %d, crop %v, orientation %d, r %d: got %.2f levels of difference", scale, crop, turn, r, d)
					}
				}
			}
		}
	}
}

// leastAllocs is how many allocations f makes in the best of some tries: those of
// whoever else is running are counted as well, and the race detector empties pools.
func leastAllocs(f func()) float64 {
	least := math.Inf(1)
	for range 10 {
		least = min(least, testing.AllocsPerRun(5, f))
	}
	return least
}

// What the decoder forces is a copy of the frame, a plane each, the picture, and two
// closures a scan.
func TestDecodingAndShrinkingAllocateNothingOfOurs(t *testing.T) {
	body := slope(t, 203, 147)
	h, err := limits.Inspect(body, Claim{})
	if err != nil {
		t.Fatal(err)
	}
	p, s, dst := new(Picture), mustScaler(t, plain), make([]float32, 3*48*48)
	if n := leastAllocs(func() { err = limits.Decode(p, body, h, 4) }); n > 8 || err != nil {
		t.Errorf("decoding: got %v allocations, %v; want at most 8", n, err)
	}
	if n := leastAllocs(func() { s.Tensor(dst, p, 24); s.Tensor(dst, p, 48) }); n != 0 {
		t.Errorf("a tensor of a shrunk picture: got %v allocations, want 0", n)
	}
}

func TestScaleKeepsSevenTimesThePixelsNeeded(t *testing.T) {
	for _, tt := range []struct {
		codec   string
		w, h, r int
		crop    float64
		want    int
	}{
		{JPEG, 640, 480, 32, 0, 2}, {JPEG, 640, 480, 28, 0, 2}, {JPEG, 1920, 1080, 32, 0, 4}, {JPEG, 1080, 1920, 32, 0, 4},
		{JPEG, 1920, 1080, 128, 0, 1}, {JPEG, 1792, 1792, 128, 0, 2}, {JPEG, 1792, 1791, 128, 0, 1},
		{JPEG, 1792, 1792, 128, 0.875, 1},
		{JPEG, 16384, 1024, 16, 0, 8}, {JPEG, 32, 32, 32, 0, 1}, {JPEG, 1, 1, 32, 0, 1}, {PNG, 4096, 4096, 32, 0, 1},
	} {
		s, h := mustScaler(t, cropped(tt.crop)), Header{Codec: tt.codec, Width: tt.w, Height: tt.h}
		if got := s.Scale(h, tt.r); got != tt.want {
			t.Errorf("%+v: got %d", tt, got)
		}
	}
}

func TestAPictureIsFilledAgainWithNothingOfTheOneBefore(t *testing.T) {
	p := new(Picture)
	files := []string{"pil-420.jpg", "pil-progressive.jpg", "field-gray-22.jpg", "pil-cmyk.jpg", "field-restart.jpg",
		"pil-rgb.jpg", "pil-61x48.png", "field-4x4.jpg"}
	for i, file := range append(files, files...) {
		body := mustRead(t, "testdata/"+file)
		h, err := limits.Inspect(body, Claim{})
		if err != nil {
			t.Fatal(err)
		}
		scale := 1 << (i % 4)
		if err := limits.Decode(p, body[:len(body)*3/4], h, scale); err == nil {
			t.Errorf("%s: three quarters of it were read", file)
		}
		fresh := new(Picture)
		if err := errors.Join(limits.Decode(p, body, h, scale), limits.Decode(fresh, body, h, scale)); err != nil {
			t.Fatal(err)
		}
		clear(body) // which must not matter any more
		const r = 16
		got, want := make([]float32, 3*r*r), make([]float32, 3*r*r)
		mustScaler(t, plain).Tensor(got, p, r)
		mustScaler(t, plain).Tensor(want, fresh, r)
		if !slices.Equal(got, want) {
			t.Errorf("%s after others at 1/%d: got %.2f levels of difference", file, scale, levels(got, want))
		}
	}
}

// The library reads the chroma of this picture past its end. We refuse it by its
// header; here it gets through, as another one might.
func TestAPanicOfTheDecoderIsAnErrorAndLeavesNothingBehind(t *testing.T) {
	inked := mustRead(t, "testdata/panics.jpg")
	if _, err := limits.Read(inked); !errors.Is(err, ErrUnsupported) {
		t.Errorf("got %v, want %v", err, ErrUnsupported)
	}
	want := mustDecode(t, "testdata/field-no-dht.jpg") // leans on tables that were not touched
	for range 10 {
		var s stream
		s.part(inked)
		if _, err := s.pixels(1); err == nil || !strings.Contains(err.Error(), "gave up") {
			t.Fatalf("got %v, want a panic", err)
		}
		got := mustDecode(t, "testdata/field-no-dht.jpg")
		if !reflect.DeepEqual(got.img, want.img) {
			t.Fatal("a picture differs after a panic")
		}
	}
}

func TestMissingDataAreFoundBeforeThereIsMemoryForThePicture(t *testing.T) {
	for _, file := range []string{"pil-420.jpg", "pil-progressive.jpg", "field-scans.jpg"} {
		large := mustRead(t, "testdata/"+file)
		i := max(bytes.Index(large, []byte{0xff, markSOF0, 0, 17}), bytes.Index(large, []byte{0xff, markSOF2, 0, 17}))
		copy(large[i+5:], "\x10\x00\x10\x00")
		var err error
		n := allocated(func() { _, err = limits.Read(large) })
		if err == nil || n > 1<<20 {
			t.Errorf("%s as 4096 x 4096: got %v, %d bytes allocated", file, err, n)
		}
	}
}

func TestP18_JPEGsOfOddSizesAreReadAtEveryScale(t *testing.T) {
	for _, tt := range []struct{ w, h int }{{1, 1}, {1, 2}, {2, 1}, {7, 9}, {9, 8}, {16384, 1}, {1, 16384}, {3, 1000},
		{4097, 5}} {
		body := slope(t, tt.w, tt.h)
		h, err := limits.Inspect(body, Claim{})
		if err != nil {
			t.Fatal(err)
		}
		img, err := jpeg.Decode(bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		reference, err := pictureOf(img)
		if err != nil {
			t.Fatal(err)
		}
		for _, scale := range []int{1, 2, 4, 8} {
			p := new(Picture)
			if err := limits.Decode(p, body, h, scale); err != nil {
				t.Errorf("%v at 1/%d: %v", tt, scale, err)
				continue
			}
			const r = 33
			got, want := make([]float32, 3*r*r), make([]float32, 3*r*r)
			mustScaler(t, plain).Tensor(got, p, r)
			mustScaler(t, plain).Tensor(want, reference, r)
			if d := levels(got, want); scale == 1 && d > 1 || math.IsNaN(d) || slices.Min(got) < 0 || slices.Max(got) > 1 {
				t.Errorf("%v at 1/%d: got %.1f levels of difference", tt, scale, d)
			}
		}
	}
	for _, size := range [][2]uint16{{1, 65535}, {65535, 1}, {0, 8}, {8, 0}} {
		if _, err := limits.Inspect(jpegOf(markSOF0, 8, size[0], size[1]), Claim{}); err == nil {
			t.Errorf("%v: accepted", size)
		}
	}
}

func FuzzOrientation(f *testing.F) {
	f.Add(exif(binary.BigEndian, "MM", 3, 1, 6))
	f.Add(exif(binary.LittleEndian, "II", 3, 1, 8))
	f.Fuzz(func(t *testing.T, tiff []byte) {
		if v := orientation(tiff); v < 1 || v > 8 {
			t.Errorf("got %d", v)
		}
		for _, turn := range []int{turnOfPNG(tiff), turnOfWebP(tiff)} {
			if turn < 1 || turn > 8 {
				t.Errorf("got %d", turn)
			}
		}
	})
}

// FuzzJPEG decodes whatever the header lets through at every scale.
func FuzzJPEG(f *testing.F) {
	files, err := filepath.Glob("testdata/*.jpg")
	if err != nil || len(files) == 0 {
		f.Fatal(len(files), err)
	}
	for _, file := range files {
		f.Add(mustRead(f, file))
	}
	s := mustScaler(f, plain)
	small := Decoder{MaxPixels: 1 << 16, Upright: true}
	dst := make([]float32, 3*12*12)
	p := new(Picture)
	f.Fuzz(func(t *testing.T, body []byte) {
		h, err := small.Inspect(body, Claim{Codec: JPEG})
		if err != nil {
			return
		}
		for _, scale := range []int{1, 2, 4, 8} {
			if err := small.Decode(p, body, h, scale); err != nil {
				if strings.Contains(err.Error(), "gave up") {
					t.Fatal(err)
				}
				continue
			}
			s.Tensor(dst, p, 12)
		}
	})
}
