package onnx_test

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/limber-edge/limber/family/onnx"
	"github.com/limber-edge/limber/family/ort"
	"github.com/limber-edge/limber/family/ort/orttest"
)

// free is a dimension of -1.
const free = 1<<64 - 1

// op is a node that makes a tensor of others.
func op(name, out string, in ...string) []byte { return opWith(nil, name, out, in...) }

func opWith(attrs [][]byte, name, out string, in ...string) []byte {
	var n []byte
	for _, i := range in {
		n = append(n, str(1, i)...)
	}
	n = append(append(n, str(2, out)...), str(4, name)...)
	for _, a := range attrs {
		n = append(n, message(5, a)...)
	}
	return message(1, n)
}

// means gives the mean of each channel of an image as 1×3, after the nodes that
// make y of the 1×3×1×1 means m; it needs no weights.
func means(in []uint64, out []uint64, last ...[]byte) [][]byte {
	return slices.Concat([][]byte{op("GlobalAveragePool", "m", "x")}, last, [][]byte{str(2, "g"), value(11, "x", 1, in...),
		value(12, "y", 1, out...)})
}

// square are the dimensions of one image.
var square = []uint64{1, 3, 2, 2}

// listing is a model of IR version 3, whose weights are inputs, too: one of
// float32, and one of int64.
func listing() []byte {
	graph := slices.Concat([][]byte{ones("one", 3), integers("shape", 1, 3)},
		means(square, []uint64{1, 3}, op("Reshape", "flat", "m", "shape"), op("Mul", "y", "flat", "one")),
		[][]byte{value(11, "shape", 7, 2), value(11, "one", 1, 3)})
	return bytes.Join([][]byte{varint(1, 3), message(7, graph...), message(8, varint(2, 8))}, nil)
}

// imports adds an operator set to a model.
func imports(m []byte, domain string, version uint64) []byte {
	return append(bytes.Clone(m), message(8, str(1, domain), varint(2, version))...)
}

// numbersOf runs a model the way that devices do, on one image.
func numbersOf(t *testing.T, rt *ort.Runtime, model []byte, info onnx.Info) []float32 {
	t.Helper()
	b, err := rt.NewBatch(model, info.Input.Name, []string{info.Output.Name}, ort.DefaultOptions())
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	out, err := b.Run([]float32{1, 2, 3, 4, 10, 20, 30, 40, 100, 200, 300, 400}, 1, 2)
	if err != nil {
		t.Fatal(err)
	}
	return out[0]
}

