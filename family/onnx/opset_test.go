package onnx_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/limber-edge/limber/family/onnx"
	"github.com/limber-edge/limber/family/ort"
	"github.com/limber-edge/limber/family/ort/orttest"
)

// Operator sets at the two ends of what is let in.
const oldest, newest = 7, 26

// sample uses one operator to turn x, 1×3×2×2, into y of the same shape.
type sample struct {
	op    string
	from  uint64 // operator set in which this form of it appeared
	in    []string
	attrs [][]byte
}

// samples are what classifiers are made of. Operator sets up to 25 define some
// of them anew, such as Cast, Reshape, Transpose and Pad.
func samples() []sample {
	window := [][]byte{ints("kernel_shape", 1, 1)}
	return []sample{
		{op: "Relu"}, {op: "Identity"}, {op: "Sigmoid"}, {op: "Tanh"}, {op: "Softmax"}, {op: "LeakyRelu"}, {op: "Elu"},
		{op: "HardSigmoid"}, {op: "Transpose", attrs: [][]byte{ints("perm", 0, 1, 2, 3)}}, {op: "Cast",
			attrs: [][]byte{integer("to", 1)}},
		{op: "Concat", attrs: [][]byte{integer("axis", 0)}}, {op: "MaxPool", attrs: window},
		{op: "AveragePool", attrs: window},
		{op: "Conv", in: []string{"kernel"}, attrs: window}, {op: "MatMul", in: []string{"square"}},
		{op: "Add", in: []string{"one"}}, {op: "Mul", in: []string{"one"}}, {op: "Div", in: []string{"one"}},
		{op: "Pow", in: []string{"one"}},
		{op: "PRelu", in: []string{"one"}}, {op: "Sum", from: 8, in: []string{"one"}}, {op: "Max", from: 8,
			in: []string{"one"}},
		{op: "BatchNormalization", in: []string{"three", "three", "three", "three"}}, {op: "InstanceNormalization",
			in: []string{"three", "three"}},
		{op: "Reshape", in: []string{"shape"}}, {op: "Tile", in: []string{"repeats"}}, {op: "Expand", from: 8,
			in: []string{"shape"}},
		{op: "Erf", from: 9}, {op: "Clip", from: 11}, {op: "Pad", from: 11, in: []string{"pads"}},
		{op: "HardSwish", from: 14},
		{op: "LayerNormalization", from: 17, in: []string{"two"}}, {op: "Mish", from: 18}, {op: "Gelu", from: 20},
	}
}

// model is the sample in a model of an operator set.
func (s sample) model(opset uint64) []byte {
	n := str(1, "x")
	for _, name := range s.in {
		n = append(n, str(1, name)...)
	}
	n = append(n, str(2, "y")...)
	n = append(n, str(4, s.op)...)
	for _, a := range s.attrs {
		n = append(n, message(5, a)...)
	}
	return model(opset, message(1, n), str(2, "g"),
		ones("one", 1), ones("two", 2), ones("three", 3), ones("square", 2, 2), ones("kernel", 3, 3, 1, 1),
		integers("shape", 1, 3, 2, 2), integers("repeats", 1, 1, 1, 1), integers("pads", 0, 0, 0, 0, 0, 0, 0, 0),
		value(11, "x", 1, 1, 3, 2, 2), value(12, "y", 1, 1, 3, 2, 2))
}

func integer(name string, v uint64) []byte {
	return bytes.Join([][]byte{str(1, name), varint(3, v), varint(20, 2)}, nil)
}

func ints(name string, v ...uint64) []byte {
	b := str(1, name)
	for _, n := range v {
		b = append(b, varint(8, n)...)
	}
	return append(b, varint(20, 7)...)
}

// ones is a weight of float32 ones.
func ones(name string, dims ...uint64) []byte {
	var shape, numbers []byte
	n := uint64(1)
	for _, d := range dims {
		shape = append(shape, varint(1, d)...)
		n *= d
	}
	for range n {
		numbers = protowire.AppendFixed32(numbers, 0x3f800000)
	}
	return message(5, shape, varint(2, 1), str(8, name), message(9, numbers))
}

// integers is a weight of int64.
func integers(name string, v ...uint64) []byte {
	var packed []byte
	for _, n := range v {
		packed = protowire.AppendVarint(packed, n)
	}
	return message(5, varint(1, uint64(len(v))), varint(2, 7), str(8, name), message(7, packed))
}

// runs tells what the library says of a model.
func runs(rt *ort.Runtime, model []byte) error {
	b, err := rt.NewBatch(model, "x", []string{"y"}, ort.DefaultOptions())
	if err != nil {
		return err
	}
	_, err = b.Run(make([]float32, 12), 1, 2)
	return errors.Join(err, b.Close())
}

func TestM12_EveryOperatorSetThatIsLetInRuns(t *testing.T) {
	rt := orttest.Open(t)
	for opset := uint64(oldest); opset <= newest; opset++ {
		for _, s := range samples() {
			if opset < s.from {
				continue
			}
			m := s.model(opset)
			if info, err := onnx.Scan(m); err != nil || info.Opset != int(opset) {
				t.Errorf("%s of operator set %d: scan got %+v, %v", s.op, opset, info, err)
			}
			if err := runs(rt, m); err != nil {
				t.Errorf("%s of operator set %d: %v", s.op, opset, err)
			}
		}
	}
}

// The library knows no operator set beyond the newest; of those before the
// oldest it promises nothing, and lacks what nearly every network uses.
func TestM12_OperatorSetsBeyondTheEndsAreRefusedByTheScanAndTheLibrary(t *testing.T) {
	rt := orttest.Open(t)
	for _, opset := range []uint64{oldest - 1, newest + 1} {
		m := sample{op: "Add", in: []string{"one"}}.model(opset)
		if _, err := onnx.Scan(m); !errors.Is(err, onnx.ErrRefused) || !strings.Contains(err.Error(), "knows 7 to 26") {
			t.Errorf("operator set %d: scan got %v, want it refused with what is known", opset, err)
		}
		if err := runs(rt, m); err == nil {
			t.Errorf("operator set %d: the library runs it; should the scan let it in?", opset)
		}
	}
}
