package ofa

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/limber-edge/limber/family"
)

func mustLoad(tb testing.TB, path string) *Supernet {
	tb.Helper()
	mustReadFile(tb, path) // skips where it is missing beside the project
	net, err := Load(path)
	if err != nil {
		tb.Fatal(err)
	}
	return net
}

func mustCut(tb testing.TB, net *Supernet, a family.Arch) *Subnet {
	tb.Helper()
	sub, err := net.Cut(a)
	if err != nil {
		tb.Fatal(err)
	}
	return sub
}

func fixture(name string) string { return filepath.Join("testdata", name, "supernet.pth") }

// Figures of the published structure, counted from the exact rules.
func TestCostsOfThePublishedStructure(t *testing.T) {
	net := mustLoad(t, sharedFile("parity", "mbv3_w1.0", "supernet.pth"))
	desc := net.Description()
	for _, tt := range []struct {
		depth  int
		e      float64
		k, r   int
		mmacs  float64
		params float64 // millions, with the scales and shifts of BN; 0 is unknown
	}{
		{2, 3, 3, 224, 121.3, 3.41}, {2, 3, 7, 224, 151.3, 3.49}, {2, 6, 3, 224, 222.6, 4.67}, {2, 6, 7, 224, 282.6, 4.84},
		{4, 3, 3, 224, 226.2, 4.37}, {4, 3, 7, 224, 292.7, 4.55}, {4, 6, 3, 224, 433.1, 7.30}, {4, 6, 7, 224, 566.2, 7.66},
		{2, 3, 3, 128, 41.5, 0}, {4, 6, 7, 128, 188.2, 0}, {2, 3, 3, 160, 63.2, 0}, {4, 6, 7, 160, 291.3, 0},
	} {
		sub := mustCut(t, net, desc.Uniform(tt.k, tt.e, tt.depth, tt.r))
		if got := sub.MMACs(); math.Abs(got-tt.mmacs) > 0.05 {
			t.Errorf("k%d e%v d%d r%d: got %.2f MMACs, want %.1f", tt.k, tt.e, tt.depth, tt.r, got, tt.mmacs)
		}
		if got := float64(unfolded(sub)) / 1e6; tt.params > 0 && math.Abs(got-tt.params) > 0.005 {
			t.Errorf("k%d e%v d%d: got %.3f M parameters, want %.2f", tt.k, tt.e, tt.depth, got, tt.params)
		}
	}
}

// unfolded counts parameters as PyTorch does: two for each BN channel, of which
// folding leaves one.
func unfolded(n *Subnet) int {
	params := n.Params()
	for _, bn := range n.norms() {
		params += len(bn.gamma)
	}
	return params
}

func TestCostsOfTheFirstStockSupernet(t *testing.T) {
	net := mustLoad(t, sharedFile("supernet", "supernet.pth"))
	desc := net.Description()
	for _, tt := range []struct {
		k     int
		e     float64
		depth int
		r     int
		mmacs float64 // without the classifier's 6,400
	}{
		{7, 6, 4, 32, 29.68}, {5, 6, 4, 32, 24.02}, {5, 4, 3, 32, 12.27}, {3, 4, 3, 32, 10.41},
		{3, 3, 2, 32, 5.59}, {5, 4, 3, 28, 10.51}, {3, 3, 2, 28, 4.86}, {3, 3, 2, 24, 3.31},
	} {
		sub := mustCut(t, net, desc.Uniform(tt.k, tt.e, tt.depth, tt.r))
		if got := sub.MMACs() - 0.0064; math.Abs(got-tt.mmacs) > 0.006 {
			t.Errorf("k%d e%v d%d r%d: got %.3f MMACs, want %.2f", tt.k, tt.e, tt.depth, tt.r, got, tt.mmacs)
		}
	}
}

func TestParametersAreThoseOfTheOriginalSubNetwork(t *testing.T) {
	for _, name := range []string{"imagenet", "cifar", "proxyless", "resnet"} {
		net := mustLoad(t, fixture(name))
		var all struct {
			Cases []struct {
				Arch   family.Arch
				Params int
			}
		}
		if err := json.Unmarshal(mustReadFile(t, filepath.Join("testdata", name, "cases.json")), &all); err != nil {
			t.Fatal(err)
		}
		for i, c := range all.Cases {
			if got := unfolded(mustCut(t, net, c.Arch)); got != c.Params {
				t.Errorf("%s, case %d: got %d parameters, want %d", name, i, got, c.Params)
			}
		}
	}
}