func TestModelsOfTheFieldBecomePlain(t *testing.T) {
	rt := orttest.Open(t)
	flat := op("Flatten", "y", "m")
	plain := model(17, means(square, []uint64{1, 3}, flat)...)
	newer := slices.Concat([][]byte{ones("one", 3)}, means(square, []uint64{1, 3}, op("Flatten", "f", "m"),
		op("Mul", "y", "f", "one")), [][]byte{value(11, "one", 1, 3)})
	for _, tt := range []struct {
		name    string
		model   []byte
		changed string
	}{
		{"plain", plain, ""},
		{"batch by name", model(17, slices.Concat([][]byte{op("GlobalAveragePool", "m", "x"), flat},
			[][]byte{named(11, "x", 3, 2, 2), named(12, "y", 3)})...), ""},
		{"batch of -1", model(17, means([]uint64{free, 3, 2, 2}, []uint64{free, 3}, flat)...), "free dimensions have a name"},
		{"batch of 0", model(17, means([]uint64{0, 3, 2, 2}, []uint64{0, 3}, flat)...), "free dimensions have a name"},
		{"batch of -1 in front alone", model(17, means([]uint64{free, 3, 2, 2}, []uint64{1, 3}, flat)...),
			"free dimensions have a name"},
		{"everything that may be -1", model(17, means([]uint64{free, 3, free, 2}, []uint64{free, free}, flat)...),
			"free dimensions have a name"},
		{"weights as inputs", listing(), "2 weights are inputs no more"},
		{"weights as inputs, newer", model(17, newer...), "1 weights are inputs no more"},
		{"ai.onnx.ml", imports(plain, "ai.onnx.ml", 2), "imports"},
		{"com.microsoft of no version", imports(plain, "com.microsoft", 77), "imports"},
		{"domain of nobody's", imports(plain, "org.example", 1), "imports"},
		{"training domain", imports(plain, "ai.onnx.preview.training", 9), "imports"},
		{"logits 1xNx1x1", model(17, means(square, []uint64{1, 3, 1, 1}, op("Identity", "y", "m"))...),
			"its output of 1x3x1x1 is made 1x3"},
		{"logits of any batch x1x1", model(17, means([]uint64{free, 3, 2, 2}, []uint64{free, 3, 1, 1},
			op("Identity", "y", "m"))...), "1x3"},
		{"logits 1x1x1xN", model(17, means(square, []uint64{1, 1, 1, 3}, opWith([][]byte{ints("perm", 0, 2, 3, 1)},
			"Transpose", "y", "m"))...), "1x3"},
		{"logits without a batch", model(17, slices.Concat([][]byte{integers("three", 3)}, means(square, []uint64{3},
			op("Reshape", "y", "m", "three")))...), "its output of 3 is made 1x3"},
		{"logits of no stated shape", model(17, means(square, nil, op("Identity", "y", "m"))...),
			"its output of no stated shape is made 1x3"},
		{"everything", imports(imports(listing(), "ai.onnx.ml", 3), "x", 1), "2 weights are inputs no more"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, info, changed, err := onnx.Plain(tt.model, 3)
			if err != nil {
				t.Fatal(err)
			}
			if said := strings.Join(changed, ", "); !strings.Contains(said, tt.changed) || (said == "") != (tt.changed == "") {
				t.Errorf("got changes %q, want %q", said, tt.changed)
			}
			if (len(changed) == 0) != bytes.Equal(got, tt.model) {
				t.Errorf("got %d bytes of %d, and changes %q", len(got), len(tt.model), changed)
			}
			if d := info.Output.Dims; len(d) != 2 || d[1] != 3 && d[1] != onnx.Dynamic {
				t.Errorf("got an output of %v, want one of two dimensions", d)
			}
			if out := numbersOf(t, rt, got, info); !slices.Equal(out, []float32{2.5, 25, 250}) {
				t.Errorf("got %v, want the mean of each channel", out)
			}
		})
	}
}

// named is an input or output whose batch has a name.
func named(number protowire.Number, name string, dims ...uint64) []byte {
	shape := message(1, str(2, "batch"))
	for _, d := range dims {
		shape = append(shape, message(1, varint(1, d))...)
	}
	return message(number, str(1, name), message(2, message(1, varint(1, 1), message(2, shape))))
}

func TestWhatTakesNoSquareImagesSaysWhatItTakes(t *testing.T) {
	of := func(dims ...uint64) []byte {
		return model(17, means(dims, []uint64{1, 3}, op("Flatten", "y", "m"))...)
	}
	gives := func(dims ...uint64) []byte { return model(17, means(square, dims, op("Identity", "y", "m"))...) }
	for _, tt := range []struct {
		name  string
		model []byte
		says  []string
	}{
		{"NHWC", of(1, 32, 32, 3), []string{"input x 1x32x32x3", "channels last (NHWC)", "1x3x32x32", "--inputs-as-nchw x"}},
		{"NHWC of any batch", of(free, 32, 32, 3), []string{"x Nx32x32x3", "NHWC"}},
		{"NHWC of any size", of(1, free, free, 3), []string{"x 1xNxNx3", "NHWC", "1x3xRxR"}},
		{"NHWC of grey", of(1, 28, 28, 1), []string{"x 1x28x28x1", "NHWC), 1 of them"}},
		{"one channel", of(1, 1, 32, 32), []string{"x 1x1x32x32", "one channel (grey)", "makes grey of 1x3x32x32"}},
		{"four channels", of(1, 4, 32, 32), []string{"x 1x4x32x32", "4 channels", "export it for 1x3x32x32"}},
		{"not square", of(1, 3, 32, 48), []string{"x 1x3x32x48", "not square, 32 pixels high and 48 wide", "1x3x48x48"}},
		{"any size", of(1, 3, free, free), []string{"x 1x3xNxN", "of any size", "fixed size"}},
		{"batch of eight", of(8, 3, 32, 32), []string{"x 8x3x32x32", "batch of 8 images", "batch of 1"}},
		{"no batch", of(3, 32, 32), []string{"x 3x32x32", "without a batch dimension"}},
		{"text", of(1, 128), []string{"x 1x128", "not of images"}},
		{"other classes", gives(1, 7), []string{"output y 1x7", "not of 3 classes"}},
		{"one score", gives(1, 1), []string{"output y 1x1", "not of 3 classes"}},
		{"map", gives(1, 3, 7, 7), []string{"output y 1x3x7x7", "is a map", "mean"}},
		{"map of three", gives(1, 3, 3), []string{"output y 1x3x3", "is a map"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, _, _, err := onnx.Plain(tt.model, 3)
			if !errors.Is(err, onnx.ErrRefused) {
				t.Fatalf("got %v, want it refused", err)
			}
			for _, part := range tt.says {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("got %q, want it to say %q", err, part)
				}
			}
		})
	}
}

