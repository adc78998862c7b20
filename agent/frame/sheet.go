package frame

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"image/png"
	"io/fs"
	"math"
)

// maxSheet is the limit on the pixels of a sheet: 1 GiB while it is open.
const maxSheet = 256 << 20

// Sheet is a set of labelled square pictures in one PNG, one picture a row:
// a row of the PNG is the picture's own rows side by side. The labels of
// NAME.png are in NAME.labels.json, an array of class indices.
type Sheet struct {
	pix    []byte // 4 bytes a pixel: R, G, B and one that does not count
	side   int    // of a picture, in pixels
	labels []int
}

// OpenSheet reads NAME.png and NAME.labels.json of a folder. A sheet has no
// limit on its sides, as it comes from the disk of the user who names it.
func OpenSheet(folder fs.FS, name string) (*Sheet, error) {
	s, err := readPixels(folder, name+".png")
	if err != nil {
		return nil, fmt.Errorf("sheet %s.png: %w", name, err)
	}
	b, err := fs.ReadFile(folder, name+".labels.json")
	if err != nil {
		return nil, fmt.Errorf("labels of the sheet: %w", err)
	}
	if err := s.setLabels(b); err != nil {
		return nil, fmt.Errorf("labels %s.labels.json: %w", name, err)
	}
	return s, nil
}

func readPixels(folder fs.FS, file string) (*Sheet, error) {
	b, err := fs.ReadFile(folder, file)
	if err != nil {
		return nil, err
	}
	config, err := png.DecodeConfig(bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	side := int(math.Round(math.Sqrt(float64(config.Width))))
	switch {
	case side*side != config.Width:
		return nil, fmt.Errorf("a row has %d pixels, which are no square picture", config.Width)
	case config.Width*config.Height > maxSheet:
		return nil, fmt.Errorf("%d x %d pixels are more than %d", config.Width, config.Height, maxSheet)
	}
	img, err := png.Decode(bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	switch m := img.(type) {
	case *image.RGBA:
		return &Sheet{pix: m.Pix, side: side}, nil
	case *image.NRGBA:
		return &Sheet{pix: m.Pix, side: side}, nil
	}
	return nil, errors.New("the pixels are not 8-bit RGB")
}

func (s *Sheet) setLabels(b []byte) error {
	if err := json.Unmarshal(b, &s.labels); err != nil {
		return fmt.Errorf("want an array of whole numbers: %w", err)
	}
	if rows := len(s.pix) / s.bytes(); len(s.labels) != rows {
		return fmt.Errorf("%d labels for %d pictures", len(s.labels), rows)
	}
	for i, label := range s.labels {
		if label < 0 {
			return fmt.Errorf("label %d is %d, want a class index from 0", i, label)
		}
	}
	return nil
}

// bytes is the size of one picture.
func (s *Sheet) bytes() int { return 4 * s.side * s.side }

// Len is the number of pictures.
func (s *Sheet) Len() int { return len(s.labels) }

// Label is the class index of picture i.
func (s *Sheet) Label(i int) int { return s.labels[i] }

// Picture is picture i. It shares the memory of the sheet.
func (s *Sheet) Picture(i int) *Picture {
	return &Picture{img: s.image(i), Width: s.side, Height: s.side, scale: 1, turn: 1}
}

// PNG is picture i as a camera would send it.
func (s *Sheet) PNG(i int) ([]byte, error) {
	var b bytes.Buffer
	if err := png.Encode(&b, s.image(i)); err != nil {
		return nil, fmt.Errorf("picture %d: %w", i, err)
	}
	return b.Bytes(), nil
}

// image is picture i; alpha is set wherever the sheet has none.
func (s *Sheet) image(i int) *image.NRGBA {
	size := s.bytes()
	return &image.NRGBA{
		Pix:    s.pix[i*size:][:size:size],
		Stride: 4 * s.side,
		Rect:   image.Rect(0, 0, s.side, s.side),
	}
}
