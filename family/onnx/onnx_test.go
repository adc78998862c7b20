package onnx_test

import (
	"strings"
	"testing"

	"github.com/limber-edge/limber/family/onnx"
	"github.com/limber-edge/limber/family/ort"
	"github.com/limber-edge/limber/family/ort/orttest"
)

func TestModelRunsInONNXRuntime(t *testing.T) {
	g := onnx.New("test", onnx.Value{Name: "x", Dims: []int{onnx.Dynamic, 3, 2, 2}})
	weight := g.Weight("w", []int{2, 3, 1, 1}, []float32{1, 0, 0, 0, 1, -1})
	conv := g.Node("Conv", "conv", []string{"x", weight}, onnx.Ints("kernel_shape", 1, 1), onnx.Int("group", 1))
	relu := g.Node("LeakyRelu", "relu", []string{conv}, onnx.Float("alpha", 0.5))
	g.Node("GlobalAveragePool", "y", []string{relu})
	g.Output(onnx.Value{Name: "y", Dims: []int{onnx.Dynamic, 2, 1, 1}})
	g.Output(onnx.Value{Name: "conv", Dims: []int{onnx.Dynamic, 2, 2, 2}})
	model, err := g.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	run, err := orttest.Open(t).NewBatch(model, "x", []string{"y", "conv"}, ort.DefaultOptions())
	if err != nil {
		t.Fatal(err)
	}
	defer run.Close()
	out, err := run.Run([]float32{1, 2, 3, 4, 0, 0, 0, 0, 2, 2, 2, 2}, 1, 2)
	if err != nil {
		t.Fatal(err)
	}
	if y := out[0]; len(y) != 2 || y[0] != 2.5 || y[1] != -1 {
		t.Errorf("got %v, want the mean of red, and half of green less blue: [2.5 -1]", y)
	}
	if c := out[1]; len(c) != 8 || c[3] != 4 || c[7] != -2 {
		t.Errorf("got %v, want the convolution [1 2 3 4 -2 -2 -2 -2]", c)
	}
}

func TestMisuseIsSaidWhenTheModelIsWritten(t *testing.T) {
	for _, tt := range []struct {
		name   string
		misuse func(g *onnx.Graph)
		says   string
	}{
		{"reads what is not there", func(g *onnx.Graph) { g.Node("Relu", "y", []string{"z"}) },
			"node y reads z, which nothing wrote before it"},
		{"reads itself", func(g *onnx.Graph) { g.Node("Relu", "y", []string{"y"}) }, "node y reads y"},
		{"written twice", func(g *onnx.Graph) { g.Node("Relu", "x", []string{"x"}) }, "x is written twice"},
		{"weight of a node's name", func(g *onnx.Graph) {
			g.Node("Relu", "y", []string{"x"})
			g.Weight("y", []int{1}, []float32{1})
		}, "y is written twice"},
		{"too few numbers", func(g *onnx.Graph) { g.Weight("w", []int{2, 3}, make([]float32, 5)) },
			"weight w: shape [2 3] holds 6 numbers, not 5"},
		{"too many numbers", func(g *onnx.Graph) { g.Weight("w", nil, make([]float32, 2)) }, "holds 1 numbers, not 2"},
		{"output of nothing", func(g *onnx.Graph) { g.Output(onnx.Value{Name: "y"}) }, "output y is written by no node"},
		{"the first of two", func(g *onnx.Graph) {
			g.Output(onnx.Value{Name: "first"})
			g.Output(onnx.Value{Name: "second"})
		}, "output first"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g := onnx.New("broken", onnx.Value{Name: "x", Dims: []int{1}})
			tt.misuse(g)
			b, err := g.Marshal()
			if err == nil || b != nil || !strings.Contains(err.Error(), "onnx graph broken: ") ||
				!strings.Contains(err.Error(), tt.says) {
				t.Errorf("got %d bytes, %v; want %q", len(b), err, tt.says)
			}
		})
	}
}

func TestGraphKeepsItsOwnWeights(t *testing.T) {
	build := func(change bool) string {
		data := []float32{1, 2}
		g := onnx.New("g", onnx.Value{Name: "x", Dims: []int{2}})
		g.Node("Add", "y", []string{"x", g.Weight("w", []int{2}, data)})
		if change {
			data[0] = 9
		}
		g.Output(onnx.Value{Name: "y", Dims: []int{2}})
		b, err := g.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	if build(true) != build(false) {
		t.Error("the model follows the caller's slice")
	}
}
