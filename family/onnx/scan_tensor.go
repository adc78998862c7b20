package onnx

import (
	"cmp"
	"errors"
	"fmt"
	"math"

	"google.golang.org/protobuf/encoding/protowire"
)

// The element types of onnx.proto's TensorProto that weights may have, and
// their sizes in bytes.
var elementSizes = map[uint64]int64{
	1: 4, 2: 1, 3: 1, 4: 2, 5: 2, 6: 4, 7: 8, 9: 1, 10: 2, 11: 8, 12: 4, 13: 8, 16: 2,
}

// tensor reads a TensorProto and returns its name. Its numbers must be there,
// exactly as many as its shape says.
func (s *scanner) tensor(b []byte) (name string, err error) {
	var t tensorProto
	if err := each(b, t.field); err != nil {
		return t.name, fmt.Errorf("tensor %q: %w", t.name, err)
	}
	n, err := t.check()
	if err != nil {
		return t.name, fmt.Errorf("tensor %q: %w", t.name, err)
	}
	s.parameters += n
	return t.name, nil
}

// tensorProto is what matters of one.
type tensorProto struct {
	name    string
	dims    []int64
	kind    uint64
	raw     int64 // bytes of raw_data, -1 for none
	typed   int64 // numbers in the typed fields
	hasRaw  bool
	strings bool
}

func (t *tensorProto) field(f field) (err error) {
	switch f.number {
	case 1:
		return t.addDims(f)
	case 2:
		t.kind = f.value
	case 4, 5, 7, 10, 11:
		n, err := numbers(f)
		t.typed += n
		return err
	case 6:
		t.strings = true
	case 8:
		t.name, err = f.text()
	case 9:
		t.raw, t.hasRaw = int64(len(f.bytes)), true
	case 13:
		return errors.New("its numbers are in another file (external_data), which is not let in: save the model as one file")
	case 14:
		if f.value != 0 {
			return errors.New("its numbers are in another place (data_location), which is not let in: save the model as one " +
				"file")
		}
	}
	return err
}

// addDims takes one dimension, or many in the packed form.
func (t *tensorProto) addDims(f field) error {
	packed := f.bytes
	if f.kind == protowire.VarintType {
		packed = protowire.AppendVarint(nil, f.value)
	}
	for len(packed) > 0 {
		v, n := protowire.ConsumeVarint(packed)
		if n < 0 {
			return errProtobuf
		}
		packed = packed[n:]
		if len(t.dims) == maxDims {
			return fmt.Errorf("more than %d dimensions", maxDims)
		}
		t.dims = append(t.dims, int64(v))
	}
	return nil
}

// check returns how many numbers the tensor has, if they are all there.
func (t *tensorProto) check() (int64, error) {
	size, known := elementSizes[t.kind]
	if !known || t.strings {
		return 0, fmt.Errorf("element type %d is not let in", t.kind)
	}
	n := int64(1)
	for _, d := range t.dims {
		if d < 0 || d > maxNumbers || n*max(d, 1) > maxNumbers {
			return 0, fmt.Errorf("shape %v is over %d numbers", t.dims, int64(maxNumbers))
		}
		n *= d
	}
	found := t.typed
	if t.hasRaw {
		found = t.raw / size
		if t.raw%size != 0 || t.typed > 0 {
			return 0, fmt.Errorf("%d bytes of raw data beside %d numbers do not hold its type", t.raw, t.typed)
		}
	}
	if found != n {
		return 0, fmt.Errorf("shape %v holds %d numbers, there are %d", t.dims, n, found)
	}
	return n, nil
}

// numbers counts those of a typed field, packed or not.
func numbers(f field) (int64, error) {
	if f.kind != protowire.BytesType {
		return 1, nil
	}
	switch f.number {
	case 4: // float_data
		if len(f.bytes)%4 != 0 {
			return 0, errProtobuf
		}
		return int64(len(f.bytes) / 4), nil
	case 10: // double_data
		if len(f.bytes)%8 != 0 {
			return 0, errProtobuf
		}
		return int64(len(f.bytes) / 8), nil
	}
	var n int64
	for b := f.bytes; len(b) > 0; n++ {
		_, size := protowire.ConsumeVarint(b)
		if size < 0 {
			return 0, errProtobuf
		}
		b = b[size:]
	}
	return n, nil
}

// declared is what the file says of a tensor that enters or leaves.
type declared struct {
	Value
	free  bool  // a dimension is free by its number, -1 or 0, and not by a name
	fault error // why it cannot enter or leave; a weight that is listed as an input may have one
}

// port reads a ValueInfoProto. Its error is of the file; what the tensor is may
// be its fault.
func port(b []byte) (declared, error) {
	var v declared
	var kind []byte
	err := each(b, func(f field) (err error) {
		switch f.number {
		case 1:
			v.Name, err = f.text()
		case 2:
			kind = f.bytes
		}
		return err
	})
	if err == nil {
		err = each(kind, func(f field) error {
			if f.number != 1 {
				v.fault = errors.New("it is no tensor")
				return nil
			}
			return v.tensorType(f.bytes)
		})
	}
	if err != nil {
		return v, fmt.Errorf("input or output %q: %w", v.Name, err)
	}
	return v, nil
}

// tensorType reads a TypeProto.Tensor.
func (v *declared) tensorType(b []byte) error {
	var kind uint64
	err := each(b, func(f field) error {
		switch f.number {
		case 1:
			kind = f.value
		case 2:
			return each(f.bytes, func(dim field) error { return v.dimension(dim.bytes) })
		}
		return nil
	})
	if err == nil && kind != 1 {
		v.fault = fmt.Errorf("it is %s of %s, wants float32: export it with an input and an output of float32",
			elementName(kind), v.Shape())
	}
	return err
}

// elementName is how people call an element type of TensorProto.
func elementName(kind uint64) string {
	names := map[uint64]string{2: "uint8", 3: "int8", 6: "int32", 7: "int64", 8: "text", 9: "bool", 10: "float16",
		11: "float64", 16: "bfloat16"}
	return cmp.Or(names[kind], fmt.Sprintf("element type %d", kind))
}

// dimension reads a TensorShapeProto.Dimension. One that is only named is free,
// and so is one of -1 or 0, which some exporters write.
func (v *declared) dimension(b []byte) error {
	if len(v.Dims) == maxDims {
		return fmt.Errorf("more than %d dimensions", maxDims)
	}
	size := Dynamic
	err := each(b, func(f field) error {
		if f.number != 1 {
			return nil
		}
		switch n := int64(f.value); {
		case n == -1 || n == 0:
			size, v.free = Dynamic, true
		case n < 0 || n > math.MaxInt32:
			return fmt.Errorf("a dimension of %d", n)
		default:
			size = int(n)
		}
		return nil
	})
	v.Dims = append(v.Dims, size)
	return err
}
