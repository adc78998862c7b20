package frame

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
	"image/color/palette"
	"image/draw"
	"image/png"
	"math/rand/v2"
	"testing"
)

// noise fills every sample with a fixed random byte.
func noise(samples ...[]byte) {
	source := rand.New(rand.NewPCG(1, 2))
	for _, s := range samples {
		for i := range s {
			s[i] = byte(source.Uint32())
		}
	}
}

// pictures are one of every type the decoders make, w x h pixels of noise.
func pictures(w, h int) map[string]image.Image {
	size := image.Rect(0, 0, w, h)
	all := map[string]image.Image{}
	for _, ratio := range []image.YCbCrSubsampleRatio{
		image.YCbCrSubsampleRatio444, image.YCbCrSubsampleRatio422, image.YCbCrSubsampleRatio420,
		image.YCbCrSubsampleRatio440, image.YCbCrSubsampleRatio411, image.YCbCrSubsampleRatio410,
	} {
		m := image.NewYCbCr(size, ratio)
		noise(m.Y, m.Cb, m.Cr)
		for i := range m.Cb { // colours that need no interpolation
			m.Cb[i], m.Cr[i] = m.Cb[0], m.Cr[0]
		}
		all[ratio.String()] = m
	}
	nrgba, nrgba64 := image.NewNRGBA(size), image.NewNRGBA64(size)
	gray, gray16, cmyk := image.NewGray(size), image.NewGray16(size), image.NewCMYK(size)
	noise(nrgba.Pix, nrgba64.Pix, gray.Pix, gray16.Pix, cmyk.Pix)
	all["NRGBA"], all["NRGBA64"], all["Gray"], all["Gray16"], all["CMYK"] = nrgba, nrgba64, gray, gray16, cmyk
	rgba, rgba64 := image.NewRGBA(size), image.NewRGBA64(size)
	draw.Draw(rgba, size, all["CMYK"], image.Point{}, draw.Src)
	draw.Draw(rgba64, size, all["Gray16"], image.Point{}, draw.Src)
	all["RGBA"], all["RGBA64"] = rgba, rgba64
	paletted := image.NewPaletted(size, palette.Plan9)
	noise(paletted.Pix)
	all["Paletted"] = paletted
	clear := image.NewPaletted(size, color.Palette{color.NRGBA{200, 100, 50, 0}, color.NRGBA{1, 2, 3, 128},
		color.RGBA{9, 8, 7, 255}})
	for i := range clear.Pix {
		clear.Pix[i] = byte(i % 3)
	}
	all["Paletted with alpha"] = clear
	return all
}

// dropped is the colour of a pixel without its alpha, 8 bits a sample.
func dropped(c color.Color) [3]byte {
	switch c := c.(type) {
	case color.NRGBA:
		return [3]byte{c.R, c.G, c.B}
	case color.NRGBA64:
		return [3]byte{byte(c.R >> 8), byte(c.G >> 8), byte(c.B >> 8)}
	}
	r, g, b, _ := c.RGBA()
	return [3]byte{byte(r >> 8), byte(g >> 8), byte(b >> 8)}
}

func TestP6_EveryKindOfPixelsIsReadAsImageAtDoes(t *testing.T) {
	const w, h = 21, 9
	for name, img := range pictures(w, h) {
		t.Run(name, func(t *testing.T) {
			p, err := pictureOf(img)
			if err != nil {
				t.Fatal(err)
			}
			for _, from := range []int{0, 1, 6, w - 1} {
				line := make([]byte, 3*(w-from))
				for y := range h {
					p.row(line, from, y)
					for x := from; x < w; x++ {
						got, want := [3]byte(line[3*(x-from):]), dropped(img.At(x, y))
						if got != want {
							t.Fatalf("pixel %d, %d: got %v, want %v", x, y, got, want)
						}
					}
				}
			}
		})
	}
}

