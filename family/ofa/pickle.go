package ofa

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"unicode/utf8"
)

// The opcodes that torch.save writes for a state_dict with pickle protocols 2
// to 4. Every other opcode is refused.
const (
	opProto           = 0x80
	opFrame           = 0x95
	opStop            = '.'
	opMark            = '('
	opNone            = 'N'
	opTrue            = 0x88
	opFalse           = 0x89
	opBinInt          = 'J'
	opBinInt1         = 'K'
	opBinInt2         = 'M'
	opLong1           = 0x8a
	opBinFloat        = 'G'
	opBinUnicode      = 'X'
	opShortBinUnicode = 0x8c
	opEmptyTuple      = ')'
	opEmptyList       = ']'
	opEmptyDict       = '}'
	opTuple           = 't'
	opTuple1          = 0x85
	opTuple2          = 0x86
	opTuple3          = 0x87
	opAppend          = 'a'
	opAppends         = 'e'
	opSetItem         = 's'
	opSetItems        = 'u'
	opBinPut          = 'q'
	opLongBinPut      = 'r'
	opMemoize         = 0x94
	opBinGet          = 'h'
	opLongBinGet      = 'j'
	opGlobal          = 'c'
	opStackGlobal     = 0x93
	opBinPersID       = 'Q'
	opReduce          = 'R'
	opBuild           = 'b'
)

// Limits of one pickle, five times above what the largest published supernet
// with its optimizer needs: 475 tensors take 80 KB. A byte of a pickle may cost
// some fifty bytes of memory. Nesting costs no Go stack: neither this machine
// nor its callers recurse into values.
const (
	maxPickle = 1 << 20  // bytes of all pickles of a file
	maxStack  = 64 << 10 // values on the stack; Python flushes every 1,000 items
	maxMarks  = 1000     // open marks, which is Python's own nesting limit
	maxMemo   = 256 << 10
	maxText   = 64 << 10 // bytes of one string
)

var errPickleEnd = errors.New("the pickle ends in the middle")

// unpickler is the stack machine that a pickle is a program for, without the
// instructions that could reach anything outside it.
type unpickler struct {
	data     []byte
	pos      int
	stack    []pyValue
	marks    []int // stack heights
	memo     map[uint32]pyValue
	storages map[string]*pyStorage
}

// unpickle reads the pickle at the start of data and returns its value and its
// length in bytes. The storages it refers to are added to storages; with a nil
// map a reference is an error.
func unpickle(data []byte, storages map[string]*pyStorage) (pyValue, int, error) {
	u := &unpickler{data: data, memo: map[uint32]pyValue{}, storages: storages}
	for {
		at := u.pos
		op, err := u.byte()
		if err == nil && op == opStop {
			v, err := u.result()
			return v, u.pos, err
		}
		if err == nil {
			err = u.step(op)
		}
		if err != nil {
			return nil, 0, fmt.Errorf("pickle byte %d: %w", at, err)
		}
	}
}

func (u *unpickler) step(op byte) error {
	switch op {
	case opProto:
		return u.proto()
	case opFrame: // groups instructions for reading ahead; they are in memory already
		_, err := u.take(8)
		return err
	case opMark:
		return u.mark()
	case opTuple, opTuple1, opTuple2, opTuple3:
		return u.tuple(op)
	case opAppend, opAppends:
		return u.appendItems(op)
	case opSetItem, opSetItems:
		return u.setItems(op)
	case opBinPut, opLongBinPut, opMemoize:
		return u.put(op)
	case opBinGet, opLongBinGet:
		return u.recall(op)
	case opGlobal, opStackGlobal:
		return u.global(op)
	case opBinPersID:
		return u.persistentID()
	case opReduce:
		return u.reduce()
	case opBuild:
		return u.build()
	default:
		return u.scalar(op)
	}
}

func (u *unpickler) proto() error {
	version, err := u.byte()
	if err == nil && (version < 2 || version > 4) {
		err = fmt.Errorf("pickle protocol %d is not supported; torch.save writes 2", version)
	}
	return err
}

