package frame

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"errors"
	"image"
	"image/png"
	"os"
	"slices"
	"strings"
	"testing"
)

// pngParts is a PNG cut into its chunks.
func pngParts(t *testing.T, body []byte) [][]byte {
	t.Helper()
	var parts [][]byte
	for rest := body[len(pngMagic):]; len(rest) > 0; {
		end := chunkEdge + int(binary.BigEndian.Uint32(rest))
		parts = append(parts, rest[:end])
		rest = rest[end:]
	}
	return parts
}

// unpacked is the pixel data of a PNG.
func unpacked(t *testing.T, parts [][]byte) []byte {
	t.Helper()
	var packed []byte
	for _, p := range parts {
		if string(p[4:8]) == "IDAT" {
			packed = append(packed, p[8:len(p)-4]...)
		}
	}
	z, err := zlib.NewReader(bytes.NewReader(packed))
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if _, err := b.ReadFrom(z); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// repack is a PNG with this header chunk and pixel data, which ends with it.
func repack(header, pixels []byte) []byte {
	var packed bytes.Buffer
	z := zlib.NewWriter(&packed)
	z.Write(pixels)
	z.Close()
	return slices.Concat([]byte(pngMagic), header, pngChunk("IDAT", packed.Bytes()))
}

// checkSame fails where a frame has not the pixels of another.
func checkSame(t *testing.T, name string, got []byte, want *Picture) {
	t.Helper()
	p, err := limits.Read(got)
	if err != nil {
		t.Errorf("%s: %v", name, err)
		return
	}
	if p.Width != want.Width || p.Height != want.Height {
		t.Fatalf("%s: got %d x %d, want %d x %d", name, p.Width, p.Height, want.Width, want.Height)
	}
	a, b := make([]byte, 3*p.Width), make([]byte, 3*p.Width)
	for y := range p.Height {
		p.row(a, 0, y)
		want.row(b, 0, y)
		if !bytes.Equal(a, b) {
			t.Errorf("%s: line %d: got %v, want %v", name, y, a, b)
			return
		}
	}
}

func TestP6_APNGIsReadWhateverFollowsItsPixels(t *testing.T) {
	want := mustDecode(t, "testdata/pil-444.png")
	for _, name := range []string{"extra-row", "extra-byte", "no-iend"} {
		checkSame(t, name, mustRead(t, "testdata/odd-"+name+".png"), want)
	}
	whole := mustRead(t, "testdata/pil-444.png")
	for missing := range chunkEdge + 1 {
		checkSame(t, "cut in its end", whole[:len(whole)-missing], want)
	}
	for name, after := range map[string][]byte{
		"a cut chunk":      pngChunk("tEXt", []byte("comment"))[:15],
		"a damaged chunk":  append(pngChunk("tEXt", nil)[:8], 1, 2, 3, 4),
		"an endless chunk": []byte("\xff\xff\xff\xfftEXt12345678"),
		"random bytes":     []byte("no chunk at all"),
		"a second picture": whole,
	} {
		checkSame(t, name, slices.Concat(whole[:len(whole)-chunkEdge], after), want)
	}
}

func TestP6_TheSharedSamplesOfPNGShowTheReference(t *testing.T) {
	const folder = "../../../shared/data/frames/"
	if _, err := os.Stat(folder); err != nil {
		t.Skipf("the samples are not here: %v", err)
	}
	want := mustDecode(t, folder+"reference.png")
	for _, name := range []string{"extra-row.png", "no-iend.png"} {
		checkSame(t, name, mustRead(t, folder+name), want)
	}
}

// The surplus of every kind of pixels, as the length of a row depends on it.
func TestP6_SurplusDataOfEveryKindOfPNGIsPassedOver(t *testing.T) {
	for name, img := range pictures(13, 11) {
		var b bytes.Buffer
		if err := png.Encode(&b, img); err != nil {
			t.Fatal(err)
		}
		want, err := limits.Read(b.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		parts := pngParts(t, b.Bytes())
		var head []byte
		for _, p := range parts[:slices.IndexFunc(parts, func(p []byte) bool { return string(p[4:8]) == "IDAT" })] {
			head = append(head, p...)
		}
		checkSame(t, name, repack(head, append(unpacked(t, parts), make([]byte, 17)...)), want)
	}
}

// No encoder here interlaces; of one colour, the passes need no sorting.
func TestP6_SurplusDataOfAnInterlacedPNGIsPassedOver(t *testing.T) {
	for w := uint32(1); w <= 9; w++ {
		for h := uint32(1); h <= 9; h++ {
			header := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, w), h)
			header = append(header, 8, 2, 0, 0, 1)
			pixels := make([]byte, rawPNG(header))
			want, err := limits.Read(repack(pngChunk("IHDR", header), pixels))
			if err != nil {
				t.Fatalf("%d x %d: %v", w, h, err)
			}
			checkSame(t, "interlaced", repack(pngChunk("IHDR", header), append(pixels, make([]byte, 40)...)), want)
			if _, err := limits.Read(repack(pngChunk("IHDR", header), pixels[1:])); err == nil {
				t.Errorf("%d x %d: accepted with a byte too few", w, h)
			}
		}
	}
}

