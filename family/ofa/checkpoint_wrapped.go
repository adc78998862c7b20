package ofa

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// wrappers are the names under which training tools keep a state_dict, in the
// order of preference: what other programs read first, then weights as they were
// trained, then their moving averages ("ema" and its like), then the names that
// wrappers of networks have. Families that were made of a file hold it whole, so the order
// cannot change.
func wrappers() []string {
	return []string{"state_dict", "model_state_dict", "model", "net", "ema",
		"state_dict_ema", "model_ema", "ema_state_dict", "shadow", "network", "module"}
}

// maxWraps bounds how deep a state_dict may lie, such as {"ema": {"module": ...}}.
const maxWraps = 4

// found is the way to a state_dict.
type found struct {
	path []string
	left []string // other names beside those of the path under which one is
}

// stateDict finds the state_dict in the unpickled object: the dict under the first
// of wrappers that is one, or holds one, else the object itself. A dict with
// tensors whose names have a dot, as parameters of layers do, is one, except that
// "state_dict" beside them goes first.
func stateDict(object pyValue) (*pyDict, found, error) {
	top, ok := object.(*pyDict)
	if !ok {
		return nil, found{}, fmt.Errorf("the checkpoint is %s, not a state_dict; save it as torch.save({'state_dict': "+
			"net.state_dict()}, path)", object.kind())
	}
	if inner, ok := top.lookup("state_dict"); ok {
		if _, ok := inner.(*pyDict); !ok {
			return nil, found{}, fmt.Errorf("'state_dict' in the checkpoint is %s, not a dict", inner.kind())
		}
	}
	if state, way := (seeker{map[*pyDict]bool{}}).unwrap(top, 0); state != nil {
		return state, way, nil
	}
	if _, ok := top.lookup("state_dict"); !ok && holdsTensors(top, "") {
		return top, found{}, nil
	}
	return nil, found{}, errors.New("the checkpoint holds no state_dict: neither its dict nor one in it under " +
		quoted(wrappers()[:5]) + " has a floating-point tensor")
}

// seeker looks into each dict once, for they may hold each other and themselves.
type seeker struct{ seen map[*pyDict]bool }

// unwrap follows the wrappers inwards; nil where there is no state_dict.
func (s seeker) unwrap(d *pyDict, depth int) (state *pyDict, way found) {
	if s.seen[d] || depth > maxWraps {
		return nil, found{}
	}
	s.seen[d] = true
	if _, wrapped := d.lookup("state_dict"); !wrapped && holdsTensors(d, ".") {
		return d, found{}
	}
	for _, name := range wrappers() {
		at, further := s.under(d, name, depth)
		switch {
		case at == nil:
		case state == nil:
			state, way = at, found{path: append([]string{name}, further.path...), left: further.left}
		default:
			way.left = append(way.left, name)
		}
	}
	return state, way
}

// under looks for a state_dict under one name. Of "state_dict" itself the tensors
// may have any names.
func (s seeker) under(d *pyDict, name string, depth int) (*pyDict, found) {
	inner, _ := d.lookup(name)
	dict, ok := inner.(*pyDict)
	if !ok {
		return nil, found{}
	}
	state, way := s.unwrap(dict, depth+1)
	if state == nil && name == "state_dict" && holdsTensors(dict, "") {
		state = dict
	}
	return state, way
}

// holdsTensors tells whether a dict has floating-point tensors whose names have a
// part of such.
func holdsTensors(d *pyDict, part string) bool {
	return slices.ContainsFunc(d.items, func(i pyItem) bool {
		name, isText := i.key.(pyText)
		t, isTensor := i.value.(*pyTensor)
		return isText && isTensor && t.storage.elem.float != notFloat && strings.Contains(string(name), part)
	})
}

// maxPrefixes bounds how many are before one name; people nest two.
const maxPrefixes = 8

// withoutPrefixes takes off what wrappers of networks put before every name, in
// any order and as often as it is there: "module." (DataParallel), "_orig_mod."
// (torch.compile), and "model." or "net." of training frameworks. It returns what
// was taken off.
func withoutPrefixes(state *pyDict) (*pyDict, string) {
	taken := ""
	for range maxPrefixes {
		prefix := commonPrefix(state)
		if prefix == "" {
			break
		}
		bare := &pyDict{items: make([]pyItem, 0, len(state.items))}
		for _, i := range state.items {
			if name, ok := i.key.(pyText); ok {
				i.key = pyText(strings.TrimPrefix(string(name), prefix))
			}
			bare.items = append(bare.items, i)
		}
		state, taken = bare, taken+prefix
	}
	return state, taken
}

// commonPrefix is the one before every tensor of a layer, or empty.
func commonPrefix(state *pyDict) string {
	for _, prefix := range []string{"module.", "_orig_mod.", "model.", "net."} {
		with, without := 0, 0
		for _, i := range state.items {
			name, isText := i.key.(pyText)
			if _, isTensor := i.value.(*pyTensor); !isText || !isTensor || !strings.Contains(string(name), ".") {
				continue
			}
			if strings.HasPrefix(string(name), prefix) {
				with++
			} else {
				without++
			}
		}
		if with > 0 && without == 0 {
			return prefix
		}
	}
	return ""
}

// say tells what was taken. A file of one plain "state_dict" is what people
// expect, and not told of.
func (f found) say(prefix string) string {
	plain := len(f.path) == 0 || len(f.path) == 1 && f.path[0] == "state_dict"
	if plain && len(f.left) == 0 && prefix == "" {
		return ""
	}
	said := "its state_dict"
	if len(f.path) > 0 {
		said = "what is under " + quoted(f.path[:1])
		for _, name := range f.path[1:] {
			said += ", '" + name + "' in it"
		}
	}
	if prefix != "" {
		said += ", without '" + prefix + "' before the names"
	}
	if len(f.left) > 0 {
		said += "; left is " + quoted(f.left)
	}
	return said
}

// quoted lists names as Python writes them.
func quoted(names []string) string { return "'" + strings.Join(names, "', '") + "'" }
