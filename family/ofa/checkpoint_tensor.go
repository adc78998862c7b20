package ofa

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
)

// elemType is the type of the elements of a storage.
type elemType struct {
	size  int64 // bytes
	float floatFormat
}

type floatFormat uint8

const (
	notFloat floatFormat = iota // counters and indices, never read
	float16                     // IEEE binary16
	bfloat16                    // the upper half of a float32
	float32le
	float64le
)

// storageElem tells the element type from the class that names it in a pickle.
func storageElem(class pyGlobal) (elemType, bool) {
	elem, ok := map[pyGlobal]elemType{
		"torch.FloatStorage": {4, float32le}, "torch.HalfStorage": {2, float16},
		"torch.BFloat16Storage": {2, bfloat16}, "torch.DoubleStorage": {8, float64le},
		"torch.LongStorage": {8, notFloat}, "torch.IntStorage": {4, notFloat}, "torch.ShortStorage": {2, notFloat},
		"torch.CharStorage": {1, notFloat}, "torch.ByteStorage": {1, notFloat}, "torch.BoolStorage": {1, notFloat},
	}[class]
	return elem, ok
}

// decode converts len(dst) little-endian numbers.
func (f floatFormat) decode(dst []float32, src []byte) {
	switch f {
	case float32le:
		for i := range dst {
			dst[i] = math.Float32frombits(binary.LittleEndian.Uint32(src[4*i:]))
		}
	case float64le:
		for i := range dst {
			dst[i] = float32(math.Float64frombits(binary.LittleEndian.Uint64(src[8*i:])))
		}
	case bfloat16:
		for i := range dst {
			dst[i] = math.Float32frombits(uint32(binary.LittleEndian.Uint16(src[2*i:])) << 16)
		}
	case float16:
		for i := range dst {
			dst[i] = fromHalf(binary.LittleEndian.Uint16(src[2*i:]))
		}
	}
}

// fromHalf converts an IEEE binary16 number; every one has an exact float32.
func fromHalf(h uint16) float32 {
	sign := uint32(h>>15) << 31
	exponent, fraction := uint32(h>>10)&0x1f, uint32(h)&0x3ff
	switch exponent {
	case 0: // zero or subnormal: fraction * 2^-24
		v := float32(fraction) / (1 << 24)
		return math.Float32frombits(math.Float32bits(v) | sign)
	case 0x1f: // infinity or NaN
		return math.Float32frombits(sign | 0xff<<23 | fraction<<13)
	}
	return math.Float32frombits(sign | (exponent+127-15)<<23 | fraction<<13)
}

// numel is the number of elements, or an error if it exceeds any real file's.
func (t *pyTensor) numel() (int64, error) {
	if slices.Contains(t.shape, 0) {
		return 0, nil
	}
	n := int64(1)
	for _, d := range t.shape {
		if d > math.MaxInt32 || n > math.MaxInt32 {
			return 0, fmt.Errorf("shape %v is too large", t.shape)
		}
		n *= d
	}
	return n, nil
}

// check makes sure that every element lies inside the storage.
func (t *pyTensor) check() error {
	if len(t.shape) != len(t.stride) {
		return fmt.Errorf("shape %v and stride %v differ in length", t.shape, t.stride)
	}
	n, err := t.numel()
	if err != nil {
		return err
	}
	last, end := t.offset, t.storage.numel
	inside := last >= 0 && last <= end
	for i, d := range t.shape {
		if n == 0 || d == 1 {
			continue
		}
		// Compared before multiplying, so nothing overflows.
		inside = inside && t.stride[i] <= (end-last)/(d-1)
		if inside {
			last += t.stride[i] * (d - 1)
		}
	}
	if !inside || n > 0 && last >= end {
		return fmt.Errorf("shape %v with stride %v from element %d reaches beyond the %d elements of storage %q",
			t.shape, t.stride, t.offset, end, clip(t.storage.key, 200))
	}
	return nil
}

