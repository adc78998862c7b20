package ofa

import (
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// mustReadFile reads a file. One beside the project may be missing, one of the
// project may not.
func mustReadFile(tb testing.TB, path string) []byte {
	tb.Helper()
	b, err := os.ReadFile(path)
	if os.IsNotExist(err) && strings.HasPrefix(path, "..") {
		tb.Skipf("%s is missing: it lies beside the project", path)
	}
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// sharedFile is a file of the data folder that lies beside the project.
func sharedFile(elem ...string) string {
	return filepath.Join(append([]string{"..", "..", "..", "shared", "data"}, elem...)...)
}

func mustReadCheckpoint(tb testing.TB, path string) *Checkpoint {
	tb.Helper()
	c, err := ReadCheckpoint(mustReadFile(tb, path))
	if err != nil {
		tb.Fatalf("read %s: %v", path, err)
	}
	return c
}

// containers are the four ways in which testdata/make_fixtures.py had PyTorch
// write the same state_dict.
func containers() []string {
	var paths []string
	for _, name := range []string{"zip", "legacy", "bare_zip_protocol4", "bare_legacy_protocol4"} {
		paths = append(paths, filepath.Join("testdata", "containers", name+".pth"))
	}
	return paths
}

// containerTensors repeats tiny_state of testdata/make_fixtures.py.
var containerTensors = []struct {
	name   string
	tensor Tensor
}{
	{"float32", Tensor{[]int{2, 3}, []float32{-2.5, -1.5, -0.5, 0.5, 1.5, 2.5}}},
	{"float16", Tensor{[]int{5}, []float32{0.5, -65504, 1.0 / (1 << 24), 1.0 / (1 << 14), float32(math.Inf(1))}}},
	{"bfloat16", Tensor{[]int{3}, []float32{1, -2.5, 3.140625}}},
	{"float64", Tensor{[]int{2}, []float32{0.1, -2}}},
	{"scalar", Tensor{[]int{}, []float32{7.5}}},
	{"empty", Tensor{[]int{0, 3}, []float32{}}},
	{"head", Tensor{[]int{3}, []float32{0, 1, 2}}},
	{"tail", Tensor{[]int{4}, []float32{6, 7, 8, 9}}},
	{"every third", Tensor{[]int{3}, []float32{1, 4, 7}}},
	{"transposed", Tensor{[]int{3, 2}, []float32{0, 3, 1, 4, 2, 5}}},
	{"channels last", Tensor{[]int{1, 2, 2, 2}, []float32{0, 1, 2, 3, 4, 5, 6, 7}}},
	{"parameter", Tensor{[]int{2}, []float32{1, 2}}},
}

// checkContainer compares a checkpoint with containerTensors.
func checkContainer(t *testing.T, c *Checkpoint) {
	t.Helper()
	var names []string
	for _, want := range containerTensors {
		names = append(names, want.name)
		got, ok := c.Tensor(want.name)
		if !ok || !slices.Equal(got.Shape, want.tensor.Shape) || !slices.Equal(got.Data, want.tensor.Data) {
			t.Errorf("%s: got %v, %v; want %v", want.name, got, ok, want.tensor)
		}
	}
	if !slices.Equal(c.Names(), names) {
		t.Errorf("got names %q, want the state_dict's order without its integers, %q", c.Names(), names)
	}
}

func TestReadCheckpointReadsEveryContainerAlike(t *testing.T) {
	for _, path := range containers() {
		t.Run(filepath.Base(path), func(t *testing.T) {
			checkContainer(t, mustReadCheckpoint(t, path))
		})
	}
}

func TestReadCheckpointReadsSupernets(t *testing.T) {
	const mbv3 = 475 - 64 // keys less the counters num_batches_tracked
	for _, tt := range []struct {
		path    string
		tensors int
		name    string
		shape   []int
	}{
		{filepath.Join("testdata", "imagenet", "supernet.pth"), mbv3,
			"blocks.9.mobile_inverted_conv.depth_conv.conv.conv.weight", []int{48, 1, 7, 7}},
		{filepath.Join("testdata", "cifar", "supernet.pth"), mbv3, "blocks.9.conv.point_linear.conv.conv.weight",
			[]int{16, 48, 1, 1}},
		{sharedFile("parity", "mbv3_w1.0", "supernet.pth"), mbv3, "blocks.5.mobile_inverted_conv.depth_conv.conv.7to5_matrix",
			[]int{25, 25}},
		{sharedFile("supernet", "supernet.pth"), mbv3, "classifier.linear.weight", []int{10, 640}},
		{sharedFile("dynamic-ofa", "acc_predictor.pth"), 8, "0.weight", []int{400, 128}},
	} {
		t.Run(tt.path, func(t *testing.T) {
			c := mustReadCheckpoint(t, tt.path)
			if got := len(c.Names()); got != tt.tensors {
				t.Errorf("got %d tensors, want %d", got, tt.tensors)
			}
			got, ok := c.Tensor(tt.name)
			if !ok || !slices.Equal(got.Shape, tt.shape) {
				t.Errorf("%s: got %v, %v; want %v", tt.name, got.Shape, ok, tt.shape)
			}
		})
	}
}

// The weights of both narrow supernets are the same numbers, once as float32 in
// the legacy container and once as float16 in the zip container.
func TestReadCheckpointFloat16RoundsFloat32(t *testing.T) {
	full := mustReadCheckpoint(t, filepath.Join("testdata", "imagenet", "supernet.pth"))
	half := mustReadCheckpoint(t, filepath.Join("testdata", "cifar", "supernet.pth"))
	for _, name := range full.Names() {
		if strings.Contains(name, "running_") {
			continue // statistics are each one's own
		}
		want, _ := full.Tensor(name)
		got, ok := half.Tensor(strings.Replace(name, ".mobile_inverted_conv.", ".conv.", 1))
		if !ok || !slices.EqualFunc(got.Data, want.Data, withinHalf) {
			t.Errorf("%s is there: %v; it is not the rounded tensor", name, ok)
		}
	}
}

// withinHalf reports whether half may be full rounded to 11 significant bits.
func withinHalf(half, full float32) bool {
	const subnormal = 1.0 / (1 << 25)
	return math.Abs(float64(half-full)) <= math.Abs(float64(full))/(1<<11)+subnormal
}

func TestFromHalfIsExact(t *testing.T) {
	for _, tt := range []struct {
		half uint16
		want float64
	}{
		{0x0000, 0},
		{0x8000, math.Copysign(0, -1)},
		{0x0001, 0x1p-24},
		{0x83ff, -0x3ffp-24},
		{0x0400, 0x1p-14},
		{0x3c00, 1},
		{0x3555, 0x555p-12},
		{0xfbff, -65504},
		{0x7c00, math.Inf(1)},
		{0xfc00, math.Inf(-1)},
	} {
		got := fromHalf(tt.half)
		if math.Float32bits(got) != math.Float32bits(float32(tt.want)) {
			t.Errorf("%#04x: got %v, want %v", tt.half, got, tt.want)
		}
	}
	if nan := fromHalf(0x7e00); nan == nan {
		t.Errorf("0x7e00: got %v, want NaN", nan)
	}
}

func TestReadCheckpointSaysWhatAForeignFileIs(t *testing.T) {
	for _, tt := range []struct{ name, file, want string }{
		{"empty", "", "the file is empty"},
		{"text", "import torch\nnet = 1\n", `looks like text, starting with "import torch"`},
		{"LFS pointer", "version https://git-lfs.github.com/spec/v1\n", "git lfs pull"},
		{"page of a download that went wrong", "<!DOCTYPE html>\n<html>", `"<!DOCTYPE html>"`},
		{"gzip", "\x1f\x8b\x08\x00", "gzip"},
		{"binary", "\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09", "starts with the bytes 00 01 02 03 04 05 06 07"},
		{"empty zip", "PK\x05\x06" + strings.Repeat("\x00", 18), "empty zip archive"},
		{"plain pickle", "\x80\x02}.", "a plain pickle of a dict"},
		{"pickle of a class", "\x80\x02cnumpy\nndarray\n.", `"numpy.ndarray"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := ReadCheckpoint([]byte(tt.file))
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(),
				"not a PyTorch checkpoint") {
				t.Errorf("got %v, want it to say no checkpoint and %q", err, tt.want)
			}
		})
	}
}

func TestReadCheckpointRefusesAPickledModule(t *testing.T) {
	_, err := ReadCheckpoint(mustReadFile(t, filepath.Join("testdata", "containers", "module.pth")))
	if err == nil || !strings.Contains(err.Error(), `"torch.nn.modules.linear.Linear" is refused`) {
		t.Errorf("got %v, want a refusal that names the class", err)
	}
}

func TestReadCheckpointRefusesATruncatedFile(t *testing.T) {
	for _, path := range containers() {
		t.Run(filepath.Base(path), func(t *testing.T) {
			whole := mustReadFile(t, path)
			for n := range whole {
				if _, err := ReadCheckpoint(whole[:n]); err == nil {
					t.Fatalf("the first %d of %d bytes pass for a checkpoint", n, len(whole))
				}
			}
		})
	}
}

// A zip entry has a checksum, so damage is noticed or does not matter.
func TestReadCheckpointNoticesAFlippedBitInAZip(t *testing.T) {
	whole := mustReadFile(t, containers()[0])
	for i := range whole {
		if c, err := ReadCheckpoint(flip(whole, i)); err == nil {
			checkContainer(t, c)
		}
		if t.Failed() {
			t.Fatalf("the bit flipped in byte %d went unnoticed", i)
		}
	}
}

// The legacy container has no checksum: a flipped bit may change a number, but
// never leaves a tensor that does not hold together.
func TestReadCheckpointSurvivesAFlippedBitInALegacyFile(t *testing.T) {
	whole := mustReadFile(t, containers()[1])
	for i := range whole {
		if c, err := ReadCheckpoint(flip(whole, i)); err == nil {
			checkSound(t, c)
		}
	}
}

// flip returns a copy of b with one bit of byte i flipped.
func flip(b []byte, i int) []byte {
	b = slices.Clone(b)
	b[i] ^= 1 << (i % 8)
	return b
}

// checkSound verifies what ReadCheckpoint promises of any file.
func checkSound(tb testing.TB, c *Checkpoint) {
	tb.Helper()
	for _, name := range c.Names() {
		tensor, ok := c.Tensor(name)
		want := 1
		for _, d := range tensor.Shape {
			want *= d
		}
		if !ok || len(tensor.Data) != want {
			tb.Errorf("%q: %v, shape %v with %d numbers", name, ok, tensor.Shape, len(tensor.Data))
		}
	}
}

func FuzzReadCheckpoint(f *testing.F) {
	for _, path := range containers() {
		f.Add(mustReadFile(f, path))
	}
	f.Add(mustReadFile(f, filepath.Join("testdata", "containers", "module.pth")))
	for _, name := range wrappers() {
		wrapped := asmDict(asmText("epoch"), asmInt(1), asmText(name), asmDict(asmText("module"),
			asmNet("module._orig_mod.", "1")))
		f.Add(wrappedFile(asmDict(asmText("model"), wrapped, unused("1", "2", "3"))))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if c, err := ReadCheckpoint(b); err == nil {
			checkSound(t, c)
		}
	})
}

func BenchmarkReadCheckpoint(b *testing.B) {
	file := mustReadFile(b, sharedFile("parity", "mbv3_w1.0", "supernet.pth"))
	b.SetBytes(int64(len(file)))
	for b.Loop() {
		if _, err := ReadCheckpoint(file); err != nil {
			b.Fatal(err)
		}
	}
}
