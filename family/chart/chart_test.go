package chart_test

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"math"
	"strings"
	"testing"

	"github.com/limber-edge/limber/family/chart"
)

func series() chart.Series {
	return chart.Series{Name: "stock", Points: []chart.Point{{X: 3.3, Y: 72.6, Label: "3.3M"},
		{X: 29.7, Y: 81.1, Label: "29.7M", Ring: true}}}
}

// mustDraw draws twice and reads the picture as XML.
func mustDraw(t *testing.T, draw func(io.Writer) error) string {
	t.Helper()
	var first, second bytes.Buffer
	if err := errors.Join(draw(&first), draw(&second)); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first.Bytes(), second.Bytes()) {
		t.Error("two drawings differ")
	}
	for d := xml.NewDecoder(bytes.NewReader(first.Bytes())); ; {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			return first.String()
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

func TestPicturesAreWholeAndTheSameEachTime(t *testing.T) {
	got := mustDraw(t, func(w io.Writer) error {
		mine := chart.Series{Name: "<mine>", Points: series().Points}
		return chart.Draw(w, "a.svg", chart.Axes{Title: "front", X: "million MACs", Y: "top-1, %"}, series(), mine)
	})
	for _, text := range []string{"front", "3.3M", "29.7M", "million MACs", "top-1, %", "stock", "&lt;mine&gt;", "10",
		"30", "74", "80"} {
		if !strings.Contains(got, ">"+text+"<") {
			t.Errorf("no %q in\n%s", text, got)
		}
	}
}

func TestOnePointIsAPictureToo(t *testing.T) {
	for _, at := range []float64{0, -3, 1e-9, 1e12, 1e300} {
		got := mustDraw(t, func(w io.Writer) error {
			return chart.Draw(w, "a.svg", chart.Axes{}, chart.Series{Points: []chart.Point{{X: at, Y: at}}})
		})
		if strings.Contains(got, "NaN") || strings.Contains(got, "Inf") || strings.Count(got, "<circle") != 1 {
			t.Errorf("%v: got\n%s", at, got)
		}
	}
}

func TestPanelsShareTheirAxis(t *testing.T) {
	panels := []chart.Panel{
		{Y: "accuracy", Legend: true, Series: []chart.Series{{Name: "ours", Points: series().Points}, {Name: "theirs",
			Points: series().Points}}},
		{Y: "load", Step: true, Series: []chart.Series{{Name: "hogs", Points: series().Points}}},
	}
	got := mustDraw(t, func(w io.Writer) error {
		return chart.DrawPanels(w, "a.svg", chart.Axes{Title: "trace", X: "seconds"}, panels...)
	})
	for _, text := range []string{"trace", "seconds", "accuracy", "load", "ours", "theirs"} {
		if !strings.Contains(got, ">"+text+"<") {
			t.Errorf("no %q in the picture", text)
		}
	}
}

func TestAValueHoldsUntilTheNextOneInSteps(t *testing.T) {
	p := chart.Panel{Step: true, Series: []chart.Series{{Points: []chart.Point{{X: 0, Y: 0}, {X: 1, Y: 1}}}}}
	got := mustDraw(t, func(w io.Writer) error { return chart.DrawPanels(w, "a.svg", chart.Axes{}, p) })
	if _, after, ok := strings.Cut(got, `points="`); !ok ||
		len(strings.Fields(after[:strings.Index(after, `"`)])) != 3 {
		t.Errorf("got\n%s\nwant a corner between the two points", got)
	}
}

func TestWhatCannotBeDrawnIsNamed(t *testing.T) {
	point := func(x, y float64) chart.Series {
		return chart.Series{Name: "stock", Points: []chart.Point{{X: x, Y: y}}}
	}
	for _, tt := range []struct {
		name   string
		series chart.Series
		says   string
	}{
		{"front.png", series(), "draw front.png: pictures are SVG: call it front.svg"},
		{"front", series(), "call it front.svg"},
		{"a.svg", chart.Series{Name: "stock"}, "no points of stock"},
		{"a.svg", point(math.NaN(), 1), "a point of stock at NaN, 1"},
		{"a.svg", point(1, math.Inf(-1)), "a point of stock at 1, -Inf"},
	} {
		err := chart.Draw(io.Discard, tt.name, chart.Axes{}, tt.series)
		if err == nil || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: got %v, want %q", tt.name, err, tt.says)
		}
	}
}
