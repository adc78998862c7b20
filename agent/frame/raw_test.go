package frame

import (
	"bytes"
	"math"
	"slices"
	"strings"
	"testing"
)

// P10, NaN and infinities in raw input, cannot occur: samples are whole bytes,
// and each of the 256 values of a byte is a sample.

func mustRaw(t *testing.T, p *Picture, body []byte, c Claim) *Picture {
	t.Helper()
	h, err := limits.Inspect(body, c)
	if err != nil {
		t.Fatalf("%+v: %v", c, err)
	}
	if err := limits.Decode(p, body, h, 1); err != nil {
		t.Fatalf("%+v: %v", c, err)
	}
	return p
}

// lines are the pixels of a picture from column x on.
func lines(p *Picture, x int) []byte {
	var all []byte
	for y := range p.Height {
		line := make([]byte, 3*(p.Width-x))
		p.row(line, x, y)
		all = append(all, line...)
	}
	return all
}

func TestRawFramesAreReadAsTheyAreDeclared(t *testing.T) {
	for _, tt := range []struct {
		claim      Claim
		body, want []byte
	}{
		{Claim{RGB, 2, 1}, []byte{1, 2, 3, 4, 5, 6}, []byte{1, 2, 3, 4, 5, 6}},
		{Claim{RGB, 1, 2}, []byte{1, 2, 3, 4, 5, 6}, []byte{1, 2, 3, 4, 5, 6}},
		{Claim{BGR, 2, 1}, []byte{1, 2, 3, 4, 5, 6}, []byte{3, 2, 1, 6, 5, 4}},
		{Claim{Gray, 3, 1}, []byte{7, 8, 9}, []byte{7, 7, 7, 8, 8, 8, 9, 9, 9}},
		{Claim{Gray, 1, 3}, []byte{7, 8, 9}, []byte{7, 7, 7, 8, 8, 8, 9, 9, 9}},
		{Claim{NV12, 2, 2}, []byte{16, 235, 126, 16, 128, 128}, []byte{0, 0, 0, 255, 255, 255, 128, 128, 128, 0, 0, 0}},
		{Claim{NV12, 2, 2}, []byte{0, 255, 81, 82, 90, 240}, []byte{160, 0, 0, 255, 202, 202, 254, 0, 0, 255, 1, 0}},
		{Claim{RGB, 1, 1}, []byte("\xff\xd8\xff"), []byte("\xff\xd8\xff")}, // no JPEG
	} {
		p := mustRaw(t, new(Picture), tt.body, tt.claim)
		if got := lines(p, 0); !bytes.Equal(got, tt.want) || p.Width != tt.claim.Width || p.Height != tt.claim.Height {
			t.Errorf("%+v: got %d x %d pixels %v, want %v", tt.claim, p.Width, p.Height, got, tt.want)
		}
	}
}

// limited is the colour that a pixel of limited range gets.
func limited(luma, cb, cr byte) [3]byte {
	y := light(luma)
	red, green, blue := hue(cb, cr)
	return [3]byte{clip6(y + red), clip6(y + green), clip6(y + blue)}
}

// shown is BT.601 of limited range without any rounding, in [0, 255].
func shown(y, cb, cr byte) [3]float64 {
	l, b, r := 255.0/219*(float64(y)-16), 255.0/224*(float64(cb)-128), 255.0/224*(float64(cr)-128)
	const red, blue = 0.299, 0.114 // shares in luma
	green := (2*red*(1-red)*r + 2*blue*(1-blue)*b) / (1 - red - blue)
	rgb := [3]float64{l + 2*(1-red)*r, l - green, l + 2*(1-blue)*b}
	for i := range rgb {
		rgb[i] = min(max(rgb[i], 0), 255)
	}
	return rgb
}

func TestTheColoursOfNV12AreThoseOfBT601Rounded(t *testing.T) {
	worst := 0.0
	for y := range 256 {
		for cb := 0; cb < 256; cb += 5 {
			for cr := 0; cr < 256; cr += 5 {
				got := limited(byte(y), byte(cb), byte(cr))
				for i, want := range shown(byte(y), byte(cb), byte(cr)) {
					worst = max(worst, math.Abs(float64(got[i])-want))
				}
			}
		}
	}
	if worst > 0.55 {
		t.Errorf("got a difference of %.2f levels, want at most 0.55", worst)
	}
}

