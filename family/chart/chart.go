// Package chart draws what people would rather look at than read: families as
// points in the plane of cost and accuracy, policies as lines over time.
//
//	series ──Draw, DrawPanels──▶ SVG or PNG
//
// It knows pictures and no families; the caller says what the axes mean. The one
// rule: the same series give the same bytes, so that a picture can be committed.
package chart

import (
	"fmt"
	"image/color"
	"io"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"
	"gonum.org/v1/plot/vg/vgsvg"
)

// Point is one mark with the text beside it.
type Point struct {
	X, Y  float64
	Label string // may be empty
}

// Series is points of one kind, joined by a line from left to right.
type Series struct {
	Name   string
	Points []Point // by rising X
}

// Axes says what a picture shows.
type Axes struct {
	Title, X, Y string // with units
}

// The size of a picture.
const (
	width  = 7 * vg.Inch
	height = 4.5 * vg.Inch
)

// Formats are the kinds of file Draw writes, by their suffix.
func Formats() []string { return []string{".svg", ".png"} }

// Draw writes a picture in the format that the suffix of name asks for.
func Draw(w io.Writer, name string, axes Axes, series ...Series) error {
	p := plot.New()
	p.Title.Text, p.X.Label.Text, p.Y.Label.Text = axes.Title, axes.X, axes.Y
	p.Add(plotter.NewGrid())
	for i, s := range series {
		line, marks, err := add(p, s, palette[i%len(palette)])
		if err != nil {
			return fmt.Errorf("draw %s: %w", s.Name, err)
		}
		if len(series) > 1 {
			p.Legend.Add(s.Name, line, marks)
		}
	}
	// Room for the marks and their labels.
	x, y := p.X.Max-p.X.Min, p.Y.Max-p.Y.Min
	p.X.Min, p.X.Max = p.X.Min-x/40, p.X.Max+x/10
	p.Y.Min, p.Y.Max = p.Y.Min-y/12, p.Y.Max+y/20
	p.Title.Padding = font.Points(8)
	return write(w, name, width, height, p.Draw)
}

// palette is told apart by the colour-blind, too (Okabe and Ito 2008).
var palette = []color.Color{
	color.RGBA{0, 114, 178, 255}, color.RGBA{213, 94, 0, 255}, color.RGBA{0, 158, 115, 255}, color.RGBA{204, 121, 167, 255},
}

func add(p *plot.Plot, s Series, c color.Color) (line *plotter.Line, marks *plotter.Scatter, err error) {
	xys, labels := make(plotter.XYs, len(s.Points)), make([]string, len(s.Points))
	for i, pt := range s.Points {
		xys[i].X, xys[i].Y, labels[i] = pt.X, pt.Y, pt.Label
	}
	if line, marks, err = plotter.NewLinePoints(xys); err != nil {
		return nil, nil, err
	}
	line.Color, marks.Color, marks.Shape = c, c, draw.CircleGlyph{}
	text, err := plotter.NewLabels(plotter.XYLabels{XYs: xys, Labels: labels})
	if err != nil {
		return nil, nil, err
	}
	text.Offset = vg.Point{X: font.Points(4), Y: font.Points(-10)}
	p.Add(line, marks, text)
	return line, marks, nil
}

// write lets draw fill a canvas of some size and encodes it.
func write(w io.Writer, name string, width, height vg.Length, fill func(draw.Canvas)) (err error) {
	switch {
	case strings.HasSuffix(name, ".svg"):
		c := vgsvg.New(width, height)
		fill(draw.New(c))
		_, err = c.WriteTo(w)
	case strings.HasSuffix(name, ".png"):
		c := vgimg.PngCanvas{Canvas: vgimg.NewWith(vgimg.UseWH(width, height), vgimg.UseDPI(144))}
		fill(draw.New(c))
		_, err = c.WriteTo(w)
	default:
		return fmt.Errorf("draw %s: the name must end in %s", name, strings.Join(Formats(), " or "))
	}
	if err != nil {
		return fmt.Errorf("draw %s: %w", name, err)
	}
	return nil
}
