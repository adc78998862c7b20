package chart

import (
	"fmt"
	"image/color"
	"io"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// Panel is one of several pictures over the same horizontal axis.
type Panel struct {
	Y      string // with unit
	Series []Series
	Step   bool // values hold until the next one
	Legend bool // in the upper left corner
}

// The height of a panel, and of what surrounds them all.
const (
	panelHeight = 1.7 * vg.Inch
	panelExtra  = 0.6 * vg.Inch
)

// DrawPanels writes panels one below the other, in the format that the suffix
// of name asks for. Series of one name have one colour throughout.
func DrawPanels(w io.Writer, name string, axes Axes, panels ...Panel) error {
	colors := map[string]color.Color{}
	column := make([][]*plot.Plot, len(panels))
	for i, panel := range panels {
		p := plot.New()
		p.Y.Label.Text = panel.Y
		p.Add(plotter.NewGrid())
		if err := panel.add(p, colors); err != nil {
			return err
		}
		column[i] = []*plot.Plot{p}
	}
	first, last := column[0][0], column[len(panels)-1][0]
	first.Title.Text, last.X.Label.Text = axes.Title, axes.X
	first.Title.Padding = font.Points(8)
	return write(w, name, width*1.4, panelHeight*vg.Length(len(panels))+panelExtra, func(c draw.Canvas) {
		tiles := draw.Tiles{Rows: len(panels), Cols: 1, PadTop: font.Points(6), PadBottom: font.Points(6), PadRight: font.Points(10)}
		for i, canvases := range plot.Align(column, tiles, c) {
			column[i][0].Draw(canvases[0])
		}
	})
}

func (panel Panel) add(p *plot.Plot, colors map[string]color.Color) error {
	p.Legend.Top, p.Legend.Left = true, true
	for _, s := range panel.Series {
		xys := make(plotter.XYs, len(s.Points))
		for i, pt := range s.Points {
			xys[i].X, xys[i].Y = pt.X, pt.Y
		}
		line, err := plotter.NewLine(xys)
		if err != nil {
			return fmt.Errorf("draw %s: %w", s.Name, err)
		}
		if panel.Step {
			line.StepStyle = plotter.PostStep
		}
		if colors[s.Name] == nil {
			colors[s.Name] = palette[len(colors)%len(palette)]
		}
		line.Color = colors[s.Name]
		p.Add(line)
		if panel.Legend {
			p.Legend.Add(s.Name, line)
		}
	}
	return nil
}
