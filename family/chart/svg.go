package chart

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"io"
	"math"
)

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

func newPicture(width, height float64, title string) *picture {
	p := new(picture)
	fmt.Fprintf(&p.out, "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %g %g\" width=\"%g\" height=\"%g\""+
		" font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%%\" height=\"100%%\" fill=\"white\"/>\n",
		width, height, width, height)
	p.text(place{width / 2, 24}, `text-anchor="middle" font-size="15"`, title)
	return p
}

// axes draws the grid, its numbers and the names. A horizontal axis without a name
// has no numbers either: one below has them.
func (p *picture) axes(a *area, x, y string) {
	const grid = `stroke="#ddd"`
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
	p.stroke(place{a.left, a.top}, corner, `stroke="black"`)
	p.stroke(corner, place{a.left + a.width, corner.y}, `stroke="black"`)
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
func (p *picture) mark(c place, color, label string) {
	fmt.Fprintf(&p.out, `<circle cx="%.1f" cy="%.1f" r="3" fill="%s"/>`+"\n", c.x, c.y, color)
	p.text(place{c.x + 6, c.y + 13}, "", label)
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
