package onnx

// operators are those of ONNX's own domain that a foreign model may use: what
// image classifiers are made of, quantised ones included. Control flow (If,
// Loop, Scan, SequenceMap), random numbers, strings, and sequences are not
// among them.
var operators = map[string]bool{
	"Abs": true, "Add": true, "And": true, "ArgMax": true, "ArgMin": true, "AveragePool": true,
	"BatchNormalization": true, "Cast": true, "Ceil": true, "Celu": true, "Clip": true, "Concat": true,
	"Constant": true, "ConstantOfShape": true, "Conv": true, "ConvInteger": true, "ConvTranspose": true,
	"DepthToSpace": true, "DequantizeLinear": true, "Div": true, "Dropout": true, "DynamicQuantizeLinear": true,
	"Einsum": true, "Elu": true, "Equal": true, "Erf": true, "Exp": true, "Expand": true, "Flatten": true,
	"Floor": true, "Gather": true, "Gelu": true, "Gemm": true, "GlobalAveragePool": true, "GlobalMaxPool": true,
	"Greater": true, "GreaterOrEqual": true, "GroupNormalization": true, "HardSigmoid": true, "HardSwish": true,
	"Identity": true, "InstanceNormalization": true, "LayerNormalization": true, "LeakyRelu": true, "Less": true,
	"LessOrEqual": true, "Log": true, "LogSoftmax": true, "LpNormalization": true, "LRN": true, "MatMul": true,
	"MatMulInteger": true, "Max": true, "MaxPool": true, "Mean": true, "Min": true, "Mish": true, "Mod": true,
	"Mul": true, "Neg": true, "Not": true, "Or": true, "Pad": true, "Pow": true, "PRelu": true,
	"QLinearConv": true, "QLinearMatMul": true, "QuantizeLinear": true, "Range": true, "Reciprocal": true,
	"ReduceL1": true, "ReduceL2": true, "ReduceMax": true, "ReduceMean": true, "ReduceMin": true,
	"ReduceProd": true, "ReduceSum": true, "ReduceSumSquare": true, "Relu": true, "Reshape": true, "Resize": true,
	"Round": true, "Selu": true, "Shape": true, "Sigmoid": true, "Sign": true, "Slice": true, "Softmax": true,
	"Softplus": true, "Softsign": true, "SpaceToDepth": true, "Split": true, "Sqrt": true, "Squeeze": true,
	"Sub": true, "Sum": true, "Tanh": true, "ThresholdedRelu": true, "Tile": true, "Transpose": true,
	"Unsqueeze": true, "Where": true,
}
