package ofa

import (
	"errors"
	"fmt"
	"slices"
)

var errPickleStack = errors.New("the pickle takes a value that it has not put on the stack")

func (u *unpickler) byte() (byte, error) {
	if u.pos == len(u.data) {
		return 0, errPickleEnd
	}
	u.pos++
	return u.data[u.pos-1], nil
}

// take reads n bytes; they stay part of the pickle.
func (u *unpickler) take(n int) ([]byte, error) {
	if n > len(u.data)-u.pos {
		return nil, errPickleEnd
	}
	u.pos += n
	return u.data[u.pos-n : u.pos], nil
}

// number reads the little-endian number behind an opcode: a value, a length or a
// slot.
func (u *unpickler) number(op byte) (uint32, error) {
	width := 1
	switch op {
	case opBinInt2:
		width = 2
	case opBinInt, opBinUnicode, opLongBinPut, opLongBinGet:
		width = 4
	}
	b, err := u.take(width)
	var v uint32
	for i, x := range b {
		v |= uint32(x) << (8 * i)
	}
	return v, err
}

func (u *unpickler) push(v pyValue) error {
	if len(u.stack) == maxStack {
		return fmt.Errorf("more than %d values are on the stack", maxStack)
	}
	u.stack = append(u.stack, v)
	return nil
}

func (u *unpickler) mark() error {
	if len(u.marks) == maxMarks {
		return fmt.Errorf("values are nested more than %d deep", maxMarks)
	}
	u.marks = append(u.marks, len(u.stack))
	return nil
}

// floor is the height below which values belong to an outer mark.
func (u *unpickler) floor() int {
	if len(u.marks) == 0 {
		return 0
	}
	return u.marks[len(u.marks)-1]
}

func (u *unpickler) top() (pyValue, error) {
	if len(u.stack) == u.floor() {
		return nil, errPickleStack
	}
	return u.stack[len(u.stack)-1], nil
}

func (u *unpickler) popN(n int) ([]pyValue, error) {
	from := len(u.stack) - n
	if from < u.floor() {
		return nil, errPickleStack
	}
	items := slices.Clone(u.stack[from:])
	u.stack = u.stack[:from]
	return items, nil
}

func (u *unpickler) popMark() ([]pyValue, error) {
	if len(u.marks) == 0 {
		return nil, errPickleStack
	}
	items, err := u.popN(len(u.stack) - u.floor())
	u.marks = u.marks[:len(u.marks)-1]
	return items, err
}

// operands pops the values down to the mark, or n of them. They go into the target,
// which is below them and stays.
func (u *unpickler) operands(marked bool, n int) (items []pyValue, target pyValue, err error) {
	if marked {
		items, err = u.popMark()
	} else {
		items, err = u.popN(n)
	}
	if err == nil {
		target, err = u.top()
	}
	return items, target, err
}

// result is the one value that a finished program leaves.
func (u *unpickler) result() (pyValue, error) {
	if len(u.stack) != 1 || len(u.marks) != 0 {
		return nil, fmt.Errorf("the pickle ends with %d values and %d open marks instead of one value", len(u.stack),
			len(u.marks))
	}
	return u.stack[0], nil
}

// pyValue is a Python value that a state_dict may contain.
type pyValue interface {
	kind() string // for error messages, with its article
}

type (
	pyNone   struct{}
	pyBool   bool
	pyInt    int64
	pyLong   string // more than 64 bits: the two's complement, little endian
	pyFloat  float64
	pyText   string
	pyTuple  []pyValue
	pyList   struct{ items []pyValue }
	pyDict   struct{ items []pyItem } // also an OrderedDict; a repeated key stays
	pyItem   struct{ key, value pyValue }
	pyGlobal string // module.name
)

// pyStorage is a block of numbers outside the pickle.
type pyStorage struct {
	key   string
	elem  elemType
	numel int64
}

// pyTensor is a view of a storage, checked to lie inside it.
type pyTensor struct {
	storage *pyStorage
	offset  int64 // elements
	shape   []int64
	stride  []int64 // elements
}

func (pyNone) kind() string     { return "None" }
func (pyBool) kind() string     { return "a bool" }
func (pyInt) kind() string      { return "an int" }
func (pyLong) kind() string     { return "an int" }
func (pyFloat) kind() string    { return "a float" }
func (pyText) kind() string     { return "a str" }
func (pyTuple) kind() string    { return "a tuple" }
func (*pyList) kind() string    { return "a list" }
func (*pyDict) kind() string    { return "a dict" }
func (*pyStorage) kind() string { return "a storage" }
func (*pyTensor) kind() string  { return "a tensor" }
func (g pyGlobal) kind() string { return "the class " + string(g) }

// lookup returns the value of a key as Python would: the last one set.
func (d *pyDict) lookup(key string) (pyValue, bool) {
	for i := len(d.items) - 1; i >= 0; i-- {
		if d.items[i].key == pyText(key) {
			return d.items[i].value, true
		}
	}
	return nil, false
}
