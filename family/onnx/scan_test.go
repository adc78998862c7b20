package onnx_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/limber-edge/limber/family/onnx"
)

// classifier is a small sound model: 1×3×2×2 in, 1×3 out, one weight of four
// bytes.
func classifier(tb testing.TB) []byte {
	tb.Helper()
	g := onnx.New("sums", onnx.Value{Name: "x", Dims: []int{onnx.Dynamic, 3, 2, 2}})
	mean := g.Node("ReduceMean", "mean", []string{"x"}, onnx.Ints("axes", 2, 3), onnx.Int("keepdims", 0))
	g.Node("Mul", "y", []string{mean, g.Weight("four", []int{1}, []float32{4})})
	g.Output(onnx.Value{Name: "y", Dims: []int{onnx.Dynamic, 3}})
	b, err := g.Marshal()
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

func TestScanLetsOurOwnModelsIn(t *testing.T) {
	info, err := onnx.Scan(classifier(t))
	if err != nil || info.Opset != 17 || info.Parameters != 1 || info.Input.Name != "x" || info.Output.Name != "y" ||
		fmt.Sprint(info.Input.Dims, info.Output.Dims) != "[0 3 2 2] [0 3]" {
		t.Errorf("got %+v, %v", info, err)
	}
}

// message is a length-delimited field.
func message(number protowire.Number, body ...[]byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(nil, number, protowire.BytesType), bytes.Join(body, nil))
}

func str(number protowire.Number, s string) []byte { return message(number, []byte(s)) }

func varint(number protowire.Number, v uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(nil, number, protowire.VarintType), v)
}

// Parts of onnx.proto, by the names they have there.
func model(opset uint64, graph ...[]byte) []byte {
	return bytes.Join([][]byte{varint(1, 8), message(7, graph...), message(8, varint(2, opset))}, nil)
}

func value(number protowire.Number, name string, kind uint64, dims ...uint64) []byte {
	var shape []byte
	for _, d := range dims {
		shape = append(shape, message(1, varint(1, d))...)
	}
	return message(number, str(1, name), message(2, message(1, varint(1, kind), message(2, shape))))
}

func node(op string, more ...[]byte) []byte {
	return message(1, append([][]byte{str(1, "x"), str(2, "y"), str(3, "n"), str(4, op)}, more...)...)
}

func weight(fields ...[]byte) []byte { return message(5, append([][]byte{str(8, "w")}, fields...)...) }

// whole is a graph with what every model has, and more.
func whole(more ...[]byte) []byte {
	return model(17, append([][]byte{node("Relu"), value(11, "x", 1, 1, 3, 2, 2), value(12, "y", 1, 1, 3)}, more...)...)
}