func TestFourPixelsOfNV12ShareTheirColour(t *testing.T) {
	const w, h = 6, 4
	body := make([]byte, w*h*3/2)
	noise(body)
	var want []byte
	for i := range w * h {
		x, y := i%w, i/w
		pair := body[w*h+y/2*w+x/2*2:]
		px := limited(body[i], pair[0], pair[1])
		want = append(want, px[:]...)
	}
	p := mustRaw(t, new(Picture), body, Claim{NV12, w, h})
	if got := lines(p, 0); !bytes.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestALineOfARawFrameMayBeginAnywhere(t *testing.T) {
	const w, h = 8, 4
	for _, codec := range []string{RGB, BGR, Gray, NV12} {
		body := make([]byte, rawBytes(codec, w, h))
		noise(body)
		p := mustRaw(t, new(Picture), body, Claim{codec, w, h})
		whole := lines(p, 0)
		for from := range w {
			var want []byte
			for y := range h {
				want = append(want, whole[3*(y*w+from):3*(y+1)*w]...)
			}
			if got := lines(p, from); !bytes.Equal(got, want) {
				t.Errorf("%s from column %d: got %v, want %v", codec, from, got, want)
			}
		}
	}
}

func TestP9_ARawFrameThatIsNotAsDeclaredIsRefusedByField(t *testing.T) {
	for _, tt := range []struct {
		claim Claim
		bytes int
		want  string
	}{
		{Claim{RGB, 4, 4}, 47, "width, height: 4 x 4 pixels of rgb have 48 bytes, but the frame has 47"},
		{Claim{RGB, 4, 4}, 49, "have 48 bytes, but the frame has 49"},
		{Claim{RGB, 4, 4}, 0, "have 48 bytes, but the frame has 0"},
		{Claim{BGR, 4, 4}, 64, "have 48 bytes, but the frame has 64"},
		{Claim{Gray, 4, 4}, 48, "4 x 4 pixels of gray have 16 bytes"},
		{Claim{NV12, 4, 4}, 48, "4 x 4 pixels of nv12 have 24 bytes"},
		{Claim{NV12, 3, 4}, 18, "width: 3 pixels are odd"},
		{Claim{NV12, 4, 3}, 18, "height: 3 pixels are odd"},
		{Claim{RGB, 0, 4}, 0, "width: a frame of rgb needs it"},
		{Claim{RGB, 4, 0}, 0, "height: a frame of rgb needs it"},
		{Claim{Codec: Gray}, 4, "width: a frame of gray needs it"},
		{Claim{RGB, -4, -4}, 48, "width: -4 pixels are not in [1, 16384]"},
		{Claim{RGB, 4, -4}, 48, "height: -4 pixels are not in [1, 16384]"},
		{Claim{RGB, 16385, 1}, 3 * 16385, "width: 16385 pixels are not in [1, 16384]"},
		{Claim{RGB, 1, math.MaxInt}, 3, "height: 9223372036854775807 pixels are not in"},
		{Claim{RGB, math.MinInt, 2}, 3, "width: -9223372036854775808 pixels are not in"},
		{Claim{RGB, 1 << 32, 1 << 32}, 0, "width: 4294967296 pixels are not in"}, // the product is 0 in 64 bits
		{Claim{Gray, 4096, 4097}, 4096 * 4097, "width, height: 4096 x 4097 pixels are more than 16777216"},
		{Claim{Gray, 16384, 16384}, 0, "width, height: 16384 x 16384 pixels are more than"},
		{Claim{"", 4, 4}, 48, "width: it is for frames of codec rgb, bgr, gray and nv12"},
		{Claim{PNG, 0, 4}, 48, "height: it is for frames of codec rgb, bgr, gray and nv12"},
	} {
		body := make([]byte, tt.bytes)
		var err error
		n := allocated(func() { _, err = limits.Inspect(body, tt.claim) })
		if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") || n > 1<<20 {
			t.Errorf("%+v, %d bytes: got %v and %d bytes allocated, want ...%s...", tt.claim, tt.bytes, err, n, tt.want)
		}
	}
	if err := limits.Decode(new(Picture), make([]byte, 3), Header{Codec: RGB, Width: 2, Height: 2}, 1); err == nil {
		t.Error("a frame was decoded by the header of another")
	}
}

