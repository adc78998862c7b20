// Package familytest makes what tests of other packages make families of: images,
// a supernet, models of others, and the process that tries these.
package familytest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/limber-edge/limber/agent/frame"
	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/family/ofa"
	"github.com/limber-edge/limber/family/onnx"
	"github.com/limber-edge/limber/family/ort"
	"github.com/limber-edge/limber/family/ort/orttest"
	"github.com/limber-edge/limber/family/stock"
	"github.com/limber-edge/limber/family/trial"
)

// Stock is the stock family.
func Stock(tb testing.TB) *family.Folder {
	tb.Helper()
	f, err := stock.Family()
	if err != nil {
		tb.Fatal(err)
	}
	return f
}

// Write writes a file.
func Write(tb testing.TB, path string, b []byte) {
	tb.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		tb.Fatal(err)
	}
}

// Members cuts a family's members, each with its own BN statistics.
func Members(tb testing.TB, f *family.Folder) (members []*ofa.Subnet) {
	tb.Helper()
	desc, err := ofa.ParseDescription(f.Describe)
	if err != nil {
		tb.Fatal(err)
	}
	b, err := f.Blob(f.Supernet)
	if err != nil {
		tb.Fatal(err)
	}
	net, err := ofa.Parse(b, desc)
	for i := 0; err == nil && i < len(f.Members); i++ {
		var sub *ofa.Subnet
		sub, err = net.Member(f.Members[i], f)
		members = append(members, sub)
	}
	if err != nil {
		tb.Fatal(err)
	}
	return members
}

// Recut is a family of some of the stock family's members, each for images of the other
// size of its supernet, which makes it another member. It comes with its blobs.
func Recut(tb testing.TB, rt *ort.Runtime, name string, members ...int) (*family.Family, family.MemoryBlobs) {
	tb.Helper()
	from, blobs := *Stock(tb), family.MemoryBlobs{}
	for _, d := range from.Digests() {
		b, err := from.Blob(d)
		if err != nil {
			tb.Fatal(err)
		}
		blobs[d] = b
	}
	all := from.Members
	from.Name, from.Members = name, nil
	for _, i := range members {
		m := all[i]
		m.Name, m.Arch.R = m.Name+"-"+name, 28+32-m.Arch.R
		from.Members = append(from.Members, m)
	}
	for i, sub := range Members(tb, &from) {
		input := make([]float32, 3*sub.Arch().R*sub.Arch().R)
		for at := range input {
			input[at] = float32(at%7) / 7
		}
		from.Members[i].Canary = blobs.Add(family.FloatBytes(append(input, logits(tb, rt, sub, input)...)))
	}
	return &from.Family, blobs
}

// logits runs a sub-network on an image.
func logits(tb testing.TB, rt *ort.Runtime, sub *ofa.Subnet, image []float32) []float32 {
	tb.Helper()
	run, err := sub.Load(func(model []byte, input string, outputs []string) (ofa.BatchRunner, error) {
		return rt.NewBatch(model, input, outputs, ort.DefaultOptions())
	})
	if err != nil {
		tb.Fatal(err)
	}
	out, err := run.Run(image, 1, sub.Arch().R)
	if err = errors.Join(err, run.Close()); err != nil {
		tb.Fatal(err)
	}
	return out[0]
}

// Fixtures is the folder of the supernets of package ofa, with what PyTorch computed.
func Fixtures(tb testing.TB) string {
	tb.Helper()
	return filepath.Join(orttest.Root(tb), "family", "ofa", "testdata")
}

// NarrowSupernet writes a supernet of few choices, which names no classes, with its
// description.
func NarrowSupernet(tb testing.TB, dir string) (path string) {
	tb.Helper()
	from := filepath.Join(Fixtures(tb), "cifar")
	d, err := ofa.ParseDescription(Read(tb, filepath.Join(from, "supernet.json")))
	if err != nil {
		tb.Fatal(err)
	}
	d.Resolutions, d.D, d.Classes = d.Resolutions[:1], d.D[len(d.D)-1:], nil
	desc, err := d.Marshal()
	if err != nil {
		tb.Fatal(err)
	}
	path = filepath.Join(dir, "supernet.pth")
	Write(tb, path, Read(tb, filepath.Join(from, "supernet.pth")))
	Write(tb, filepath.Join(dir, "supernet.json"), desc)
	return path
}

// sheet is opened once, for all that it takes under the race detector.
var sheet = sync.OnceValues(func() (*frame.Sheet, error) { return stock.Sheet(frame.OpenSheet) })

// Tree writes n images of the stock sheet from first on, in turn, to folders of
// these names; without names as class0/0.png, class1/1.png and so on.
func Tree(tb testing.TB, dir string, first, n int, classes ...string) string {
	tb.Helper()
	if len(classes) == 0 {
		for i := range min(n, 10) {
			classes = append(classes, fmt.Sprintf("class%d", i))
		}
	}
	images, err := sheet()
	if err != nil {
		tb.Fatal(err)
	}
	for i := range n {
		class := filepath.Join(dir, classes[i%len(classes)])
		if err := os.MkdirAll(class, 0o755); err != nil {
			tb.Fatal(err)
		}
		b, err := images.PNG(first + i)
		if err != nil {
			tb.Fatal(err)
		}
		Write(tb, filepath.Join(class, fmt.Sprintf("%d.png", i)), b)
	}
	return dir
}

// Model takes images of 24×24 and gives ten logits, after one more operator.
func Model(tb testing.TB, op string) []byte {
	tb.Helper()
	return ten(tb, "Identity", func(g *onnx.Graph) string {
		return g.Node(op, "op", []string{g.Node("GlobalAveragePool", "mean", []string{"x"})})
	})
}

