package resident

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/family/ort"
)

// Cache is where the shelves of a device keep their files, below one folder: those on
// the CPU in its folder cache, and those on another execution provider in one of their
// own. Shelves of several families may be in use at the same time. It is safe for
// concurrent use.
type Cache struct {
	rt    *ort.Runtime
	dir   string
	guard Guard

	mu      sync.Mutex
	folders map[string]*folder // guarded by mu, by name
}

// NewCache assembles a cache below dir. Without a guard, nil, its shelves make nothing
// of foreign models.
func NewCache(rt *ort.Runtime, dir string, guard Guard) *Cache {
	return &Cache{rt: rt, dir: dir, guard: guard, folders: make(map[string]*folder)}
}

// Open returns what makes the shelf of a variant of a family. The error of the function
// wraps ort.ErrNoProvider when the runtime cannot use a provider.
func (c *Cache) Open(f *family.Family, blobs family.Blobs) (func(family.Variant) (*Shelf, error), error) {
	shelf := func(v family.Variant, name string) (*Shelf, error) {
		cache, err := c.folder(name, f)
		if err != nil {
			return nil, fmt.Errorf("model cache: %w", err)
		}
		o := ort.DefaultOptions()
		o.Provider, o.Threads = v.Provider, v.Threads
		return newShelf(c.rt, f, blobs, cache, o, c.guard), nil
	}
	onCPU, err := shelf(family.Variant{Provider: ort.CPU, Threads: 1}, "cache")
	if err != nil {
		return nil, err
	}
	return func(v family.Variant) (*Shelf, error) {
		if v.Provider == ort.CPU {
			return onCPU.WithThreads(v.Threads), nil
		}
		if err := c.rt.Provides(v.Provider); err != nil {
			return nil, err
		}
		return shelf(v, "cache-"+v.Provider)
	}, nil
}

// folder makes one, for a family.
func (c *Cache) folder(name string, f *family.Family) (*folder, error) {
	path := filepath.Join(c.dir, name)
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.folders[name] == nil {
		c.folders[name] = &folder{path: path}
	}
	c.folders[name].keep(f)
	return c.folders[name], nil
}

// keptFamilies is how many families keep their files: one that serves, the one before
// it, and one that is tried in vain.
const keptFamilies = 3

// folder is one of a cache. Who holds its lock may change its files: a member is built
// once.
type folder struct {
	path string
	sync.Mutex
	kept []*family.Family // guarded by the lock: whose files stay, beside those of who sweeps; the newest is last
}

// keep has a family keep its files, and the one that came first of too many lose them.
func (d *folder) keep(f *family.Family) {
	d.Lock()
	defer d.Unlock()
	d.kept = slices.DeleteFunc(d.kept, func(old *family.Family) bool { return old.Digest() == f.Digest() })
	d.kept = append(d.kept, f)
	d.kept = d.kept[max(0, len(d.kept)-keptFamilies):]
}