func TestP7_APictureThatIsDeclaredRawIsRefused(t *testing.T) {
	_, err := limits.Inspect(mustRead(t, "testdata/pil-444.jpg"), Claim{RGB, 75, 53})
	if want := "it is jpeg: leave out codec, width and height"; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want ...%s", err, want)
	}
}

func TestP17_ARawFrameOfNoPictureOrOfTwoIsRefused(t *testing.T) {
	for _, codec := range []string{RGB, BGR, Gray, NV12} {
		for _, pictures := range []int{0, 2} {
			body := make([]byte, pictures*rawBytes(codec, 8, 8))
			if _, err := limits.Inspect(body, Claim{codec, 8, 8}); err == nil || !strings.HasPrefix(err.Error(),
				"width, height: 8 x 8 pixels of "+codec) {
				t.Errorf("%d pictures of %s: got %v, want a refusal of their size", pictures, codec, err)
			}
		}
	}
}

func TestP18_RawFramesOfOddSizesAreHandled(t *testing.T) {
	for _, c := range []Claim{{RGB, 1, 1}, {BGR, 1, 16384}, {Gray, 16384, 1}, {NV12, 16384, 2}, {NV12, 2, 16384}} {
		p := mustRaw(t, new(Picture), make([]byte, rawBytes(c.Codec, c.Width, c.Height)), c)
		dst := make([]float32, 3*33*33)
		mustScaler(t, plain).Tensor(dst, p, 33)
		want := dst[0]
		if slices.ContainsFunc(dst[:33*33], func(v float32) bool { return v != want }) {
			t.Errorf("%+v: a picture of one colour has several", c)
		}
	}
}

func TestARawFrameIsCopiedIntoMemoryThatIsUsedAgain(t *testing.T) {
	p, body := new(Picture), make([]byte, 3*64*64)
	noise(body)
	want := bytes.Clone(body)
	mustRaw(t, p, body, Claim{RGB, 64, 64})
	clear(body)
	if got := lines(p, 0); !bytes.Equal(got, want) {
		t.Error("the picture changed with the bytes it was read from")
	}
	h := Header{Codec: RGB, Width: 64, Height: 64}
	if n := testing.AllocsPerRun(10, func() {
		if err := limits.Decode(p, body, h, 1); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations for a frame of the same size, want none", n)
	}
	mustRaw(t, p, []byte{5, 6}, Claim{Gray, 2, 1})
	if got := lines(p, 0); !bytes.Equal(got, []byte{5, 5, 5, 6, 6, 6}) {
		t.Errorf("a small frame after a large one: got %v", got)
	}
}

func FuzzRaw(f *testing.F) {
	f.Add([]byte{1, 2, 3}, RGB, 1, 1)
	f.Add(make([]byte, 24), NV12, 4, 4)
	f.Add([]byte{1}, Gray, 1<<32+1, 1<<32+1)
	f.Add([]byte{}, BGR, -1, -1)
	small := Decoder{MaxPixels: 1 << 16}
	p := new(Picture)
	f.Fuzz(func(t *testing.T, body []byte, codec string, w, h int) {
		c := Claim{codec, w, h}
		head, err := small.Inspect(body, c)
		if err != nil || !isRaw(codec) {
			return
		}
		if err := small.Decode(p, body, head, 1); err != nil {
			t.Fatalf("%+v, %d bytes: passed and refused: %v", c, len(body), err)
		}
		if p.Width != w || p.Height != h || w*h > small.MaxPixels {
			t.Fatalf("%+v: a picture of %d x %d", c, p.Width, p.Height)
		}
		lines(p, w-1)
	})
}