// contiguous reports whether the elements follow each other in row-major order.
func (t *pyTensor) contiguous() bool {
	want := int64(1)
	for i := len(t.shape) - 1; i >= 0; i-- {
		if t.shape[i] != 1 && t.stride[i] != want {
			return false
		}
		want *= t.shape[i]
	}
	return true
}

// gather copies the elements of a view into row-major order.
func (t *pyTensor) gather(dst, storage []float32) {
	index := make([]int64, len(t.shape))
	at := t.offset
	for i := range dst {
		dst[i] = storage[at]
		for k := len(index) - 1; k >= 0; k-- { // count up like an odometer
			at += t.stride[k]
			if index[k]++; index[k] < t.shape[k] {
				break
			}
			at -= t.stride[k] * t.shape[k]
			index[k] = 0
		}
	}
}

// tensorLoader turns the tensors of a state_dict into numbers, reading each
// storage once.
type tensorLoader struct {
	source  storageSource
	size    int // bytes of the file
	bytes   int // still to be read; entries that overlap would exceed it
	numbers int // still to be allocated: four times the file's size in bytes
	read    map[*pyStorage][]float32
}

func (l *tensorLoader) load(state *pyDict) (*Checkpoint, error) {
	c := &Checkpoint{tensors: map[string]Tensor{}}
	for _, item := range state.items {
		name, isText := item.key.(pyText)
		t, isTensor := item.value.(*pyTensor)
		if !isText || !isTensor || t.storage.elem.float == notFloat {
			continue
		}
		if _, twice := c.tensors[string(name)]; twice {
			return nil, fmt.Errorf("tensor %q is in the state_dict twice", clip(string(name), 200))
		}
		tensor, err := l.tensor(t)
		if err != nil {
			return nil, fmt.Errorf("tensor %q: %w", clip(string(name), 200), err)
		}
		c.names = append(c.names, string(name))
		c.tensors[string(name)] = tensor
	}
	if len(c.names) == 0 {
		return nil, errors.New("the checkpoint holds no state_dict: no floating-point tensor is in it")
	}
	return c, nil
}

func (l *tensorLoader) tensor(t *pyTensor) (Tensor, error) {
	n, err := t.numel()
	if err != nil {
		return Tensor{}, err
	}
	shape := make([]int, len(t.shape))
	for i, d := range t.shape {
		shape[i] = int(d)
	}
	storage, err := l.storage(t.storage)
	if err != nil {
		return Tensor{}, fmt.Errorf("storage %q: %w", clip(t.storage.key, 200), err)
	}
	if n == 0 || t.contiguous() {
		return Tensor{shape, storage[t.offset : t.offset+n : t.offset+n]}, nil
	}
	data, err := l.alloc(n)
	if err != nil {
		return Tensor{}, err
	}
	t.gather(data, storage)
	return Tensor{shape, data}, nil
}

// alloc hands out memory while the file is large enough to account for it.
func (l *tensorLoader) alloc(n int64) ([]float32, error) {
	if n > int64(l.numbers) {
		return nil, fmt.Errorf("the tensors unfold to more numbers than a file of %d bytes accounts for", l.size)
	}
	l.numbers -= int(n)
	return make([]float32, n), nil
}

func (l *tensorLoader) storage(s *pyStorage) ([]float32, error) {
	if data, ok := l.read[s]; ok {
		return data, nil
	}
	b, err := l.source(s)
	if err != nil {
		return nil, err
	}
	if len(b) > l.bytes {
		return nil, fmt.Errorf("the storages claim more bytes than the file has, %d", l.size)
	}
	l.bytes -= len(b)
	if size := int64(len(b)); size%s.elem.size != 0 || size/s.elem.size != s.numel {
		return nil, fmt.Errorf("%d bytes are not the %d elements declared", size, s.numel)
	}
	data, err := l.alloc(s.numel)
	if err != nil {
		return nil, err
	}
	s.elem.float.decode(data, b)
	l.read[s] = data
	return data, nil
}
