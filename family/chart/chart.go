// Package chart draws what people would rather look at than read: families as
// points in the plane of cost and accuracy, policies as lines over time.
//
//	series ──Draw, DrawPanels──▶ areas with axes ──▶ SVG
//
// It knows pictures and no families; the caller says what the axes mean. They are dark
// where their reader wants that. The one rule: the same series give the same bytes, so that a picture can be committed.
package chart

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"io"
	"math"
	"path/filepath"
	"strings"
)

// Point is one mark with the text beside it.
type Point struct {
	X, Y  float64
	Label string // may be empty
	Ring  bool   // around the mark: this one is meant
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

// The size of a picture and of what is around its area, in pixels.
const (
	width  = 672
	height = 432
	left   = 70 // for the numbers of the vertical axis and its name
	right  = 20
	top    = 40 // for the title
	bottom = 50 // for the numbers of the horizontal axis and its name
)

// Draw writes a picture. Its name must end in .svg, as that is what it is.
func Draw(w io.Writer, name string, axes Axes, series ...Series) error {
	a := area{left: left, top: top, width: width - left - right, height: height - top - bottom}
	if err := a.fit(name, series); err != nil {
		return err
	}
	// Room for the marks and their labels.
	x, y := a.x.max-a.x.min, a.y.max-a.y.min
	a.x = span{a.x.min - x/40, a.x.max + x/10}
	a.y = span{a.y.min - y/12, a.y.max + y/20}
	p := newPicture(width, height, axes.Title)
	p.axes(&a, axes.X, axes.Y)
	for i, s := range series {
		p.line(&a, s.Points, color(i))
		for _, pt := range s.Points {
			p.mark(a.at(pt), color(i), pt)
		}
		if len(series) > 1 {
			row := float64(len(series) - i)
			p.legend(place{a.left + a.width - 100, a.top + a.height - 16*row}, color(i), s.Name)
		}
	}
	return p.write(w, name)
}

// fit makes the axes as long as the series.
func (a *area) fit(name string, series []Series) error {
	if suffix := filepath.Ext(name); suffix != ".svg" {
		return fmt.Errorf("draw %s: pictures are SVG: call it %s.svg", name, strings.TrimSuffix(name, suffix))
	}
	a.x, a.y = span{math.Inf(1), math.Inf(-1)}, span{math.Inf(1), math.Inf(-1)}
	for _, s := range series {
		if len(s.Points) == 0 {
			return fmt.Errorf("draw %s: no points of %s", name, s.Name)
		}
		for _, pt := range s.Points {
			if math.IsNaN(pt.X-pt.X) || math.IsNaN(pt.Y-pt.Y) { // infinite, or no number
				return fmt.Errorf("draw %s: a point of %s at %v, %v", name, s.Name, pt.X, pt.Y)
			}
			a.x = span{min(a.x.min, pt.X), max(a.x.max, pt.X)}
			a.y = span{min(a.y.min, pt.Y), max(a.y.max, pt.Y)}
		}
	}
	a.x, a.y = a.x.open(), a.y.open()
	return nil
}

// color is told apart by the colour-blind, too (Okabe and Ito 2008; for their black a
// gray, which is seen on both grounds).
func color(i int) string {
	return [5]string{"#0072b2", "#d55e00", "#009e73", "#cc79a7", "#7f7f7f"}[i%5]
}

// Panel is one of several pictures over the same horizontal axis.
type Panel struct {
	Y      string // with unit
	Series []Series
	Step   bool // values hold until the next one
	Legend bool // in the upper left corner
}

// The size of panels in pixels.
const (
	panelWidth  = 940
	panelHeight = 160 // of its area
	panelGap    = 18
)

// DrawPanels writes panels one below the other. Its name must end in .svg. Series of
// one name have one colour throughout.
func DrawPanels(w io.Writer, name string, axes Axes, panels ...Panel) error {
	pitch := float64(panelHeight + panelGap)
	p := newPicture(panelWidth, top+bottom-panelGap+pitch*float64(len(panels)), axes.Title)
	colors := map[string]string{}
	for i, panel := range panels {
		a := area{left: left, top: top + pitch*float64(i), width: panelWidth - left - right, height: panelHeight}
		if err := a.fit(name, panel.Series); err != nil {
			return err
		}
		a.y = span{a.y.min - (a.y.max-a.y.min)/20, a.y.max + (a.y.max-a.y.min)/20}
		x := ""
		if i == len(panels)-1 {
			x = axes.X
		}
		p.axes(&a, x, panel.Y)
		p.panel(&a, panel, colors)
	}
	return p.write(w, name)
}

func (p *picture) panel(a *area, panel Panel, colors map[string]string) {
	for i, s := range panel.Series {
		if colors[s.Name] == "" {
			colors[s.Name] = color(len(colors))
		}
		points := s.Points
		if panel.Step {
			points = steps(points)
		}
		p.line(a, points, colors[s.Name])
		if panel.Legend {
			p.legend(place{a.left + 10, a.top + 14 + 16*float64(i)}, colors[s.Name], s.Name)
		}
	}
}

// steps are the corners of a line whose values hold until the next one.
func steps(points []Point) (corners []Point) {
	for i, pt := range points {
		if i > 0 {
			corners = append(corners, Point{X: pt.X, Y: points[i-1].Y})
		}
		corners = append(corners, pt)
	}
	return corners
}

// span is the part of an axis that is drawn.
type span struct{ min, max float64 }

// open is never empty.
func (s span) open() span {
	if s.min < s.max {
		return s
	}
	half := max(0.5, math.Abs(s.min)/100)
	return span{s.min - half, s.max + half}
}

// ticks are the round numbers in a span, at most nine, and how many digits
// after the point they need.
func (s span) ticks() (at []float64, digits int) {
	step := math.Pow(10, math.Floor(math.Log10((s.max-s.min)/4)))
	for _, times := range [2]float64{5, 2} {
		if (s.max-s.min)/(step*times) >= 4 {
			step *= times
			break
		}
	}
	for digits = 0; digits < 12 && math.Abs(step*math.Pow10(digits)-math.Round(step*math.Pow10(digits))) > 1e-6; {
		digits++
	}
	for i := math.Ceil(s.min / step); i*step <= s.max; i++ {
		at = append(at, i*step+0) // -0 would be printed so
	}
	return at, digits
}

// place is a point of a picture, in pixels from its upper left corner.
type place struct{ x, y float64 }

// area is where points are drawn: pixels of the picture that stand for spans.
type area struct {
	left, top, width, height float64 // pixels
	x, y                     span
}

func (a *area) at(p Point) place {
	return place{
		a.left + a.width*(p.X-a.x.min)/(a.x.max-a.x.min),
		a.top + a.height*(a.y.max-p.Y)/(a.y.max-a.y.min),
	}
}

// picture is an SVG document in the making.
type picture struct{ out bytes.Buffer }

// dark is what is another colour where that is preferred.
const dark = "<style>@media (prefers-color-scheme: dark) { text { fill: #e6e6e6 } .ground { fill: #16181d } " +
	".grid { stroke: #3a3f47 } .axis { stroke: #a0a0a0 } }</style>\n"

func newPicture(width, height float64, title string) *picture {
	p := new(picture)
	fmt.Fprintf(&p.out, "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %g %g\" width=\"%g\" height=\"%g\""+
		" font-family=\"sans-serif\" font-size=\"12\">\n%s<rect class=\"ground\" width=\"100%%\" height=\"100%%\" "+
		"fill=\"white\"/>\n", width, height, width, height, dark)
	p.text(place{width / 2, 24}, `text-anchor="middle" font-size="15"`, title)
	return p
}

// axes draws the grid, its numbers and the names. A horizontal axis without a name
// has no numbers either: one below has them.
func (p *picture) axes(a *area, x, y string) {
	const grid, axis = `class="grid" stroke="#ddd"`, `class="axis" stroke="black"`
	at, digits := a.x.ticks()
	for _, v := range at {
		c := a.at(Point{X: v, Y: a.y.min})
		p.stroke(place{c.x, a.top}, c, grid)
		if x != "" {
			p.text(place{c.x, c.y + 16}, `text-anchor="middle"`, fmt.Sprintf("%.*f", digits, v))
		}
	}
	at, digits = a.y.ticks()
	for _, v := range at {
		c := a.at(Point{X: a.x.min, Y: v})
		p.stroke(c, place{a.left + a.width, c.y}, grid)
		p.text(place{c.x - 6, c.y + 4}, `text-anchor="end"`, fmt.Sprintf("%.*f", digits, v))
	}
	corner := place{a.left, a.top + a.height}
	p.stroke(place{a.left, a.top}, corner, axis)
	p.stroke(corner, place{a.left + a.width, corner.y}, axis)
	p.text(place{a.left + a.width/2, corner.y + 36}, `text-anchor="middle"`, x)
	middle := place{18, a.top + a.height/2}
	p.text(middle, fmt.Sprintf(`text-anchor="middle" font-size="11" transform="rotate(-90 %.1f %.1f)"`, middle.x,
		middle.y), y)
}

func (p *picture) line(a *area, points []Point, color string) {
	fmt.Fprintf(&p.out, `<polyline fill="none" stroke="%s" stroke-width="1.5" points="`, color)
	for _, pt := range points {
		c := a.at(pt)
		fmt.Fprintf(&p.out, "%.1f,%.1f ", c.x, c.y)
	}
	p.out.WriteString("\"/>\n")
}

// mark is a point with its label to the lower right.
func (p *picture) mark(c place, color string, pt Point) {
	fmt.Fprintf(&p.out, `<circle cx="%.1f" cy="%.1f" r="3" fill="%s"/>`+"\n", c.x, c.y, color)
	if pt.Ring {
		fmt.Fprintf(&p.out, `<circle cx="%.1f" cy="%.1f" r="7" fill="none" stroke="%s" stroke-width="2"/>`+"\n", c.x, c.y,
			color)
	}
	p.text(place{c.x + 6, c.y + 13}, "", pt.Label)
}

func (p *picture) legend(c place, color, name string) {
	p.stroke(c, place{c.x + 20, c.y}, fmt.Sprintf(`stroke="%s" stroke-width="2"`, color))
	p.text(place{c.x + 26, c.y + 4}, "", name)
}

func (p *picture) stroke(from, to place, style string) {
	fmt.Fprintf(&p.out, `<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" %s/>`+"\n", from.x, from.y, to.x, to.y, style)
}

func (p *picture) text(c place, style, s string) {
	if s == "" {
		return
	}
	fmt.Fprintf(&p.out, `<text x="%.1f" y="%.1f" %s>`, c.x, c.y, style)
	xml.EscapeText(&p.out, []byte(s)) // a buffer does not fail
	p.out.WriteString("</text>\n")
}

func (p *picture) write(w io.Writer, name string) error {
	p.out.WriteString("</svg>\n")
	if _, err := p.out.WriteTo(w); err != nil {
		return fmt.Errorf("draw %s: %w", name, err)
	}
	return nil
}
