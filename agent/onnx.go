package agent

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"github.com/limber-edge/limber/agent/engine"
	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/family/ort"
	"github.com/limber-edge/limber/family/resident"
)

// ONNXRuntime is that of this machine, as an Inference.
type ONNXRuntime struct {
	*ort.Runtime
	Cache *resident.Cache // of what is made of members
	lent  string          // folder in memory that it is in; "": it is in the state folder
}

// OpenONNXRuntime opens it for the device whose state is in a folder. Where nothing
// can be written there, what is made of members is in memory until it is closed.
func OpenONNXRuntime(state string, guard resident.Guard) (Inference, error) {
	path, err := ort.Find()
	if err != nil {
		return nil, err
	}
	var r ONNXRuntime
	if !writable(state) {
		if r.lent, err = lendFolder(state); err != nil {
			return nil, err
		}
		state = r.lent
	}
	if r.Runtime, err = ort.Open(path); err != nil {
		return nil, errors.Join(err, os.RemoveAll(r.lent))
	}
	r.Cache = resident.NewCache(r.Runtime, state, guard)
	return r, nil
}

// Close implements Inference.
func (r ONNXRuntime) Close() error { return errors.Join(r.Runtime.Close(), os.RemoveAll(r.lent)) }

// Shared implements Inference.
func (ONNXRuntime) Shared() bool {
	_, err := ort.FindShared()
	return err == nil
}

// Members implements Inference.
func (r ONNXRuntime) Members(f *family.Family, blobs family.Blobs) (Members, error) {
	shelf, err := r.Cache.Open(f, blobs)
	return func(v family.Variant) (engine.Loader, error) { return shelf(v) }, err
}

// modelCache is the folder of what is made of members for the CPU.
const modelCache = "cache"

// writable tells whether something can be kept in the state folder.
func writable(state string) bool {
	cache := filepath.Join(state, modelCache)
	if err := os.MkdirAll(cache, 0o700); err != nil {
		return false
	}
	probe := filepath.Join(cache, "writable.part")
	err := os.WriteFile(probe, make([]byte, 4096), 0o600)
	os.Remove(probe) // what cannot be removed was not made
	return err == nil
}

// lendFolder makes a folder in memory with what the state folder has of members.
func lendFolder(state string) (string, error) {
	const memory, name = "/dev/shm", "limber-%d-"
	left, err := filepath.Glob(filepath.Join(memory, "limber-*-*"))
	if err != nil {
		return "", err
	}
	for _, folder := range left { // by processes that were killed
		var pid int
		if _, err := fmt.Sscanf(filepath.Base(folder), name, &pid); err == nil && syscall.Kill(pid, 0) == syscall.ESRCH {
			os.RemoveAll(folder) // one of another user stays
		}
	}
	mine := fmt.Sprintf(name, os.Getpid())
	folder, err := os.MkdirTemp(memory, mine)
	if err != nil { // such as in a container
		folder, err = os.MkdirTemp("", mine)
	}
	if err != nil {
		return "", fmt.Errorf("folder for members in memory: %w", err)
	}
	// What cannot be read is built again.
	_ = os.CopyFS(filepath.Join(folder, modelCache), os.DirFS(filepath.Join(state, modelCache)))
	return folder, nil
}
