package agent

import (
	"github.com/limber-edge/limber/agent/engine"
	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/family/ort"
	"github.com/limber-edge/limber/family/resident"
)

// ONNXRuntime is that of this machine, as an Inference.
type ONNXRuntime struct {
	*ort.Runtime
	State string         // folder, for what is made of members
	Guard resident.Guard // tries foreign models; nil refuses them
}

// OpenONNXRuntime opens it for the device whose state is in a folder.
func OpenONNXRuntime(state string, guard resident.Guard) (Inference, error) {
	path, err := ort.Find()
	if err != nil {
		return nil, err
	}
	rt, err := ort.Open(path)
	return ONNXRuntime{rt, state, guard}, err
}

// Members implements Inference.
func (r ONNXRuntime) Members(f *family.Family, blobs family.Blobs) (Members, error) {
	shelf, err := resident.Open(r.Runtime, f, blobs, r.State, r.Guard)
	return func(v family.Variant) (engine.Loader, error) { return shelf(v) }, err
}