func TestStatisticsSurviveTakingOutAndPuttingIn(t *testing.T) {
	net := mustLoad(t, fixture("cifar"))
	desc := net.Description()
	sub := mustCut(t, net, desc.Uniform(5, 4, 3, 28))
	want := sub.Stats()
	for i := range want {
		want[i] = float32(i + 1)
	}
	before, err := net.Cut(sub.Arch())
	if err != nil {
		t.Fatal(err)
	}
	if err := sub.SetStats(slices.Clone(want)); err != nil {
		t.Fatal(err)
	}
	if got := sub.Stats(); !slices.Equal(got, want) {
		t.Errorf("got %d other statistics than were put in", len(got))
	}
	if again := mustCut(t, net, sub.Arch()); !slices.Equal(again.Stats(), before.Stats()) {
		t.Error("the supernet's own statistics have changed")
	}
	for name, bad := range map[string][]float32{
		"too few": want[1:], "too many": append(slices.Clone(want), 1), "none": nil,
		"NaN":      append(slices.Clone(want[1:]), float32(math.NaN())),
		"infinite": append(slices.Clone(want[1:]), float32(math.Inf(1))),
		"variance": append(slices.Clone(want[:len(want)-1]), -1),
	} {
		if err := sub.SetStats(bad); err == nil || !strings.Contains(err.Error(), "BN statistics") {
			t.Errorf("%s: got %v, want an error about BN statistics", name, err)
		}
		if !slices.Equal(sub.Stats(), want) {
			t.Fatalf("%s: the refused statistics were put in", name)
		}
	}
}

func TestArchitectureOfAnotherSupernetIsRefused(t *testing.T) {
	desc := Published()
	for _, tt := range []struct {
		name   string
		change func(a *family.Arch)
		says   string
	}{
		{"kernel size", func(a *family.Arch) { a.KS[4] = 9 }, "block 5 has kernel size 9"},
		{"expand ratio", func(a *family.Arch) { a.E[19] = 5 }, "block 20 has expand ratio 5"},
		{"expand ratio NaN", func(a *family.Arch) { a.E[0] = math.NaN() }, "block 1 has expand ratio NaN"},
		{"depth", func(a *family.Arch) { a.D[2] = 5 }, "stage 3 has depth 5"},
		{"negative depth", func(a *family.Arch) { a.D[0] = -1 }, "stage 1 has depth -1"},
		{"fewer blocks", func(a *family.Arch) { a.KS = a.KS[1:] }, "wants 20 ks, 20 e and 5 d, got 19"},
		{"a ProxylessNASNets", func(a *family.Arch) { a.D = append(a.D, 1) }, "got 20, 20 and 6"},
		{"an OFA-ResNet50", func(a *family.Arch) { a.W = []int{0} }, "OFA-ResNet50"},
		{"resolution 0", func(a *family.Arch) { a.R = 0 }, "resolution 0"},
		{"resolution too high", func(a *family.Arch) { a.R = 4096 }, "resolution 4096"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := desc.Uniform(3, 4, 4, 224)
			tt.change(&a)
			if err := desc.Check(a); err == nil || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("got %v, want %q", err, tt.says)
			}
		})
	}
	unused := desc.Uniform(3, 4, 2, 224)
	unused.KS[2], unused.E[3] = 99, -1 // behind the depth of stage 1
	if err := desc.Check(unused); err != nil {
		t.Errorf("unused slots: got %v, want them ignored", err)
	}
}

