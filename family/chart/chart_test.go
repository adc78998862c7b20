package chart_test

import (
	"bytes"
	"encoding/xml"
	"errors"
	"image/png"
	"io"
	"strings"
	"testing"

	"github.com/limber-edge/limber/family/chart"
)

func series() chart.Series {
	return chart.Series{Name: "stock", Points: []chart.Point{{3.3, 72.6, "3.3M"}, {29.7, 81.1, "29.7M"}}}
}

func TestPicturesAreWholeAndTheSameEachTime(t *testing.T) {
	axes := chart.Axes{Title: "front", X: "million MACs", Y: "top-1, %"}
	for _, name := range []string{"a.svg", "a.png"} {
		var first, second bytes.Buffer
		for _, w := range []io.Writer{&first, &second} {
			if err := chart.Draw(w, name, axes, series(), chart.Series{Name: "mine", Points: series().Points}); err != nil {
				t.Fatal(err)
			}
		}
		if !bytes.Equal(first.Bytes(), second.Bytes()) {
			t.Errorf("%s: two drawings differ", name)
		}
		switch name {
		case "a.svg":
			for _, text := range []string{"3.3M", "29.7M", "million MACs", "top-1, %", "stock"} {
				if !strings.Contains(first.String(), text) {
					t.Errorf("%s: no %q in it", name, text)
				}
			}
			d := xml.NewDecoder(&first)
			for {
				if _, err := d.Token(); errors.Is(err, io.EOF) {
					break
				} else if err != nil {
					t.Fatal(err)
				}
			}
		default:
			if _, err := png.Decode(&first); err != nil {
				t.Error(err)
			}
		}
	}
}

func TestPanelsShareTheirAxis(t *testing.T) {
	panels := []chart.Panel{
		{Y: "accuracy", Legend: true, Series: []chart.Series{{Name: "ours", Points: series().Points}, {Name: "theirs", Points: series().Points}}},
		{Y: "load", Step: true, Series: []chart.Series{{Name: "hogs", Points: series().Points}}},
	}
	var first, second bytes.Buffer
	for _, w := range []io.Writer{&first, &second} {
		if err := chart.DrawPanels(w, "a.svg", chart.Axes{Title: "trace", X: "seconds"}, panels...); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(first.Bytes(), second.Bytes()) {
		t.Error("two drawings differ")
	}
	for _, text := range []string{"trace", "seconds", "accuracy", "load", "ours", "theirs"} {
		if !strings.Contains(first.String(), ">"+text+"<") {
			t.Errorf("no %q in the picture", text)
		}
	}
}

func TestOtherFormatsAreNamed(t *testing.T) {
	err := chart.Draw(io.Discard, "front.pdf", chart.Axes{}, series())
	if err == nil || !strings.Contains(err.Error(), ".svg or .png") {
		t.Errorf("got %v, want the formats there are", err)
	}
}