// scalar pushes a constant, which is all that the remaining opcodes do.
func (u *unpickler) scalar(op byte) error {
	switch op {
	case opNone:
		return u.push(pyNone{})
	case opTrue, opFalse:
		return u.push(pyBool(op == opTrue))
	case opBinInt, opBinInt1, opBinInt2, opLong1:
		return u.integer(op)
	case opBinFloat:
		b, err := u.take(8)
		if err != nil {
			return err
		}
		return u.push(pyFloat(math.Float64frombits(binary.BigEndian.Uint64(b))))
	case opBinUnicode, opShortBinUnicode:
		return u.text(op)
	case opEmptyTuple:
		return u.push(pyTuple{})
	case opEmptyList:
		return u.push(&pyList{})
	case opEmptyDict:
		return u.push(&pyDict{})
	}
	return fmt.Errorf("opcode 0x%02x is not one that a state_dict needs", op)
}

func (u *unpickler) integer(op byte) error {
	if op == opLong1 {
		return u.long()
	}
	n, err := u.number(op)
	if err != nil {
		return err
	}
	if op == opBinInt { // the only signed one
		return u.push(pyInt(int32(n)))
	}
	return u.push(pyInt(n))
}

// long reads a little-endian two's complement number of a counted length.
func (u *unpickler) long() error {
	n, err := u.byte()
	if err != nil {
		return err
	}
	b, err := u.take(int(n))
	if err != nil {
		return err
	}
	if n > 8 {
		return u.push(pyLong(b))
	}
	var v uint64
	for i, x := range b {
		v |= uint64(x) << (8 * i)
	}
	if n > 0 && n < 8 && b[n-1]&0x80 != 0 {
		v |= math.MaxUint64 << (8 * n)
	}
	return u.push(pyInt(v))
}

func (u *unpickler) text(op byte) error {
	n, err := u.number(op)
	if err != nil {
		return err
	}
	if n > maxText {
		return fmt.Errorf("a string of %d bytes is longer than %d", n, maxText)
	}
	b, err := u.take(int(n))
	if err != nil {
		return err
	}
	if !utf8.Valid(b) {
		return errors.New("a string is not UTF-8")
	}
	return u.push(pyText(b))
}

func (u *unpickler) tuple(op byte) error {
	var items []pyValue
	var err error
	if op == opTuple {
		items, err = u.popMark()
	} else {
		items, err = u.popN(int(op - opTuple1 + 1))
	}
	if err != nil {
		return err
	}
	return u.push(pyTuple(items))
}

func (u *unpickler) appendItems(op byte) error {
	items, target, err := u.operands(op == opAppends, 1)
	if err != nil {
		return err
	}
	l, ok := target.(*pyList)
	if !ok {
		return fmt.Errorf("cannot append to %s", target.kind())
	}
	l.items = append(l.items, items...)
	return nil
}

func (u *unpickler) setItems(op byte) error {
	items, target, err := u.operands(op == opSetItems, 2)
	if err != nil {
		return err
	}
	d, ok := target.(*pyDict)
	if !ok {
		return fmt.Errorf("cannot set an item of %s", target.kind())
	}
	if len(items)%2 != 0 {
		return errors.New("a dict key has no value")
	}
	for i := 0; i < len(items); i += 2 {
		d.items = append(d.items, pyItem{items[i], items[i+1]})
	}
	return nil
}

func (u *unpickler) put(op byte) error {
	v, err := u.top()
	if err != nil {
		return err
	}
	slot := uint32(len(u.memo))
	if op != opMemoize {
		if slot, err = u.number(op); err != nil {
			return err
		}
	}
	u.memo[slot] = v
	if len(u.memo) > maxMemo {
		return fmt.Errorf("more than %d values are memorised", maxMemo)
	}
	return nil
}

func (u *unpickler) recall(op byte) error {
	slot, err := u.number(op)
	if err != nil {
		return err
	}
	v, ok := u.memo[slot]
	if !ok {
		return fmt.Errorf("value %d was never memorised", slot)
	}
	return u.push(v)
}
