package onnx

import (
	"errors"
	"fmt"
	"math"

	"google.golang.org/protobuf/encoding/protowire"
)

// Info is what a scan found out about a model.
type Info struct {
	Opset      int    // of ONNX's own operators
	Input      Value  // the only one, float32; a dimension of Dynamic is free
	Output     Value  // the only one, float32
	Ends       string // operator that makes the numbers of Output: Softmax, LogSoftmax, Gemm...
	Parameters int64  // numbers in its weights
}

// ErrRefused says that a model holds what this program does not let in.
var ErrRefused = errors.New("model refused")

// Limits of a foreign model.
const (
	minOpset     = 7
	maxOpset     = 26      // the newest that ONNX Runtime 1.30 knows; its kernels begin at minOpset
	maxNodes     = 1 << 16 // of the graph
	maxNumbers   = 1 << 31 // in one tensor
	maxDims      = 8
	maxTextBytes = 1 << 10 // of one name
)

// Scan reads a foreign model before ONNX Runtime does, and runs nothing of it.
// It lets in one graph of known operators from float32 images to float32
// logits, with every weight inside the file and as large as it says. Refused
// are weights in other files, operators of other domains, functions, control
// flow and whatever else could hide a graph, and operator sets that are unknown.
// That a domain is imported of which no node is means nothing: exporters do it.
// What a model does at run time it cannot know: that takes a trial.
//
// Its errors wrap ErrRefused and name the node or the tensor.
func Scan(model []byte) (Info, error) {
	_, info, err := scan(model)
	return info, err
}

func scan(model []byte) (*scanner, Info, error) {
	s := &scanner{opset: -1, weights: map[string]bool{}, made: map[string]step{}}
	if err := s.model(model); err != nil {
		return nil, Info{}, fmt.Errorf("%w: %w", ErrRefused, err)
	}
	in, out := s.inputs[0].Value, s.outputs[0].Value
	return s, Info{Opset: s.opset, Input: in, Output: out, Ends: s.ends(out.Name), Parameters: s.parameters}, nil
}

// scanner gathers what a model declares.
type scanner struct {
	opset           int // -1 before the model named one
	graphs, nodes   int
	parameters      int64
	weights         map[string]bool
	made            map[string]step // by the tensor that it writes
	inputs, outputs []declared
	listed          int  // weights that are among the inputs, as files of IR version 3 have it
	foreign         bool // it imports a domain that is not ONNX's own
}

// step is what a node does, for the way back from an output.
type step struct {
	op string
	in []string
}

// field is one field of a protobuf message.
type field struct {
	number protowire.Number
	kind   protowire.Type
	value  uint64 // of a varint or a fixed number
	bytes  []byte // of a length-delimited one
}

var errProtobuf = errors.New("not a whole ONNX file (its protobuf is malformed or cut off)")

// each calls visit for every field of a message.
func each(message []byte, visit func(field) error) error {
	for len(message) > 0 {
		number, kind, n := protowire.ConsumeTag(message)
		if n < 0 {
			return errProtobuf
		}
		message = message[n:]
		f := field{number: number, kind: kind}
		switch kind {
		case protowire.VarintType:
			f.value, n = protowire.ConsumeVarint(message)
		case protowire.Fixed32Type:
			var v uint32
			v, n = protowire.ConsumeFixed32(message)
			f.value = uint64(v)
		case protowire.Fixed64Type:
			f.value, n = protowire.ConsumeFixed64(message)
		case protowire.BytesType:
			f.bytes, n = protowire.ConsumeBytes(message)
		default: // groups, which ONNX never had
			return errProtobuf
		}
		if n < 0 {
			return errProtobuf
		}
		message = message[n:]
		if err := visit(f); err != nil {
			return err
		}
	}
	return nil
}

// text is a name, bounded so that an error can hold it.
func (f field) text() (string, error) {
	if f.kind != protowire.BytesType || len(f.bytes) > maxTextBytes {
		return "", fmt.Errorf("a name of %d bytes, more than %d", len(f.bytes), maxTextBytes)
	}
	return string(f.bytes), nil
}

// model reads a ModelProto.
func (s *scanner) model(b []byte) error {
	var graph []byte
	err := each(b, func(f field) error {
		switch f.number {
		case 7:
			s.graphs++
			graph = f.bytes
		case 8:
			return s.operatorSet(f.bytes)
		case 20:
			return errors.New("it holds training graphs: export it for inference")
		case 25:
			return errors.New("it holds functions of its own: export it with plain operators")
		}
		return nil
	})
	switch {
	case err != nil:
		return err
	case s.graphs != 1:
		return fmt.Errorf("%d graphs, wants one: is it an ONNX file?", s.graphs)
	case s.opset < minOpset || s.opset > maxOpset:
		return fmt.Errorf("operator set %d: this program knows %d to %d", s.opset, minOpset, maxOpset)
	}
	if err := s.graph(graph); err != nil {
		return err
	}
	return s.ports()
}

