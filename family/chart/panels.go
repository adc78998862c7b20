package chart

import "io"

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
