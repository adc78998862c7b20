package ofa

import (
	"bytes"
	"errors"
	"fmt"
)

// The callables that a state_dict needs; this reader does what they would do.
const (
	orderedDict      pyGlobal = "collections.OrderedDict"
	rebuildTensor    pyGlobal = "torch._utils._rebuild_tensor_v2"
	rebuildParameter pyGlobal = "torch._utils._rebuild_parameter"
)

// allowedGlobal is the whole list of names that a checkpoint may import.
func allowedGlobal(g pyGlobal) bool {
	switch g {
	case orderedDict, rebuildTensor, rebuildParameter:
		return true
	}
	_, isStorage := storageElem(g)
	return isStorage
}

func (u *unpickler) global(op byte) error {
	read := u.globalLines
	if op == opStackGlobal {
		read = u.globalFromStack
	}
	g, err := read()
	if err != nil {
		return err
	}
	if !allowedGlobal(g) {
		return fmt.Errorf("the class %q is refused: a checkpoint may hold only tensors and plain values, as anything else "+
			"would have to run its code; "+
			"save it again as torch.save({'state_dict': net.state_dict()}, path)", clip(string(g), 200))
	}
	return u.push(g)
}

// globalLines reads the form of protocol 2: two lines of text.
func (u *unpickler) globalLines() (pyGlobal, error) {
	module, err := u.line()
	if err != nil {
		return "", err
	}
	name, err := u.line()
	return pyGlobal(module + "." + name), err
}

func (u *unpickler) line() (string, error) {
	line, _, ok := bytes.Cut(u.data[u.pos:], []byte("\n"))
	if !ok {
		return "", errPickleEnd
	}
	u.pos += len(line) + 1
	return string(line), nil
}

// globalFromStack reads the form of protocol 4: two strings pushed before.
func (u *unpickler) globalFromStack() (pyGlobal, error) {
	pair, err := u.popN(2)
	if err != nil {
		return "", err
	}
	module, ok := pair[0].(pyText)
	name, ok2 := pair[1].(pyText)
	if !ok || !ok2 {
		return "", fmt.Errorf("a class is named by %s and %s, not by two strings", pair[0].kind(), pair[1].kind())
	}
	return pyGlobal(module + "." + name), nil
}

// build sets attributes of the object on the stack. The only ones a state_dict
// has are the version numbers in _metadata, which do not matter here.
func (u *unpickler) build() error {
	state, target, err := u.operands(false, 1)
	if err != nil {
		return err
	}
	_, isDict := target.(*pyDict)
	if _, ok := state[0].(*pyDict); !ok || !isDict {
		return fmt.Errorf("cannot set the state of %s to %s", target.kind(), state[0].kind())
	}
	return nil
}

// reduce calls a callable, that is, does what it would do.
func (u *unpickler) reduce() error {
	pair, err := u.popN(2)
	if err != nil {
		return err
	}
	callee, ok := pair[0].(pyGlobal)
	args, ok2 := pair[1].(pyTuple)
	if !ok || !ok2 {
		return fmt.Errorf("cannot call %s with %s", pair[0].kind(), pair[1].kind())
	}
	v, err := call(callee, args)
	if err != nil {
		return fmt.Errorf("%v: %w", callee, err)
	}
	return u.push(v)
}

func call(callee pyGlobal, args pyTuple) (pyValue, error) {
	switch callee {
	case orderedDict:
		if len(args) != 0 {
			return nil, fmt.Errorf("%d arguments instead of none", len(args))
		}
		return &pyDict{}, nil
	case rebuildTensor:
		return newPyTensor(args)
	case rebuildParameter: // (tensor, requires_grad, hooks)
		if len(args) == 3 {
			if t, ok := args[0].(*pyTensor); ok {
				return t, nil
			}
		}
		return nil, errors.New("arguments are not a tensor, requires_grad and hooks")
	}
	return nil, errors.New("a storage class is only a name and cannot be called")
}

// persistentID replaces the tuple ('storage', class, key, location, numel) by
// the storage. The legacy container adds view metadata, None since PyTorch 0.4.
func (u *unpickler) persistentID() error {
	popped, err := u.popN(1)
	if err != nil {
		return err
	}
	id, ok := popped[0].(pyTuple)
	if !ok || len(id) < 5 || len(id) > 6 || id[0] != pyText("storage") {
		return errors.New("a persistent id is not ('storage', class, key, location, numel)")
	}
	if len(id) == 6 && id[5] != (pyNone{}) {
		return errors.New("a storage is a view of another one, as before PyTorch 0.4; save the checkpoint again with a " +
			"newer PyTorch")
	}
	class, ok1 := id[1].(pyGlobal)
	key, ok2 := id[2].(pyText)
	numel, ok3 := id[4].(pyInt)
	elem, ok4 := storageElem(class)
	if !ok1 || !ok2 || !ok3 || !ok4 || numel < 0 {
		return errors.New("a storage is not described by class, key and number of elements")
	}
	s, err := u.declare(pyStorage{string(key), elem, int64(numel)})
	if err != nil {
		return err
	}
	return u.push(s)
}

// declare returns the one storage of that key; all references must agree on it.
func (u *unpickler) declare(s pyStorage) (*pyStorage, error) {
	if u.storages == nil {
		return nil, errors.New("a storage is named outside the object pickle")
	}
	known, ok := u.storages[s.key]
	if !ok {
		u.storages[s.key] = &s
		return &s, nil
	}
	if *known != s {
		return nil, fmt.Errorf("storage %q is declared twice, differently", clip(s.key, 200))
	}
	return known, nil
}

// maxDims is the greatest number of dimensions a tensor may have; convolutions need 4.
const maxDims = 8

// newPyTensor does what torch._utils._rebuild_tensor_v2 does with its arguments
// (storage, offset, size, stride, requires_grad, hooks[, metadata]).
func newPyTensor(args pyTuple) (*pyTensor, error) {
	if len(args) != 6 && len(args) != 7 {
		return nil, fmt.Errorf("%d arguments instead of 6 or 7", len(args))
	}
	storage, ok := args[0].(*pyStorage)
	if !ok {
		return nil, fmt.Errorf("the storage is %s", args[0].kind())
	}
	offset, ok := args[1].(pyInt)
	if !ok {
		return nil, fmt.Errorf("the offset is %s", args[1].kind())
	}
	shape, err := dims(args[2])
	if err != nil {
		return nil, fmt.Errorf("size: %w", err)
	}
	stride, err := dims(args[3])
	if err != nil {
		return nil, fmt.Errorf("stride: %w", err)
	}
	t := &pyTensor{storage, int64(offset), shape, stride}
	return t, t.check()
}

// dims reads a tuple of numbers that are not negative.
func dims(v pyValue) ([]int64, error) {
	tuple, ok := v.(pyTuple)
	if !ok {
		return nil, fmt.Errorf("%s instead of a tuple", v.kind())
	}
	if len(tuple) > maxDims {
		return nil, fmt.Errorf("%d dimensions are more than %d", len(tuple), maxDims)
	}
	out := make([]int64, len(tuple))
	for i, x := range tuple {
		n, ok := x.(pyInt)
		if !ok {
			return nil, fmt.Errorf("dimension %d is %s", i, x.kind())
		}
		if n < 0 {
			return nil, fmt.Errorf("dimension %d is %d", i, n)
		}
		out[i] = int64(n)
	}
	return out, nil
}