// ModelThatEnds is one that ends in the operator.
func ModelThatEnds(tb testing.TB, op string) []byte {
	tb.Helper()
	return ten(tb, op, func(g *onnx.Graph) string {
		return g.Node("GlobalAveragePool", "mean", []string{"x"})
	})
}

// Bomb is a model that a scan lets in and that takes 18 GiB when it runs.
func Bomb(tb testing.TB) []byte {
	tb.Helper()
	return ten(tb, "Identity", func(g *onnx.Graph) string {
		shape := g.Node("Cast", "shape", []string{g.Weight("numbers", []int{4}, []float32{1, 3, 40000, 40000})},
			onnx.Int("to", 7))
		return g.Node("Expand", "big", []string{g.Node("GlobalAveragePool", "mean", []string{"x"}), shape})
	})
}

func ten(tb testing.TB, last string, build func(g *onnx.Graph) string) []byte {
	tb.Helper()
	g := onnx.New("ten", onnx.Value{Name: "x", Dims: []int{1, 3, 24, 24}})
	g.Node(last, "y", []string{sums(g, build(g))})
	g.Output(onnx.Value{Name: "y", Dims: []int{1, 10}})
	return marshal(tb, g)
}

// sums are ten weighted sums of the means of the channels of x, 1×10.
func sums(g *onnx.Graph, x string) string {
	channels := g.Node("ReduceMean", "channels", []string{x}, onnx.Ints("axes", 2, 3), onnx.Int("keepdims", 0))
	weight := make([]float32, 30)
	for i := range weight {
		weight[i] = float32(i%7) - 3
	}
	return g.Node("MatMul", "sums", []string{channels, g.Weight("w", []int{3, 10}, weight)})
}

// Scores ends in what last makes of ten scores that differ much, an output of 1×10
// and more.
func Scores(tb testing.TB, last func(g *onnx.Graph, scores string) string, more ...int) []byte {
	tb.Helper()
	g := onnx.New("scores", onnx.Value{Name: "x", Dims: []int{1, 3, 24, 24}})
	bias := make([]float32, 10)
	bias[3] = 9
	out := last(g, g.Node("Add", "raw", []string{sums(g, "x"), g.Weight("b", []int{10}, bias)}))
	g.Output(onnx.Value{Name: out, Dims: append([]int{1, 10}, more...)})
	return marshal(tb, g)
}

func marshal(tb testing.TB, g *onnx.Graph) []byte {
	tb.Helper()
	b, err := g.Marshal()
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// Foreign packs a family of models whose maker did not try them. The members are as
// accurate as they come late; they share a canary.
func Foreign(tb testing.TB, path string, canary []byte, models ...[]byte) {
	tb.Helper()
	blobs, ours := family.MemoryBlobs{}, Stock(tb)
	theirs := family.Family{Schema: family.Schema, Name: "theirs", Describe: ours.Describe, Classes: ours.Classes}
	for i, model := range models {
		top1 := 0.5 + float64(i)/10
		m := family.Member{Name: string(rune('a' + i)), Top1: top1, Top5: top1, Model: blobs.Add(model),
			Canary: blobs.Add(canary), Input: "x", Output: "y"}
		m.Arch.R = 24
		theirs.Members = append(theirs.Members, m)
	}
	var b bytes.Buffer
	if err := family.Pack(&b, &theirs, blobs, func(family.Digest) bool { return false }); err != nil {
		tb.Fatal(err)
	}
	Write(tb, path, b.Bytes())
}

// asTrial makes the test binary the process that a trial starts.
const asTrial = "LIMBER_TEST_AS_TRIAL"

// Main is TestMain of a package whose tests use Trial.
func Main(m *testing.M) {
	if os.Getenv(asTrial) == "" {
		os.Exit(m.Run())
	}
	path, err := ort.Find()
	if err == nil {
		var rt *ort.Runtime
		if rt, err = ort.Open(path); err == nil {
			err = errors.Join(trial.Serve(rt, os.Stdin, os.Stdout), rt.Close())
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// Trial tries models in processes of the test binary, see Main. It sets the
// environment, so that its test cannot be parallel.
func Trial(t *testing.T) *trial.Trial {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv(asTrial, "1")
	t.Setenv("ONNXRUNTIME_LIB", orttest.Path(t))
	return trial.New(trial.LimitsOf, exe)
}

// Read reads a file.
func Read(tb testing.TB, path string) []byte {
	tb.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// Floats reads a file of little-endian float32.
func Floats(tb testing.TB, path string) []float32 {
	tb.Helper()
	v, err := family.Floats(Read(tb, path))
	if err != nil {
		tb.Fatalf("%s: %v", path, err)
	}
	return v
}

// A Case is one architecture of a fixture's cases.json, with what PyTorch computed.
type Case struct {
	Arch    json.RawMessage `json:"arch"`
	Batches []string        `json:"batches"` // files, of the calibration case
	Input   string          `json:"input"`   // file
	Logits  string          `json:"logits"`  // file
}

// Cases reads those of a fixture.
func Cases(tb testing.TB, dir string) (cases []Case, calibration Case) {
	tb.Helper()
	var all struct {
		Cases       []Case `json:"cases"`
		Calibration Case   `json:"calibration"`
	}
	if err := json.Unmarshal(Read(tb, filepath.Join(dir, "cases.json")), &all); err != nil {
		tb.Fatal(err)
	}
	if len(all.Cases) == 0 || len(all.Calibration.Batches) == 0 {
		tb.Fatalf("%s holds no cases", dir)
	}
	return all.Cases, all.Calibration
}
