// Package onnx writes our own ONNX models and scans those of others.
//
//	layers ──New, Weight, Node, Output──▶ Graph ──Marshal──▶ .onnx ──Scan──▶ let in, or why not
//	                                                somebody else's ──Plain──▶ as devices know it, or what to do
//
// A model written here is a graph of float32 operators, its weights inside the
// file, with one input and any number of outputs. The writer knows the protobuf
// layout of the format (onnx.proto, IR version 8, operator set 17) and nothing
// about networks; package ofa names the operators. A graph is built front to
// back, so every node reads only what was written before it; that one rule is
// what a model checker would ask first, and Marshal checks it.
//
// A scan looks at a foreign model before ONNX Runtime does. Its one rule: what
// it does not know is refused. Where a family is made, Plain rewrites what may
// rightly be written in several ways, so that devices need to know one; that an
// image classifier takes squares and gives a number a class is all that it knows
// of networks.
package onnx

import (
	"encoding/binary"
	"fmt"
	"math"

	"google.golang.org/protobuf/encoding/protowire"
)

const (
	irVersion = 8  // the first that operator set 17 came with
	opset     = 17 // HardSwish needs 14; from 18 on ReduceMean takes its axes as an input
)

// Dynamic is a dimension that is known only when the model runs.
const Dynamic = 0

// Value names a tensor that enters or leaves a graph, with its shape. A
// dimension of Dynamic is free.
type Value struct {
	Name string
	Dims []int
}

// Attr is one attribute of a node: Int, Ints and Float are told apart by which
// constructor made it.
type Attr struct {
	name  string
	kind  uint64
	ints  []int
	float float32
}

// The type numbers of onnx.proto's AttributeProto.
const (
	attrFloat = 1
	attrInt   = 2
	attrInts  = 7
)

// Int is an attribute that holds one integer.
func Int(name string, v int) Attr { return Attr{name: name, kind: attrInt, ints: []int{v}} }

// Ints is an attribute that holds a list of integers.
func Ints(name string, v ...int) Attr { return Attr{name: name, kind: attrInts, ints: v} }

// Float is an attribute that holds one number.
func Float(name string, v float32) Attr { return Attr{name: name, kind: attrFloat, float: v} }

// Graph is a model under construction. The zero value is not useful: see New.
type Graph struct {
	name    string
	input   Value
	outputs []Value
	nodes   [][]byte
	weights [][]byte
	known   map[string]bool
	err     error
}

// New starts a graph that reads one input.
func New(name string, input Value) *Graph {
	return &Graph{name: name, input: input, known: map[string]bool{input.Name: true}}
}

// Weight adds a tensor of the given shape under a name of its own and returns
// the name. The graph keeps its own copy of data.
func (g *Graph) Weight(name string, dims []int, data []float32) string {
	n := 1
	for _, d := range dims {
		n *= d
	}
	if n != len(data) {
		g.fail("weight %s: shape %v holds %d numbers, not %d", name, dims, n, len(data))
		return name
	}
	g.define(name)
	g.weights = append(g.weights, tensor(name, dims, data))
	return name
}

// Node adds an operator that writes out, and returns out.
func (g *Graph) Node(op, out string, in []string, attrs ...Attr) string {
	for _, name := range in {
		if !g.known[name] {
			g.fail("node %s reads %s, which nothing wrote before it", out, name)
		}
	}
	g.define(out)
	g.nodes = append(g.nodes, node(op, out, in, attrs))
	return out
}

// Output declares that a tensor leaves the graph.
func (g *Graph) Output(v Value) {
	if !g.known[v.Name] {
		g.fail("output %s is written by no node", v.Name)
	}
	g.outputs = append(g.outputs, v)
}

// Marshal returns the model as the bytes of an .onnx file, or the first thing
// that was wrong with the graph.
func (g *Graph) Marshal() ([]byte, error) {
	if g.err != nil {
		return nil, fmt.Errorf("onnx graph %s: %w", g.name, g.err)
	}
	// Field numbers of ModelProto and OperatorSetIdProto.
	b := varint(nil, 1, irVersion)
	b = str(b, 2, "limber")
	b = message(b, 7, g.marshalGraph())
	return message(b, 8, varint(str(nil, 1, ""), 2, opset)), nil
}

// marshalGraph writes a GraphProto.
func (g *Graph) marshalGraph() []byte {
	size := 1024
	for _, w := range g.weights {
		size += len(w) + 8
	}
	b := make([]byte, 0, size)
	for _, n := range g.nodes {
		b = message(b, 1, n)
	}
	b = str(b, 2, g.name)
	for _, w := range g.weights {
		b = message(b, 5, w)
	}
	b = message(b, 11, valueInfo(g.input))
	for _, v := range g.outputs {
		b = message(b, 12, valueInfo(v))
	}
	return b
}

func (g *Graph) define(name string) {
	if g.known[name] {
		g.fail("%s is written twice", name)
	}
	g.known[name] = true
}

func (g *Graph) fail(format string, args ...any) {
	if g.err == nil {
		g.err = fmt.Errorf(format, args...)
	}
}

// node writes a NodeProto.
func node(op, out string, in []string, attrs []Attr) []byte {
	var b []byte
	for _, name := range in {
		b = str(b, 1, name)
	}
	b = str(b, 2, out)
	b = str(b, 3, out)
	b = str(b, 4, op)
	for _, a := range attrs {
		b = message(b, 5, a.marshal())
	}
	return b
}

// marshal writes an AttributeProto.
func (a Attr) marshal() []byte {
	b := str(nil, 1, a.name)
	switch a.kind {
	case attrFloat:
		b = protowire.AppendTag(b, 2, protowire.Fixed32Type)
		b = protowire.AppendFixed32(b, math.Float32bits(a.float))
	case attrInt:
		b = varint(b, 3, uint64(a.ints[0]))
	case attrInts:
		for _, v := range a.ints {
			b = varint(b, 8, uint64(v))
		}
	}
	return varint(b, 20, a.kind)
}

// tensor writes a TensorProto of float32 with its numbers as raw little-endian
// bytes.
func tensor(name string, dims []int, data []float32) []byte {
	b := make([]byte, 0, 4*len(data)+len(name)+32)
	for _, d := range dims {
		b = varint(b, 1, uint64(d))
	}
	b = varint(b, 2, 1) // FLOAT
	b = str(b, 8, name)
	b = protowire.AppendTag(b, 9, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(4*len(data)))
	for _, v := range data {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(v))
	}
	return b
}

// valueInfo writes a ValueInfoProto for a float32 tensor.
func valueInfo(v Value) []byte {
	var shape []byte
	for i, d := range v.Dims {
		if d == Dynamic {
			shape = message(shape, 1, str(nil, 2, fmt.Sprintf("%s_%d", v.Name, i)))
		} else {
			shape = message(shape, 1, varint(nil, 1, uint64(d)))
		}
	}
	kind := message(varint(nil, 1, 1), 2, shape)
	return message(str(nil, 1, v.Name), 2, message(nil, 1, kind))
}

func varint(b []byte, field protowire.Number, v uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(b, field, protowire.VarintType), v)
}

func str(b []byte, field protowire.Number, s string) []byte {
	return protowire.AppendString(protowire.AppendTag(b, field, protowire.BytesType), s)
}

func message(b []byte, field protowire.Number, m []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(b, field, protowire.BytesType), m)
}
