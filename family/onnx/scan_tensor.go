package onnx

import (
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
			return errors.New("its numbers are in another place (data_location), which is not let in: save the model as one file")
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

// port reads a ValueInfoProto of a float32 tensor.
func port(b []byte) (Value, error) {
	var v Value
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
				return errors.New("it is no tensor")
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
func (v *Value) tensorType(b []byte) error {
	return each(b, func(f field) error {
		switch {
		case f.number == 1 && f.value != 1:
			return fmt.Errorf("element type %d, wants float32", f.value)
		case f.number == 2:
			return each(f.bytes, func(dim field) error { return v.dimension(dim.bytes) })
		}
		return nil
	})
}

// dimension reads a TensorShapeProto.Dimension. One that is only named is free.
func (v *Value) dimension(b []byte) error {
	if len(v.Dims) == maxDims {
		return fmt.Errorf("more than %d dimensions", maxDims)
	}
	size := Dynamic
	err := each(b, func(f field) error {
		if f.number == 1 {
			if f.value == 0 || f.value > math.MaxInt32 {
				return fmt.Errorf("a dimension of %d", int64(f.value))
			}
			size = int(f.value)
		}
		return nil
	})
	v.Dims = append(v.Dims, size)
	return err
}
