// Package resident makes the members of a family ready to run on this machine
// and keeps what that took.
//
//	supernet, BN statistics ──cut, fold──▶ ONNX ──optimize──▶ cache folder ──▶ session ──canary──▶ ready
//	                                                               ▲
//	                                            second start ──────┘
//
// A cache folder holds the optimised model of one member, and its weights in a
// file that sessions map: those of a member that does not run can leave memory.
// It belongs to one member, one version of ONNX Runtime, one CPU and one
// execution provider: all four are in its name, together with the SHA-256 of its
// bytes, so a stale one is never found and a damaged one never loaded; both are
// built again. Stale ones go once every member of the family has one of its own, but
// for those of the families that came last: a device may go back to the one before.
// For a GPU the model is kept as it is, and TensorRT's engine beside it, which
// TensorRT itself checks and the canary after it. The rule that makes a
// member safe: it is handed out only after its canary, a stored input, gave the
// stored logits on this very machine. Somebody else's model is tried, in a
// process of its own, before this one builds anything of it.
package resident

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/family/ofa"
	"github.com/limber-edge/limber/family/onnx"
	"github.com/limber-edge/limber/family/ort"
)

// Shelf makes sessions of one family. It is safe for concurrent use.
type Shelf struct {
	rt      *ort.Runtime
	fam     *family.Family
	blobs   family.Blobs
	cache   *folder
	options ort.Options
	guard   Guard
	version string // of the runtime
	cpu     string // its features
	*common
}

// common is what shelves have that differ in nothing but their threads.
type common struct {
	swept    bool      // guarded by the folder's lock: nothing stale is left
	once     sync.Once // the supernet is read only if a member must be built
	supernet *ofa.Supernet
	err      error
}

// New assembles a shelf that keeps its files in the folder cache, which must
// exist and which no other shelf, but WithThreads, may use at the same time. Without a guard, nil,
// it makes nothing of foreign models.
func New(rt *ort.Runtime, fam *family.Family, blobs family.Blobs, cache string, options ort.Options,
	guard Guard) *Shelf {
	return newShelf(rt, fam, blobs, &folder{path: cache}, options, guard)
}

func newShelf(rt *ort.Runtime, fam *family.Family, blobs family.Blobs, cache *folder, options ort.Options,
	guard Guard) *Shelf {
	return &Shelf{rt: rt, fam: fam, blobs: blobs, cache: cache, options: options, guard: guard,
		version: rt.Version(), cpu: CPU(), common: new(common)}
}

// WithThreads is a shelf of the same files whose sessions run on n threads.
func (s *Shelf) WithThreads(n int) *Shelf {
	other := *s
	other.options.Threads = n
	return &other
}

// Variant is what sessions are made with.
func (s *Shelf) Variant() family.Variant {
	return family.Variant{Provider: s.options.Provider, Threads: s.options.Threads}
}

// Session returns member i ready to run: from the cache, else built.
func (s *Shelf) Session(i int) (family.Session, error) {
	m := &s.fam.Members[i]
	path, err := s.file(m)
	if err != nil {
		return nil, fmt.Errorf("member %s: %w", m.Name, err)
	}
	session, err := s.open(path, m)
	if err != nil {
		return nil, fmt.Errorf("member %s: %w", m.Name, err)
	}
	if err := s.canary(m, session); err != nil {
		return nil, errors.Join(fmt.Errorf("member %s: %w", m.Name, err), session.Close())
	}
	s.sweep()
	return session, nil
}