func TestP2_APNGWithoutAllItsPixelsIsRefused(t *testing.T) {
	whole := mustRead(t, "testdata/pil-444.png")
	for n := range len(whole) - chunkEdge {
		if _, err := limits.Read(whole[:n]); err == nil {
			t.Errorf("accepted with %d of %d bytes", n, len(whole))
		}
	}
	parts := pngParts(t, whole)
	pixels := unpacked(t, parts)
	for _, missing := range []int{1, 3*75 + 1, len(pixels)} {
		if _, err := limits.Read(repack(parts[0], pixels[:len(pixels)-missing])); err == nil {
			t.Errorf("accepted without the last %d bytes of its pixels", missing)
		}
	}
}

func TestADamagedPNGIsRefused(t *testing.T) {
	for _, file := range []string{"testdata/pil-444.png", "testdata/odd-extra-row.png"} {
		whole := mustRead(t, file)
		data := bytes.Index(whole, []byte("IDAT"))
		for name, at := range map[string]int{
			"width": 19, "check of the header": 30, "pixel data": data + 2000, "kind of the pixel data": data + 1,
			"check of the pixel data": data + 4 + int(binary.BigEndian.Uint32(whole[data-4:])),
		} {
			bad := bytes.Clone(whole)
			bad[at] ^= 4
			if _, err := limits.Read(bad); err == nil {
				t.Errorf("%s: accepted with another %s", file, name)
			}
		}
	}
}

// A surplus that unpacks to more than any memory must cost what the pixels do.
func TestP12_SurplusDataIsNotUnpacked(t *testing.T) {
	const w, h = 8, 8
	var plain bytes.Buffer
	if err := png.Encode(&plain, image.NewGray(image.Rect(0, 0, w, h))); err != nil {
		t.Fatal(err)
	}
	bomb := repack(pngParts(t, plain.Bytes())[0], make([]byte, bombBytes))
	var err error
	n := allocated(func() { _, err = limits.Read(bomb) })
	if err != nil || n > 1<<20 {
		t.Errorf("got %v and %d bytes allocated, want under 1 MiB", err, n)
	}
}

func TestAPNGOfAnUnknownKindIsUnsupported(t *testing.T) {
	body := pngOf(8, 8)
	body[24] = 3 // bits
	copy(body[8:], chunk("IHDR", body[16:29]))
	if _, err := limits.Read(body); !errors.Is(err, ErrUnsupported) {
		t.Errorf("got %v, want %v", err, ErrUnsupported)
	}
}

// What image/png takes, it must take with the end repaired as well.
func FuzzPNG(f *testing.F) {
	for _, name := range []string{"odd-extra-row.png", "odd-extra-byte.png", "odd-no-iend.png", "pil-1x40.png",
		"pil-32x32.png"} {
		b, err := os.ReadFile("testdata/" + name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	small := Decoder{MaxPixels: 1 << 14}
	f.Fuzz(func(t *testing.T, body []byte) {
		if h, err := small.Inspect(body, Claim{Codec: PNG}); err != nil || h.Codec != PNG {
			return
		}
		p, err := small.Read(body)
		img, strict := png.Decode(bytes.NewReader(body))
		switch {
		case strict == nil && err != nil:
			t.Fatalf("refused what image/png reads: %v", err)
		case strict == nil && (p.Width != img.Bounds().Dx() || p.Height != img.Bounds().Dy()):
			t.Fatalf("%d x %d pixels, image/png reads %v", p.Width, p.Height, img.Bounds())
		case err != nil && strings.Contains(err.Error(), "gave up"):
			t.Fatal(err)
		}
	})
}
