package family

import (
	"encoding/binary"
	"errors"
	"math"
)

// Floats reads raw little-endian float32.
func Floats(b []byte) ([]float32, error) {
	if len(b)%4 != 0 {
		return nil, errors.New("not a whole number of float32")
	}
	v := make([]float32, len(b)/4)
	for i := range v {
		v[i] = math.Float32frombits(binary.LittleEndian.Uint32(b[4*i:]))
	}
	return v, nil
}

// FloatBytes writes raw little-endian float32.
func FloatBytes(v []float32) []byte {
	b := make([]byte, 0, 4*len(v))
	for _, x := range v {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(x))
	}
	return b
}