// open makes a session of a model's file. TensorRT builds its engine there the
// first time, which takes minutes; one that does not load any more, being of
// another GPU or damaged, is built again.
func (s *Shelf) open(path string, m *family.Member) (*ort.Session, error) {
	o := s.options
	if o.Provider == ort.CPU {
		o.Optimized = true
		return s.rt.NewSession(path, s.shape(m), o)
	}
	o.Engines = filepath.Join(filepath.Dir(path), "engines")
	found, _ := os.ReadDir(o.Engines) // none, or unreadable: then there is nothing to build again
	if err := os.MkdirAll(o.Engines, 0o700); err != nil {
		return nil, fmt.Errorf("engines: %w", err)
	}
	session, err := s.rt.NewSession(path, s.shape(m), o)
	if err == nil || len(found) == 0 {
		return session, err
	}
	if err := errors.Join(os.RemoveAll(o.Engines), os.Mkdir(o.Engines, 0o700)); err != nil {
		return nil, fmt.Errorf("engines: %w", err)
	}
	return s.rt.NewSession(path, s.shape(m), o)
}

func (s *Shelf) shape(m *family.Member) ort.Shape {
	if s.fam.Foreign() {
		return ShapeOf(m, len(s.fam.Classes))
	}
	return ort.Shape{Input: ofa.InputName, R: m.Arch.R, Output: ofa.OutputName, Classes: len(s.fam.Classes)}
}

// modelFile is the optimised model's name in its folder; the weights' is the
// same with ort.WeightsSuffix.
const modelFile = "model.onnx"

// file returns the path of the member's optimised model, which it builds when
// no undamaged one is there.
func (s *Shelf) file(m *family.Member) (string, error) {
	key, err := s.key(m)
	if err != nil {
		return "", err
	}
	s.cache.Lock()
	defer s.cache.Unlock()
	found, err := os.ReadDir(s.cache.path)
	if err != nil {
		return "", fmt.Errorf("cache: %w", err)
	}
	for _, f := range found {
		path := filepath.Join(s.cache.path, f.Name())
		if !strings.HasPrefix(f.Name(), key+"-") {
			continue
		}
		if digest, err := digestOf(path); err == nil && f.Name() == key+"-"+digest {
			return filepath.Join(path, modelFile), nil
		}
		if err := os.RemoveAll(path); err != nil {
			return "", fmt.Errorf("damaged cache folder: %w", err)
		}
	}
	return s.build(m, key)
}

// digestOf names the bytes of a cache folder: the model's length, the model, and
// its weights if they have a file.
func digestOf(folder string) (string, error) {
	model, err := os.ReadFile(filepath.Join(folder, modelFile))
	if err != nil {
		return "", err
	}
	h := sha256.New()
	fmt.Fprintf(h, "%d ", len(model))
	h.Write(model) // a hash returns no error
	weights, err := os.Open(filepath.Join(folder, modelFile+ort.WeightsSuffix))
	if errors.Is(err, fs.ErrNotExist) {
		return hex.EncodeToString(h.Sum(nil)), nil
	} else if err != nil {
		return "", err
	}
	defer weights.Close()
	_, err = io.Copy(h, weights)
	return hex.EncodeToString(h.Sum(nil)), err
}

// key names everything an optimised model depends on.
func (s *Shelf) key(m *family.Member) (string, error) { return s.keyOf(s.fam, m) }

func (s *Shelf) keyOf(f *family.Family, m *family.Member) (string, error) {
	b, err := json.Marshal([]string{
		string(f.Supernet), string(f.Describe), string(m.Stats + m.Model), fmt.Sprintf("%+v", m.Arch),
		ofa.Revision, s.version, s.cpu, s.options.Provider,
	})
	if err != nil {
		return "", fmt.Errorf("cache key: %w", err)
	}
	return family.DigestOf(b).Short(), nil
}

// CPU is what /proc/cpuinfo says of the first core's features; empty where it
// says nothing.
func CPU() string {
	b, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(b)) {
		if name, features, ok := strings.Cut(line, ":"); ok {
			if name = strings.TrimSpace(name); name == "flags" || name == "Features" {
				return features
			}
		}
	}
	return ""
}

