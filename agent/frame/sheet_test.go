package frame

import (
	"bytes"
	"image"
	"image/png"
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"
)

// sheetPNG is a PNG of noise.
func sheetPNG(tb testing.TB, w, h int) []byte {
	tb.Helper()
	img := image.NewNRGBA(image.Rect(0, 0, w, h))
	noise(img.Pix)
	for i := 3; i < len(img.Pix); i += 4 {
		img.Pix[i] = 255
	}
	var b bytes.Buffer
	if err := png.Encode(&b, img); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

func TestSheetHasAPictureARow(t *testing.T) {
	sheet := sheetPNG(t, 16, 3)
	s, err := OpenSheet(fstest.MapFS{
		"test.png":         {Data: sheet},
		"test.labels.json": {Data: []byte("[7,0,9]")},
	}, "test")
	if err != nil {
		t.Fatal(err)
	}
	whole, err := png.Decode(bytes.NewReader(sheet))
	if err != nil {
		t.Fatal(err)
	}
	if s.Len() != 3 || s.Label(0) != 7 || s.Label(2) != 9 {
		t.Errorf("got %d pictures, labels %d and %d; want 3, 7 and 9", s.Len(), s.Label(0), s.Label(2))
	}
	for i := range s.Len() {
		b, err := s.PNG(i)
		if err != nil {
			t.Fatal(err)
		}
		sent, err := limits.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		for x := range 16 {
			want := dropped(whole.At(x, i))
			for from, p := range map[string]*Picture{"the sheet": s.Picture(i), "its PNG": sent} {
				got := make([]byte, 3)
				p.row(got, x%4, x/4)
				if p.Width != 4 || p.Height != 4 || [3]byte(got) != want {
					t.Fatalf("picture %d, pixel %d from %s: got %v, want %v", i, x, from, got, want)
				}
			}
		}
	}
}

func TestASheetThatDoesNotFitItsLabelsIsRefused(t *testing.T) {
	good := sheetPNG(t, 16, 2)
	var gray bytes.Buffer
	if err := png.Encode(&gray, image.NewGray(image.Rect(0, 0, 16, 2))); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name   string
		sheet  []byte
		labels string
		want   string
	}{
		{"no square", sheetPNG(t, 15, 2), "[0,0]", "a row has 15 pixels"},
		{"gray", gray.Bytes(), "[0,0]", "not 8-bit RGB"},
		{"too big", pngOf(1<<16, 1<<16), "[]", "more than 268435456"},
		{"truncated", good[:len(good)/2], "[0,0]", "png: invalid format"},
		{"no PNG", []byte("GIF89a, and some more"), "[0,0]", "not a PNG"},
		{"a label too few", good, "[0]", "1 labels for 2 pictures"},
		{"a label too many", good, "[0,0,0]", "3 labels for 2 pictures"},
		{"negative label", good, "[0,-1]", "label 1 is -1"},
		{"labels of text", good, `["cat","dog"]`, "want an array of whole numbers"},
		{"labels cut off", good, `[0,`, "want an array of whole numbers"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := OpenSheet(fstest.MapFS{"a.png": {Data: tt.sheet}, "a.labels.json": {Data: []byte(tt.labels)}}, "a")
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want ...%s...", err, tt.want)
			}
		})
	}
	for _, folder := range []fs.FS{fstest.MapFS{}, fstest.MapFS{"a.png": {Data: good}}} {
		if _, err := OpenSheet(folder, "a"); err == nil {
			t.Error("a sheet with a file missing was opened")
		}
	}
}

func FuzzOpenSheet(f *testing.F) {
	f.Add(sheetPNG(f, 4, 2), []byte("[1,2]"))
	f.Add(pngOf(9, 1), []byte("[]"))
	f.Fuzz(func(t *testing.T, sheet, labels []byte) {
		config, err := png.DecodeConfig(bytes.NewReader(sheet))
		if err == nil && config.Width*config.Height > 1<<16 {
			t.Skip("larger than a quick test")
		}
		s, err := OpenSheet(fstest.MapFS{"a.png": {Data: sheet}, "a.labels.json": {Data: labels}}, "a")
		if err != nil {
			return
		}
		for i := range s.Len() {
			line := make([]byte, 3*s.Picture(i).Width)
			s.Picture(i).row(line, 0, s.Picture(i).Height-1)
		}
	})
}