func TestTheScanFindsWhatMakesTheNumbers(t *testing.T) {
	softmax := op("Softmax", "p", "m")
	for _, tt := range []struct {
		name  string
		nodes [][]byte
		want  string
	}{
		{"at the end", [][]byte{op("Softmax", "y", "m")}, "Softmax"},
		{"behind a flattening", [][]byte{softmax, op("Flatten", "y", "p")}, "Softmax"},
		{"behind three nodes", [][]byte{softmax, op("Squeeze", "q", "p"), op("Identity", "r", "q"),
			op("Reshape", "y", "r", "s")}, "Softmax"},
		{"behind a quantisation", [][]byte{softmax, op("QuantizeLinear", "q", "p", "s"), op("DequantizeLinear", "y", "q",
			"s")}, "Softmax"},
		{"nodes in any order", [][]byte{op("Flatten", "y", "p"), softmax}, "Softmax"},
		{"written out", [][]byte{op("Exp", "e", "m"), op("ReduceSum", "s", "e"), op("Div", "y", "e", "s")}, "Softmax"},
		{"of logarithms", [][]byte{op("LogSoftmax", "y", "m")}, "LogSoftmax"},
		{"of logarithms in two steps", [][]byte{softmax, op("Log", "y", "p")}, "LogSoftmax"},
		{"in the middle", [][]byte{softmax, op("MatMul", "y", "p", "w")}, "MatMul"},
		{"of something else", [][]byte{softmax, op("Relu", "y", "m")}, "Relu"},
		{"another division", [][]byte{op("Exp", "e", "m"), op("ReduceSum", "s", "m"), op("Div", "y", "e", "s")}, "Div"},
		{"none", nil, ""},
		{"circle", [][]byte{op("Identity", "y", "z"), op("Identity", "z", "y")}, ""},
		{"no input", [][]byte{op("Identity", "y")}, ""},
	} {
		info, err := onnx.Scan(model(17, means(square, []uint64{1, 3}, tt.nodes...)...))
		if err != nil || info.Ends != tt.want {
			t.Errorf("%s: got %q, %v; want %q", tt.name, info.Ends, err, tt.want)
		}
	}
}

func TestALabelledModelComputesTheSameAndSaysEachThingOnce(t *testing.T) {
	m := classifier(t)
	labelled := m
	for _, value := range []string{"a, b", "c, d"} {
		var err error
		if labelled, err = onnx.Labelled(labelled, []onnx.Note{{Key: "classes", Value: value}}); err != nil {
			t.Fatal(err)
		}
	}
	if bytes.Count(labelled, []byte("classes")) != 1 || !bytes.Contains(labelled, []byte("c, d")) {
		t.Errorf("got %q, want the last note alone", labelled[len(m)-1:])
	}
	info, err := onnx.Scan(labelled)
	if err != nil {
		t.Fatal(err)
	}
	rt := orttest.Open(t)
	if got, want := numbersOf(t, rt, labelled, info), numbersOf(t, rt, m, info); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