// build cuts the member, lets the runtime optimise it, and keeps the result in a
// folder whose name holds its digest. Where that fails nothing is left of it, for
// the disk may be full.
func (s *Shelf) build(m *family.Member, key string) (string, error) {
	model, err := s.model(m)
	if err != nil {
		return "", err
	}
	part := filepath.Join(s.cache.path, key+".part")
	path, err := s.keep(model, part, key, m)
	if err != nil {
		return "", s.noRoom(len(model), errors.Join(err, os.RemoveAll(part)))
	}
	return path, nil
}

// roomFactor is how many times a model's bytes its cache folder may take for a
// moment: the optimised model, and its weights beside it.
const roomFactor = 2

// noRoom is why a model of so many bytes could not be built if that was for want of
// room, else the cause: the runtime tells only that it could not write. It is asked
// once nothing is left of the attempt.
func (s *Shelf) noRoom(bytes int, cause error) error {
	probe := filepath.Join(s.cache.path, "room.part")
	err := os.WriteFile(probe, make([]byte, roomFactor*bytes), 0o600)
	os.Remove(probe) // what cannot be removed was not made
	for _, full := range []error{cause, err} {
		if errors.Is(full, syscall.ENOSPC) || errors.Is(full, syscall.EDQUOT) {
			return fmt.Errorf("%w: %s needs %d KiB more", family.ErrNoRoom, s.cache.path, roomFactor*bytes>>10)
		}
	}
	return cause
}

// keep optimises a model in the folder part and gives that its name.
func (s *Shelf) keep(model []byte, part, key string, m *family.Member) (string, error) {
	// an earlier build may have been cut off
	if err := errors.Join(os.RemoveAll(part), os.Mkdir(part, 0o700)); err != nil {
		return "", fmt.Errorf("optimised model: %w", err)
	}
	if err := s.optimize(model, filepath.Join(part, modelFile), m); err != nil {
		return "", err
	}
	digest, err := digestOf(part)
	if err != nil {
		return "", fmt.Errorf("optimised model: %w", err)
	}
	folder := filepath.Join(s.cache.path, key+"-"+digest)
	if err := os.Rename(part, folder); err != nil {
		return "", fmt.Errorf("optimised model: %w", err)
	}
	return filepath.Join(folder, modelFile), nil
}

// optimize writes the model as sessions want it: for the CPU's kernels, or, since
// GPUs arrange a graph in their own ways, as it is.
func (s *Shelf) optimize(model []byte, path string, m *family.Member) error {
	if s.options.Provider == ort.CPU {
		return s.rt.Optimize(model, path, s.shape(m), s.options)
	}
	if err := os.WriteFile(path, model, 0o600); err != nil {
		return fmt.Errorf("model: %w", err)
	}
	return nil
}

// model writes the member's ONNX model with its own BN statistics folded in. A
// foreign one is scanned and tried before this process reads it.
func (s *Shelf) model(m *family.Member) ([]byte, error) {
	if s.fam.Foreign() {
		return s.foreign(m)
	}
	net, err := s.Supernet()
	if err != nil {
		return nil, err
	}
	sub, err := net.Member(*m, s.blobs)
	if err != nil {
		return nil, err
	}
	if s.batches() {
		return sub.Model(onnx.Dynamic)
	}
	return sub.Model(1)
}

// batches tells whether members take more than one image at once. Those of others
// were tried with one; and for TensorRT a number of images is another engine,
// which it would build, for minutes, when the first batch comes.
func (s *Shelf) batches() bool { return !s.fam.Foreign() && s.options.Provider != ort.TensorRT }

// Supernet returns the family's supernet, read once.
func (s *Shelf) Supernet() (*ofa.Supernet, error) {
	s.once.Do(func() { s.supernet, s.err = s.readSupernet() })
	return s.supernet, s.err
}

func (s *Shelf) readSupernet() (*ofa.Supernet, error) {
	b, err := s.blobs.Blob(s.fam.Supernet)
	if err != nil {
		return nil, err
	}
	desc, err := ofa.ParseDescription(s.fam.Describe)
	if err != nil {
		return nil, err
	}
	return ofa.Parse(b, desc)
}
