package ofa_test

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/family/familytest"
	"github.com/limber-edge/limber/family/ofa"
	"github.com/limber-edge/limber/family/ort"
	"github.com/limber-edge/limber/family/ort/orttest"
)

// parity is a cases.json: what PyTorch and the original code computed.
type parity struct {
	Cases []struct {
		Arch   family.Arch `json:"arch"`
		Input  string      `json:"input"`
		Logits string      `json:"logits"`
	} `json:"cases"`
	Calibration struct {
		Arch    family.Arch `json:"arch"`
		Batches []string    `json:"batches"`
		Input   string      `json:"input"`
		Logits  string      `json:"logits"`
	} `json:"calibration"`
}

// tolerance is how far a logit may be from PyTorch's, as a fraction of the
// standard deviation of its row.
const tolerance = 1e-4

func TestSubNetworksAgreeWithPyTorch(t *testing.T) {
	t.Run("narrow, ImageNet strides", func(t *testing.T) {
		checkParity(t, filepath.Join("testdata", "imagenet"), "supernet.pth", "cases.json")
	})
	t.Run("narrow, CIFAR strides, fp16", func(t *testing.T) {
		checkParity(t, filepath.Join("testdata", "cifar"), "supernet.pth", "cases.json")
	})
	t.Run("narrow ProxylessNASNet, fp16", func(t *testing.T) {
		checkParity(t, filepath.Join("testdata", "proxyless"), "supernet.pth", "cases.json")
	})
	t.Run("narrow ResNet50, fp16", func(t *testing.T) {
		checkParity(t, filepath.Join("testdata", "resnet"), "supernet.pth", "cases.json")
	})
	shared := filepath.Join(orttest.Root(t), "..", "shared", "data", "parity", "mbv3_w1.0")
	t.Run("w1.0", func(t *testing.T) {
		if _, err := os.Stat(shared); err != nil {
			t.Skip("the full-size parity checkpoint is not beside this checkout")
		}
		checkParity(t, shared, "supernet.pth", "cases.json")
	})
}

func checkParity(t *testing.T, dir, checkpoint, cases string) {
	rt := orttest.Open(t)
	net := mustSupernet(t, filepath.Join(dir, checkpoint))
	var want parity
	if err := json.Unmarshal(familytest.Read(t, filepath.Join(dir, cases)), &want); err != nil {
		t.Fatal(err)
	}
	if len(want.Cases) == 0 || len(want.Calibration.Batches) == 0 {
		t.Fatalf("%s holds no cases", cases)
	}
	for i, c := range want.Cases {
		t.Run(fmt.Sprintf("case %d", i), func(t *testing.T) {
			sub, err := net.Cut(c.Arch)
			if err != nil {
				t.Fatal(err)
			}
			compare(t, infer(t, rt, sub, familytest.Floats(t, filepath.Join(dir, c.Input))), familytest.Floats(t, filepath.Join(dir, c.Logits)), sub.Classes())
		})
	}
	t.Run("calibrated", func(t *testing.T) {
		c := want.Calibration
		sub, err := net.Cut(c.Arch)
		if err != nil {
			t.Fatal(err)
		}
		batches := func(i int) ([]float32, error) {
			if i == len(c.Batches) {
				return nil, nil
			}
			return familytest.Floats(t, filepath.Join(dir, c.Batches[i])), nil
		}
		if err := sub.Calibrate(loader(rt), batches); err != nil {
			t.Fatal(err)
		}
		compare(t, infer(t, rt, sub, familytest.Floats(t, filepath.Join(dir, c.Input))), familytest.Floats(t, filepath.Join(dir, c.Logits)), sub.Classes())
	})
}

func loader(rt *ort.Runtime) ofa.Loader {
	return func(model []byte, input string, outputs []string) (ofa.BatchRunner, error) {
		return rt.NewBatch(model, input, outputs, ort.DefaultOptions())
	}
}

// infer runs the folded model on a batch of images.
func infer(t *testing.T, rt *ort.Runtime, sub *ofa.Subnet, in []float32) []float32 {
	t.Helper()
	model, err := sub.Model(0)
	if err != nil {
		t.Fatal(err)
	}
	run, err := rt.NewBatch(model, ofa.InputName, []string{ofa.OutputName}, ort.DefaultOptions())
	if err != nil {
		t.Fatal(err)
	}
	defer run.Close()
	r := sub.Arch().R
	out, err := run.Run(in, len(in)/(3*r*r), r)
	if err != nil {
		t.Fatal(err)
	}
	return out[0]
}

func compare(t *testing.T, got, want []float32, classes int) {
	t.Helper()
	if len(got) != len(want) || len(got)%classes != 0 {
		t.Fatalf("got %d logits, want %d", len(got), len(want))
	}
	worst := 0.0
	for row := 0; row < len(want); row += classes {
		std := deviation(want[row : row+classes])
		for i := row; i < row+classes; i++ {
			worst = max(worst, math.Abs(float64(got[i]-want[i]))/std)
		}
	}
	t.Logf("worst logit is %.2g standard deviations off", worst)
	if !(worst <= tolerance) {
		t.Errorf("worst logit is %.3g standard deviations off, want at most %.0e", worst, tolerance)
	}
}

func deviation(row []float32) float64 {
	var sum, square float64
	for _, v := range row {
		sum += float64(v)
	}
	mean := sum / float64(len(row))
	for _, v := range row {
		square += (float64(v) - mean) * (float64(v) - mean)
	}
	return math.Sqrt(square / float64(len(row)))
}

func mustSupernet(t *testing.T, path string) *ofa.Supernet {
	t.Helper()
	net, err := ofa.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	return net
}
