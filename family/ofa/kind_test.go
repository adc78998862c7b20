package ofa

import (
	"slices"
	"strings"
	"testing"

	"github.com/limber-edge/limber/family"
)

func TestKindIsRecognisedByItsTensors(t *testing.T) {
	for name, want := range map[string]string{"imagenet": MobileNetV3, "proxyless": ProxylessNAS, "resnet": ResNet50} {
		net := mustLoad(t, fixture(name)) // no description lies beside it
		if got := net.Description(); got.Kind != want {
			t.Errorf("%s: got kind %s, want %s", name, got.Kind, want)
		}
		b, err := net.desc.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		if again, err := ParseDescription(b); err != nil || again.Kind != want {
			t.Errorf("%s: its description read back: %+v, %v", name, again, err)
		}
	}
}

func TestEncodingsAreThoseOfTheOriginal(t *testing.T) {
	for _, tt := range []struct {
		desc        Description
		ks, e, d, w int
	}{
		{Published(), 20, 20, 5, 0},
		{PublishedProxylessNAS(), 21, 21, 6, 0},
		{PublishedResNet50(), 0, 18, 5, 6},
	} {
		if err := tt.desc.validate(); err != nil {
			t.Errorf("%s: %v", tt.desc.Kind, err)
		}
		a := tt.desc.Uniform(slices.Max(tt.desc.KS), slices.Max(tt.desc.E), tt.desc.maxDepth(), 224)
		if len(a.KS) != tt.ks || len(a.E) != tt.e || len(a.D) != tt.d || len(a.W) != tt.w {
			t.Errorf("%s: got %d ks, %d e, %d d, %d w; want %d, %d, %d, %d", tt.desc.Kind, len(a.KS), len(a.E), len(a.D),
				len(a.W), tt.ks, tt.e, tt.d, tt.w)
		}
		if err := tt.desc.Check(a); err != nil {
			t.Errorf("%s: %v", tt.desc.Kind, err)
		}
	}
}

func TestArchitecturesOfEveryKindAreJudged(t *testing.T) {
	for _, tt := range []struct {
		name   string
		desc   Description
		change func(*family.Arch)
		want   string // "" is let in
	}{
		{"Proxyless, one block in its last stage", PublishedProxylessNAS(), func(a *family.Arch) { a.D[5] = 1 }, ""},
		{"Proxyless, its last depth is clamped", PublishedProxylessNAS(), func(a *family.Arch) { a.D[5] = 4 }, ""},
		{"Proxyless, one block in another stage", PublishedProxylessNAS(), func(a *family.Arch) { a.D[4] = 1 },
			"stage 5 has depth 1"},
		{"Proxyless of 20 blocks", PublishedProxylessNAS(), func(a *family.Arch) { a.KS = a.KS[1:] },
			"wants 21 ks, 21 e and 6 d, got 20"},
		{"ResNet50 with its one kernel size", PublishedResNet50(), func(a *family.Arch) {
			a.KS = slices.Repeat([]int{3},
				18)
		}, ""},
		{"ResNet50 with another kernel size", PublishedResNet50(), func(a *family.Arch) {
			a.KS = slices.Repeat([]int{5},
				18)
		}, "kernel size 5"},
		{"ResNet50 without its stem", PublishedResNet50(), func(a *family.Arch) { a.D[0] = 0 }, ""},
		{"ResNet50 of width 3", PublishedResNet50(), func(a *family.Arch) { a.W[2] = 3 }, "width 3 is number 3"},
		{"ResNet50 of width -1", PublishedResNet50(), func(a *family.Arch) { a.W[0] = -1 }, "width 1 is number -1"},
		{"ResNet50 without widths", PublishedResNet50(), func(a *family.Arch) { a.W = nil },
			"wants 18 e, 5 d and 6 w, got 18, 5 and 0"},
		{"ResNet50, expand ratio", PublishedResNet50(), func(a *family.Arch) { a.E[17] = 0.3 },
			"block 18 has expand ratio 0.3"},
		{"ResNet50, expand ratio of an unused block", PublishedResNet50(), func(a *family.Arch) { a.E[17], a.D[4] = 0.3, 0 },
			""},
		{"ResNet50, depth", PublishedResNet50(), func(a *family.Arch) { a.D[1] = 3 }, "stage 2 has depth 3"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := tt.desc.Uniform(slices.Max(tt.desc.KS), slices.Max(tt.desc.E), tt.desc.maxDepth(), 224)
			tt.change(&a)
			err := tt.desc.Check(a)
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

func TestDescriptionsOfEveryKindAreJudged(t *testing.T) {
	for _, tt := range []struct {
		name   string
		desc   Description
		change func(*Description)
		want   string
	}{
		{"ResNet50 with activations", PublishedResNet50(), func(d *Description) { d.Acts = []string{"relu"} },
			"wants 4 strides and nothing else"},
		{"ResNet50 of three stages", PublishedResNet50(), func(d *Description) { d.Strides = d.Strides[1:] },
			"wants 4 strides"},
		{"ResNet50 without widths", PublishedResNet50(), func(d *Description) { d.W = nil }, "w []"},
		{"MobileNetV3 with widths", Published(), func(d *Description) { d.W = []float64{1} }, "w [1]"},
		{"MobileNetV3 of depth 0", Published(), func(d *Description) { d.D = []int{0} }, "depths from 1"},
		{"Proxyless, unknown activation", PublishedProxylessNAS(), func(d *Description) { d.Acts[0] = "swish" }, `"relu6"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.change(&tt.desc)
			if err := tt.desc.validate(); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}