// PIL cannot write 4:4:0; turned by 90 degrees it is 4:2:2, which it can.
func TestP6_ChromaSharedDownwardsIsThatSharedAcrossTurned(t *testing.T) {
	const w, h = 21, 9
	wide := image.NewYCbCr(image.Rect(0, 0, w, h), image.YCbCrSubsampleRatio422)
	tall := image.NewYCbCr(image.Rect(0, 0, h, w), image.YCbCrSubsampleRatio440)
	noise(wide.Y, wide.Cb, wide.Cr)
	for i := range w * h {
		x, y := i%w, i/w
		tall.Y[tall.YOffset(y, x)] = wide.Y[wide.YOffset(x, y)]
		tall.Cb[tall.COffset(y, x)] = wide.Cb[wide.COffset(x, y)]
		tall.Cr[tall.COffset(y, x)] = wide.Cr[wide.COffset(x, y)]
	}
	line, column := make([]byte, 3*w), make([]byte, 3)
	for y := range h {
		(&Picture{img: wide}).row(line, 0, y)
		for x := range w {
			(&Picture{img: tall}).row(column, y, x)
			if got, want := [3]byte(column), [3]byte(line[3*x:]); got != want {
				t.Fatalf("pixel %d, %d: got %v, want %v", x, y, got, want)
			}
		}
	}
}

// A part of a line must not depend on where it begins.
func TestALineMayBeginAnywhere(t *testing.T) {
	const w = 23
	for _, ratio := range []image.YCbCrSubsampleRatio{image.YCbCrSubsampleRatio422, image.YCbCrSubsampleRatio420,
		image.YCbCrSubsampleRatio440} {
		m := image.NewYCbCr(image.Rect(0, 0, w, 5), ratio)
		noise(m.Y, m.Cb, m.Cr)
		p := &Picture{img: m}
		whole, part := make([]byte, 3*w), make([]byte, 3*w)
		for y := range 5 {
			p.row(whole, 0, y)
			for from := range w {
				for to := from + 1; to <= w; to++ {
					p.row(part[:3*(to-from)], from, y)
					if !bytes.Equal(part[:3*(to-from)], whole[3*from:3*to]) {
						t.Fatalf("%v, line %d: pixels %d to %d differ from those of the whole line", ratio, y, from, to)
					}
				}
			}
		}
	}
}

func TestP6_EveryKindOfPNGIsRead(t *testing.T) {
	for name, img := range pictures(12, 10) {
		var b bytes.Buffer
		if err := png.Encode(&b, img); err != nil {
			t.Fatal(err)
		}
		p, err := limits.Read(b.Bytes())
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		line := make([]byte, 3*12)
		p.row(line, 0, 7)
		if got, want := [3]byte(line[3*5:]), dropped(img.At(5, 7)); got != want {
			t.Errorf("%s, as %T: got %v, want %v", name, p.img, got, want)
		}
	}
}

func TestPixelsOfUnknownTypesAreUnsupported(t *testing.T) {
	for _, img := range []image.Image{
		image.NewAlpha(image.Rect(0, 0, 2, 2)),
		image.NewGray(image.Rect(1, 0, 2, 2)),
	} {
		if p, err := pictureOf(img); err == nil {
			t.Errorf("%T from %v: got %v, want an error", img, img.Bounds().Min, p)
		}
	}
}

func BenchmarkRow(b *testing.B) {
	for name, img := range pictures(640, 1) {
		b.Run(name, func(b *testing.B) {
			p, err := pictureOf(img)
			if err != nil {
				b.Fatal(err)
			}
			line := make([]byte, 3*640)
			for b.Loop() {
				p.row(line, 0, 0)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(640*b.N), "ns/px")
		})
	}
}

func ExampleDecoder_Decode() {
	var b bytes.Buffer
	if err := png.Encode(&b, image.NewGray(image.Rect(0, 0, 640, 480))); err != nil {
		fmt.Println(err)
	}
	p, err := Decoder{MaxPixels: DefaultPixels}.Read(b.Bytes())
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(p.Width, p.Height)
	// Output: 640 480
}

// pictureOf is a picture of what a codec gave.
func pictureOf(img image.Image) (*Picture, error) {
	p := new(Picture)
	return p, p.take(img)
}
