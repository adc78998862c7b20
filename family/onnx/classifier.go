package onnx

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Shape is how people write the dimensions, such as 1x3x224x224; N is a free
// one.
func (v Value) Shape() string {
	if len(v.Dims) == 0 {
		return "no stated shape"
	}
	sides := make([]string, len(v.Dims))
	for i, d := range v.Dims {
		sides[i] = "N"
		if d != Dynamic {
			sides[i] = strconv.Itoa(d)
		}
	}
	return strings.Join(sides, "x")
}

// String is the name and the shape.
func (v Value) String() string { return v.Name + " " + v.Shape() }

// Side is how many pixels a side the images have that the model takes, each
// 1×3×R×R (N, C, H, W). The error names what it takes instead, and what to do.
func (i Info) Side() (int, error) {
	if wrong := i.Input.noImage(); wrong != "" {
		return 0, fmt.Errorf("input %s of the model is %s", i.Input, wrong)
	}
	return max(i.Input.Dims[2], i.Input.Dims[3]), nil
}

// noImage says why a shape is not one square image of three channels, and what
// helps; empty where it is.
func (v Value) noImage() string {
	d := v.Dims
	fits := func(got, want int) bool { return got == want || got == Dynamic }
	switch {
	case len(d) == 3 && (channels(d[0]) || channels(d[2])):
		return "one image without a batch dimension, wants 1x3xRxR: export it with a batch of 1"
	case len(d) != 4:
		return "not of images, which are 1x3xRxR: export a classifier of images"
	case channels(d[3]) && !channels(d[1]):
		return v.channelsLast()
	case !fits(d[0], 1):
		return fmt.Sprintf("a batch of %d images, wants one or any number: export it with a batch of 1", d[0])
	case d[1] == 1:
		return fmt.Sprintf("of one channel (grey), wants three, red green blue: export it with a first layer that makes "+
			"grey of 1x3x%sx%s", side(d[2]), side(d[3]))
	case !fits(d[1], 3):
		return fmt.Sprintf("of %d channels, wants three, red green blue: export it for 1x3x%sx%s", d[1], side(d[2]),
			side(d[3]))
	case d[2] == Dynamic && d[3] == Dynamic:
		return "of images of any size: export the model with a fixed size of its images, such as 1x3x224x224"
	case d[2] != d[3] && d[2] != Dynamic && d[3] != Dynamic:
		return fmt.Sprintf("not square, %d pixels high and %d wide, and frames are cut to squares: export it for "+
			"1x3x%dx%d or another square",
			d[2], d[3], max(d[2], d[3]), max(d[2], d[3]))
	}
	return ""
}

// channels tells whether a dimension is one of grey, colours, or colours with
// transparency.
func channels(d int) bool { return d == 1 || d == 3 || d == 4 }

func side(d int) string {
	if d == Dynamic {
		return "R"
	}
	return strconv.Itoa(d)
}

func (v Value) channelsLast() string {
	return fmt.Sprintf("channels last (NHWC), %d of them, wants channels first (NCHW), 1x3x%sx%s: export it so "+
		"(tf2onnx does with --inputs-as-nchw %s), or put a Transpose in front",
		v.Dims[3], side(v.Dims[1]), side(v.Dims[2]), v.Name)
}

// Tells is nil for an output of one number a class: 1×classes, or the same with
// more dimensions of one. The error names what the model gives instead, and what
// to do.
func (i Info) Tells(classes int) error {
	at, free := -1, false
	for n, d := range i.Output.Dims {
		switch {
		case d == classes && at < 0:
			at = n
		case d == Dynamic:
			free = free || n > 0
		case d != 1:
			return i.tellsOther(classes)
		}
	}
	if at < 0 && !free && len(i.Output.Dims) > 0 { // what is not stated, a trial finds out
		return i.tellsOther(classes)
	}
	return nil
}

func (i Info) tellsOther(classes int) error {
	several := 0
	for _, d := range i.Output.Dims {
		if d > 1 {
			several++
		}
	}
	if several > 1 {
		return fmt.Errorf("output %s of the model is a map, wants 1x%d, one number a class: export it with the mean over "+
			"the rest at its end", i.Output, classes)
	}
	return fmt.Errorf("output %s of the model is not of %d classes, as many as the description names: name those that "+
		"the model was trained on", i.Output, classes)
}

// ends is the operator that makes the numbers of a tensor: the way back from it
// passes over what only moves or rounds them.
func (s *scanner) ends(name string) string {
	for range s.nodes {
		made := s.made[name]
		switch {
		case slices.Contains([]string{"Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Cast",
			"Dropout", "QuantizeLinear", "DequantizeLinear"}, made.op):
			name = made.in0()
		case made.op == "Div" && s.isSoftmax(made):
			return "Softmax"
		case made.op == "Log" && s.made[made.in0()].op == "Softmax":
			return "LogSoftmax"
		default:
			return made.op
		}
	}
	return ""
}

// isSoftmax tells whether a division is that of a Softmax written out: of powers
// of e by their sum.
func (s *scanner) isSoftmax(div step) bool {
	return len(div.in) == 2 && s.made[div.in[0]].op == "Exp" &&
		s.made[div.in[1]].op == "ReduceSum" && s.made[div.in[1]].in0() == div.in[0]
}

// in0 is the first tensor that a node reads; empty for none.
func (s step) in0() string {
	if len(s.in) == 0 {
		return ""
	}
	return s.in[0]
}