func TestForeignModelsAreRefusedBeforeTheyAreLoaded(t *testing.T) {
	if _, err := onnx.Scan(whole(weight(varint(1, 2), varint(2, 1), message(9, make([]byte, 8))))); err != nil {
		t.Fatalf("the model that the rows spoil: %v", err)
	}
	external := func(path string) []byte {
		return weight(varint(1, 2), varint(2, 1), message(13, str(1, "location"), str(2, path)), varint(14, 1))
	}
	for _, tt := range []struct {
		name  string
		model []byte
		want  string
	}{
		{"M9 external data above the folder", whole(external("../../etc/passwd")), "external_data"},
		{"M9 external data by absolute path", whole(external("/etc/passwd")), "external_data"},
		{"M9 external data beside the model", whole(external("weights.bin")), "external_data"},
		{"M9 external data in memory", whole(external("*/_ORT_MEM_ADDR_/")), "external_data"},
		{"M9 data location alone", whole(weight(varint(1, 2), varint(2, 1), varint(14, 1))), "data_location"},
		{"M9 external data in a constant", whole(node("Constant", message(5, str(1, "value"),
			message(5, varint(2, 1), message(13, str(1, "location")))))), "external_data"},
		{"M10 empty", nil, "0 graphs"},
		{"M10 text", []byte("this is a text file and no model at all"), "protobuf"},
		{"M10 cut off", whole()[:20], "protobuf"},
		{"M11 huge declared tensor", whole(weight(varint(1, 1<<40), varint(2, 1))), "numbers"},
		{"M11 shape that overflows", whole(weight(varint(1, 1<<31), varint(1, 1<<31), varint(1, 1<<31), varint(2, 1))),
			"numbers"},
		{"M11 negative dimension", whole(weight(varint(1, 1<<63), varint(2, 1))), "numbers"},
		{"M11 fewer numbers than declared", whole(weight(varint(1, 1000), varint(2, 1), message(9, make([]byte, 8)))),
			"holds 1000 numbers, there are 2"},
		{"M11 numbers twice", whole(weight(varint(1, 2), varint(2, 1), message(4, make([]byte, 8)),
			message(9, make([]byte, 8)))), "beside"},
		{"M11 half a number", whole(weight(varint(1, 2), varint(2, 1), message(9, make([]byte, 7)))), "raw data"},
		{"M11 endless Loop", whole(node("Loop", message(5, str(1, "body"), message(6, nil)))), "is Loop, which is not among"},
		{"M11 a hundred dimensions", whole(weight(message(1, bytes.Repeat([]byte{1}, 100)), varint(2, 1))), "dimensions"},
		{"M12 custom domain imported and used", append(whole(node("Relu", str(7, "ai.onnx.contrib"))),
			message(8, str(1, "ai.onnx.contrib"), varint(2, 1))...), "ai.onnx.contrib"},
		{"M12 custom domain used", whole(node("Relu", str(7, "com.evil"))), "com.evil"},
		{"M12 unknown operator", whole(node("PythonOp")), "PythonOp"},
		{"M12 If", whole(node("If")), "If"},
		{"M12 Loop", whole(node("Loop")), "Loop"},
		{"M12 Scan", whole(node("Scan")), "Scan"},
		{"M12 graph in an attribute", whole(node("Relu", message(5, message(6, nil)))), "graph"},
		{"M12 graphs in an attribute", whole(node("Relu", message(5, message(11, nil)))), "graph"},
		{"M12 functions", append(whole(), message(25, str(1, "Relu"))...), "functions"},
		{"M12 training graph", append(whole(), message(20, nil)...), "training"},
		{"M12 sparse weights", whole(message(15, nil)), "sparse"},
		{"M12 operator set too new", model(99, node("Relu"), value(11, "x", 1, 1), value(12, "y", 1, 1)), "operator set 99"},
		{"M12 no operator set", message(7, node("Relu")), "operator set -1"},
		{"M13 two inputs", whole(value(11, "z", 1, 1, 10)), "inputs are x 1x3x2x2, z 1x10: export"},
		{"M13 two outputs", whole(value(12, "z", 1, 1)), "2 outputs"},
		{"M13 no output", model(17, node("Relu"), value(11, "x", 1, 1)), "0 outputs"},
		{"M13 bytes in", model(17, node("Relu"), value(11, "x", 2, 1), value(12, "y", 1, 1)),
			"it is uint8 of 1, wants float32"},
		{"M13 dimension under -1", model(17, node("Relu"), value(11, "x", 1, 1<<64-2), value(12, "y", 1, 1)),
			"a dimension of -2"},
		{"M13 float16 out", model(17, node("Relu"), value(11, "x", 1, 1), value(12, "y", 10, 1, 3)),
			"it is float16 of 1x3, wants float32"},
		{"string weights", whole(weight(varint(1, 1), varint(2, 8), str(6, "x"))), "element type 8"},
		{"endless name", whole(message(1, str(3, strings.Repeat("n", 5000)))), "name of 5000 bytes"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := onnx.Scan(tt.model)
			if !errors.Is(err, onnx.ErrRefused) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want it refused with %q", err, tt.want)
			}
		})
	}
}

func TestM10_EveryPrefixOfAModelIsRefused(t *testing.T) {
	b := classifier(t)
	for n := range b {
		if _, err := onnx.Scan(b[:n]); err == nil {
			// A prefix that ends between two fields of the model may be whole.
			if rest := b[n:]; rest[0] != 0x42 {
				t.Errorf("the first %d of %d bytes were let in", n, len(b))
			}
		}
	}
}

func FuzzScan(f *testing.F) {
	f.Add(classifier(f))
	f.Add(whole(weight(varint(1, 2), varint(2, 1), message(9, make([]byte, 8)))))
	f.Add(listing())
	f.Fuzz(func(t *testing.T, b []byte) {
		info, err := onnx.Scan(b)
		if err == nil && (info.Opset < 7 || info.Parameters > int64(8*len(b))) {
			t.Errorf("let in: %+v of %d bytes", info, len(b))
		}
		plain, _, _, err := onnx.Plain(b, 3)
		if err != nil {
			return
		}
		if again, _, changed, err := onnx.Plain(plain, 3); err != nil || len(changed) > 0 || !bytes.Equal(again, plain) {
			t.Errorf("a plain model is no plain one: %v, %v", changed, err)
		}
	})
}
