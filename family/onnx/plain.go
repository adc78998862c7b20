package onnx

import (
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
)

// Plain scans a model and rewrites what others may rightly write and devices do
// not know: their models have weights that are no inputs, free dimensions that
// are named, and give 1×classes. Domains that no node is of go, since the library
// refuses versions that it does not know even so. Weights that are inputs would
// hinder the library from folding them. It says what it changed; a model with
// nothing of that stays the same bytes.
//
// What does not take square images of three channels, or gives no number for
// each of so many classes, is refused with what it takes or gives, and what to do.
func Plain(model []byte, classes int) (plain []byte, info Info, changed []string, err error) {
	s, info, err := scan(model)
	if err != nil {
		return nil, info, nil, err
	}
	if _, err := info.Side(); err != nil {
		return nil, info, nil, fmt.Errorf("%w: %w", ErrRefused, err)
	}
	if err := info.Tells(classes); err != nil {
		return nil, info, nil, fmt.Errorf("%w: %w", ErrRefused, err)
	}
	r := rewriter{scanner: s, info: info, classes: classes}
	if changed = r.changes(); len(changed) == 0 {
		return model, info, nil, nil
	}
	if plain, err = r.model(model); err != nil {
		return nil, info, nil, err
	}
	_, info, err = scan(plain)
	return plain, info, changed, err
}

// rewriter writes a scanned model anew.
type rewriter struct {
	*scanner
	info    Info
	classes int
}

// changes says what is to be written anew, for people.
func (r *rewriter) changes() []string {
	var all []string
	if r.listed > 0 {
		all = append(all, fmt.Sprintf("%d weights are inputs no more", r.listed))
	}
	if r.foreign {
		all = append(all, "imports of operators that it does not use are gone")
	}
	if r.inputs[0].free || r.outputs[0].free {
		all = append(all, "free dimensions have a name")
	}
	if r.reshapes() {
		all = append(all, fmt.Sprintf("its output of %s is made 1x%d", r.info.Output.Shape(), r.classes))
	}
	return all
}

// reshapes tells whether the output has other dimensions than a device wants.
func (r *rewriter) reshapes() bool {
	d := r.info.Output.Dims
	return len(d) != 2 || d[0] > 1 || d[1] != r.classes && d[1] != Dynamic
}

// firstInitializers is the first IR version in which weights need not be inputs.
const firstInitializers = 4

// model writes a ModelProto.
func (r *rewriter) model(b []byte) ([]byte, error) {
	var out []byte
	err := each(b, func(f field) error {
		switch f.number {
		case 1:
			f.value = max(f.value, firstInitializers)
		case 7:
			graph, err := r.graph(f.bytes)
			if err != nil {
				return err
			}
			f.bytes = graph
		case 8:
			set := scanner{}
			if err := set.operatorSet(f.bytes); err != nil {
				return err
			}
			if set.foreign {
				return nil
			}
		}
		out = f.append(out)
		return nil
	})
	return out, err
}

// graph writes a GraphProto, whose fields stand in any order.
func (r *rewriter) graph(b []byte) ([]byte, error) {
	out := make([]byte, 0, len(b)+512)
	err := each(b, func(f field) error {
		if f.number != 11 && f.number != 12 {
			out = f.append(out)
			return nil
		}
		v, err := port(f.bytes)
		switch {
		case err != nil:
			return err
		case f.number == 12 && r.reshapes():
			out = r.reshape(out)
		case f.number == 12 || !r.weights[v.Name]:
			out = message(out, f.number, valueInfo(v.Value))
		}
		return nil
	})
	return out, err
}

// reshape writes an output of N×classes behind the one that the graph has.
func (r *rewriter) reshape(b []byte) []byte {
	from := r.info.Output.Name
	shape, to := r.unused(from+"_shape"), r.unused(from+"_classes")
	b = message(b, 1, node("Reshape", to, []string{from, shape}, nil))
	dims := protowire.AppendVarint(protowire.AppendVarint(nil, ^uint64(0)), uint64(r.classes)) // -1, classes
	weight := str(varint(varint(nil, 1, 2), 2, 7), 8, shape)                                   // INT64 of two
	b = message(b, 5, message(weight, 7, dims))
	return message(b, 12, valueInfo(Value{Name: to, Dims: []int{r.info.Input.Dims[0], r.classes}}))
}

// unused is a name that nothing in the graph has.
func (r *rewriter) unused(name string) string {
	for {
		if _, made := r.made[name]; !made && !r.weights[name] && name != r.info.Input.Name {
			return name
		}
		name += "_"
	}
}

// append writes the field as it was.
func (f field) append(b []byte) []byte {
	b = protowire.AppendTag(b, f.number, f.kind)
	switch f.kind {
	case protowire.VarintType:
		return protowire.AppendVarint(b, f.value)
	case protowire.Fixed32Type:
		return protowire.AppendFixed32(b, uint32(f.value))
	case protowire.Fixed64Type:
		return protowire.AppendFixed64(b, f.value)
	}
	return protowire.AppendBytes(b, f.bytes)
}

// Note is something that a file tells of itself, for whoever finds it.
type Note struct{ Key, Value string }

// Labelled is a model with notes, which replace those under their keys and change
// nothing of what it computes.
func Labelled(model []byte, notes []Note) ([]byte, error) {
	known := map[string]bool{}
	for _, n := range notes {
		known[n.Key] = true
	}
	const metadata = 14 // metadata_props of ModelProto: StringStringEntryProto
	labelled := make([]byte, 0, len(model)+1024)
	err := each(model, func(f field) error {
		if f.number == metadata {
			key, err := noteKey(f.bytes)
			if err != nil || known[key] {
				return err
			}
		}
		labelled = f.append(labelled)
		return nil
	})
	for _, n := range notes {
		labelled = message(labelled, metadata, str(str(nil, 1, n.Key), 2, n.Value))
	}
	return labelled, err
}

// noteKey reads the key of a StringStringEntryProto.
func noteKey(b []byte) (key string, err error) {
	err = each(b, func(f field) error {
		if f.number == 1 {
			key = string(f.bytes)
		}
		return nil
	})
	return key, err
}
