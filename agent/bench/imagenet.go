package bench

import (
	"fmt"
	"os"

	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/family/ofa"
	"github.com/limber-edge/limber/family/ort"
	"github.com/limber-edge/limber/family/resident"
	"github.com/limber-edge/limber/family/workshop"
)

// publishedTop1 are the six levels of Dynamic-OFA.
func publishedTop1() [6]float64 {
	return [6]float64{0.74202, 0.74968, 0.76134, 0.7754, 0.78346, 0.7903}
}

// imageNetFamily cuts six sub-networks of growing cost, with the supernet's own
// BN statistics, which are right for speed and meaningless for accuracy, and the
// published levels of top-1 as labels.
func imageNetFamily(rt *ort.Runtime, path string) (*family.Family, family.Blobs, error) {
	net, err := ofa.Load(path)
	if err != nil {
		return nil, nil, err
	}
	checkpoint, err := os.ReadFile(path)
	if err != nil {
		return nil, nil, err
	}
	blobs, desc := family.MemoryBlobs{}, net.Description()
	f := &family.Family{Schema: family.Schema, Name: "bench", Supernet: blobs.Add(checkpoint),
		Classes: make([]string, net.Classes())}
	if f.Describe, err = desc.Marshal(); err != nil {
		return nil, nil, err
	}
	for i, a := range []struct {
		k     int
		e     float64
		depth int
		r     int
	}{{3, 3, 2, 160}, {3, 3, 2, 192}, {3, 4, 3, 192}, {5, 4, 3, 208}, {5, 6, 3, 224}, {7, 6, 4, 224}} {
		sub, err := net.Cut(desc.Uniform(a.k, a.e, a.depth, a.r))
		if err != nil {
			return nil, nil, err
		}
		input := workshop.Noise(3 * a.r * a.r)
		logits, err := workshop.Infer(sub, workshop.Loader(rt, 1), input)
		if err != nil {
			return nil, nil, err
		}
		f.Members = append(f.Members, family.Member{Name: fmt.Sprintf("s%d", i), Arch: sub.Arch(), MMACs: sub.MMACs(),
			Top1: publishedTop1()[i], Top5: 0.9, Images: 0,
			Stats: blobs.Add(family.FloatBytes(sub.Stats())), Canary: blobs.Add(resident.Canary(input, logits))})
	}
	return f, blobs, nil
}