// operatorSet reads an OperatorSetIdProto.
func (s *scanner) operatorSet(b []byte) error {
	var domain string
	version := 0
	err := each(b, func(f field) (err error) {
		switch f.number {
		case 1:
			domain, err = f.text()
		case 2:
			version = int(min(f.value, math.MaxInt32))
		}
		return err
	})
	if err != nil {
		return err
	}
	if !ownDomain(domain) {
		s.foreign = true // a node of it is refused where it is met
		return nil
	}
	s.opset = version
	return nil
}

// ownDomain tells whether a domain is ONNX's own, which has two names.
func ownDomain(domain string) bool { return domain == "" || domain == "ai.onnx" }

// graph reads a GraphProto.
func (s *scanner) graph(b []byte) error {
	return each(b, func(f field) error {
		switch f.number {
		case 1:
			return s.node(f.bytes)
		case 5:
			name, err := s.tensor(f.bytes)
			s.weights[name] = true
			return err
		case 11:
			v, err := port(f.bytes)
			s.inputs = append(s.inputs, v)
			return err
		case 12:
			v, err := port(f.bytes)
			s.outputs = append(s.outputs, v)
			return err
		case 15:
			return errors.New("it holds sparse weights, which are not let in")
		}
		return nil
	})
}

// node reads a NodeProto.
func (s *scanner) node(b []byte) error {
	if s.nodes++; s.nodes > maxNodes {
		return fmt.Errorf("more than %d nodes", maxNodes)
	}
	n, err := parseNode(b)
	switch {
	case err != nil:
		return err
	case !ownDomain(n.domain):
		return fmt.Errorf("node %q is %s of domain %q: only ONNX's own operators are let in", n.name, n.op, n.domain)
	case !operators[n.op]:
		return fmt.Errorf("node %q is %s, which is not among the operators that are let in", n.name, n.op)
	}
	for _, a := range n.attributes {
		if err := s.attribute(a); err != nil {
			return fmt.Errorf("node %q, %s: %w", n.name, n.op, err)
		}
	}
	for _, out := range n.out {
		s.made[out] = n.step
	}
	return nil
}

// nodeProto is what matters of one.
type nodeProto struct {
	step
	out          []string
	name, domain string
	attributes   [][]byte
}

func parseNode(b []byte) (n nodeProto, err error) {
	err = each(b, func(f field) (err error) {
		var text string
		switch f.number {
		case 1:
			text, err = f.text()
			n.in = append(n.in, text)
		case 2:
			text, err = f.text()
			n.out = append(n.out, text)
		case 3:
			n.name, err = f.text()
		case 4:
			n.op, err = f.text()
		case 5:
			n.attributes = append(n.attributes, f.bytes)
		case 7:
			n.domain, err = f.text()
		}
		return err
	})
	return n, err
}

// attribute reads an AttributeProto.
func (s *scanner) attribute(b []byte) error {
	return each(b, func(f field) error {
		switch f.number {
		case 5, 10:
			_, err := s.tensor(f.bytes)
			return err
		case 6, 11:
			return errors.New("an attribute holds a graph, which is not let in")
		case 22, 23:
			return errors.New("an attribute holds a sparse tensor, which is not let in")
		}
		return nil
	})
}

// ports checks what enters and leaves. Weights may be listed as inputs, in old
// files all of them; they are no inputs.
func (s *scanner) ports() error {
	inputs := s.inputs[:0]
	for _, v := range s.inputs {
		if !s.weights[v.Name] {
			inputs = append(inputs, v)
		}
	}
	s.listed, s.inputs = len(s.inputs)-len(inputs), inputs
	if len(s.inputs) != 1 || len(s.outputs) != 1 {
		return fmt.Errorf("%d inputs and %d outputs, wants one of each%s%s: export the model with an image as its only "+
			"input and the logits as its only output",
			len(s.inputs), len(s.outputs), listing("inputs", s.inputs), listing("outputs", s.outputs))
	}
	for _, v := range []declared{s.inputs[0], s.outputs[0]} {
		if v.fault != nil {
			return fmt.Errorf("input or output %q: %w", v.Name, v.fault)
		}
	}
	return nil
}

// listing names the first few of what enters or leaves, if there are several.
func listing(what string, all []declared) string {
	if len(all) < 2 {
		return ""
	}
	said := "; " + what + " are"
	for i, v := range all[:min(4, len(all))] {
		if i > 0 {
			said += ","
		}
		said += " " + v.String()
	}
	if len(all) > 4 {
		said += "..."
	}
	return said
}