func TestDescriptionThatCannotBeIsRefused(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(d *Description)
		says   string
	}{
		{"kind", func(d *Description) { d.Kind = "resnet" }, `kind "resnet"`},
		{"lists of different lengths", func(d *Description) { d.SE = d.SE[1:] }, "got 6, 6 and 5"},
		{"no stages", func(d *Description) { d.Strides, d.Acts, d.SE = d.Strides[:1], d.Acts[:1], d.SE[:1] },
			"got 1, 1 and 1"},
		{"bn_eps", func(d *Description) { d.BNEps = 0 }, "bn_eps 0"},
		{"stride", func(d *Description) { d.Strides[2] = 3 }, "stride 3"},
		{"stem stride", func(d *Description) { d.StemStride = 0 }, "stride 0"},
		{"act", func(d *Description) { d.Acts[0] = "gelu" }, `act "gelu"`},
		{"even kernel", func(d *Description) { d.KS = []int{3, 4} }, "ks [3 4]"},
		{"no kernels", func(d *Description) { d.KS = nil }, "ks []"},
		{"expand ratio under 1", func(d *Description) { d.E = []float64{0.5} }, "e [0.5]"},
		{"depth 0", func(d *Description) { d.D = []int{0, 2} }, "d [0 2]"},
		{"resolution", func(d *Description) { d.Resolutions = []int{100000} }, "resolutions [100000]"},
		{"std 0", func(d *Description) { d.Std[1] = 0 }, "std"},
		{"resize", func(d *Description) { d.Resize = "nearest" }, `resize "nearest"`},
		{"crop", func(d *Description) { d.Crop = "87.5%" }, `crop "87.5%"`},
		{"crop over 1", func(d *Description) { d.Crop = "1.5" }, `crop "1.5"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := Published()
			tt.change(&d)
			b, err := json.Marshal(d)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := ParseDescription(b); err == nil || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("got %v, want %q", err, tt.says)
			}
		})
	}
	for _, s := range []string{``, `[]`, `{}`, `{"kind":"ofa_mbv3","strids":[1]}`} {
		if _, err := ParseDescription([]byte(s)); err == nil {
			t.Errorf("%s: got no error", s)
		}
	}
}

func FuzzParseDescription(f *testing.F) {
	b, err := json.Marshal(Published())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add(append(b, '{'))
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := ParseDescription(b)
		if err != nil {
			return
		}
		a := d.Uniform(d.KS[0], d.E[0], d.D[0], d.Resolutions[0])
		if err := d.Check(a); err != nil {
			t.Errorf("its own architecture: %v", err)
		}
	})
}

func TestDescriptionOfThePublishedNetworksSurvivesJSON(t *testing.T) {
	b, err := json.Marshal(Published())
	if err != nil {
		t.Fatal(err)
	}
	d, err := ParseDescription(b)
	if crop, cropErr := d.CropFraction(); err != nil || cropErr != nil || crop != 0.875 || len(d.Resolutions) != 25 {
		t.Errorf("got %+v, %v", d, err)
	}
	if _, err := ParseDescription(append(b, b...)); err == nil {
		t.Error("two descriptions in one were taken")
	}
}

func TestLoadNamesTheFileAndWhatIsWrong(t *testing.T) {
	dir := t.TempDir()
	file := func(name string, b []byte) string {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
		return filepath.Join(dir, name)
	}
	zip, legacy := mustReadFile(t, fixture("cifar")), mustReadFile(t, fixture("imagenet"))
	shallow := Published()
	shallow.D = []int{2, 3}
	wide := Published()
	wide.E = []float64{3, 4, 8}
	for _, tt := range []struct {
		name     string
		path     string
		describe *Description
		says     []string
	}{
		{"missing", filepath.Join(dir, "none.pth"), nil, []string{"none.pth", "no such file"}},
		{"text", file("text.pth", []byte("hello\n")), nil, []string{"text.pth", "looks like text"}},
		{"empty", file("empty.pth", nil), nil, []string{"empty.pth", "the file is empty"}},
		{"zip container cut off", file("zip.pth", zip[:len(zip)/2]), nil, []string{"zip.pth", "truncated"}},
		{"legacy container cut off", file("legacy.pth", legacy[:len(legacy)/2]), nil, []string{"legacy.pth"}},
		{"another network", file("tiny.pth", mustReadFile(t, filepath.Join("testdata", "containers", "zip.pth"))), nil,
			[]string{"tiny.pth", "no tensor first_conv.conv.weight", "is it an OFA-MobileNetV3?"}},
		{"more blocks than described", file("deep.pth", legacy), &shallow, []string{"deep.pth"}},
		{"other widths than described", file("wide.pth", legacy), &wide, []string{"wide.pth", "has shape", "want"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.describe != nil {
				b, err := json.Marshal(tt.describe)
				if err != nil {
					t.Fatal(err)
				}
				file(strings.TrimSuffix(filepath.Base(tt.path), ".pth")+".json", b)
			}
			_, err := Load(tt.path)
			if err == nil {
				t.Fatal("got a supernet")
			}
			for _, part := range tt.says {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("got %q, want it to say %q", err, part)
				}
			}
		})
	}
}

func TestWidthsAreRoundedAsInTheOriginal(t *testing.T) {
	for v, want := range map[float64]int{1: 8, 8: 8, 11: 16, 12: 16, 17: 16, 18: 24, 19.2: 24, 134.4: 136, 1152: 1152} {
		if got := Divisible(v); got != want {
			t.Errorf("%v: got %d, want %d", v, got, want)
		}
	}
	for _, tt := range []struct {
		in    int
		ratio float64
		want  int
	}{{24, 3, 72}, {40, 4, 160}, {112, 6, 672}, {136, 3, 408}, {80, 4, 320}} {
		if got := Expanded(tt.in, tt.ratio); got != tt.want {
			t.Errorf("%d channels, ratio %v: got %d, want %d", tt.in, tt.ratio, got, tt.want)
		}
	}
}
