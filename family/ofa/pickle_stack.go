package ofa

import (
	"errors"
	"fmt"
	"slices"
)

var errPickleStack = errors.New("the pickle takes a value that it has not put on the stack")

// byte reads one byte of the program.
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

// uint reads a little-endian number of up to four bytes.
func (u *unpickler) uint(width int) (uint32, error) {
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

// operands pops the values down to the mark, or n of them.
func (u *unpickler) operands(marked bool, n int) ([]pyValue, error) {
	if marked {
		return u.popMark()
	}
	return u.popN(n)
}

// result is the one value that a finished program leaves.
func (u *unpickler) result() (pyValue, error) {
	if len(u.stack) != 1 || len(u.marks) != 0 {
		return nil, fmt.Errorf("the pickle ends with %d values and %d open marks instead of one value", len(u.stack),
			len(u.marks))
	}
	return u.stack[0], nil
}
