package blob

import (
	"slices"
	"sync"

	"github.com/limber-edge/limber/family"
)

// Cache keeps the blobs that were used last: who serves parts reads the same ones again
// and again. Its methods may be called from any goroutine.
type Cache struct {
	blobs family.Blobs
	most  int64 // bytes

	mu    sync.Mutex
	kept  []*kept // guarded by mu; the one used last is the last
	bytes int64   // guarded by mu: of those that were read
}

// kept is a blob that is read once, by whoever comes first.
type kept struct {
	digest family.Digest
	read   func() ([]byte, error)
	size   int64 // guarded by the cache's mu; 0 before it was read
}

// NewCache keeps blobs of so many bytes together, and one that has more alone.
func NewCache(blobs family.Blobs, bytes int64) *Cache { return &Cache{blobs: blobs, most: bytes} }

// Blob implements family.Blobs.
func (c *Cache) Blob(d family.Digest) ([]byte, error) {
	k := c.use(d)
	b, err := k.read()
	c.settle(k, int64(len(b)), err)
	return b, err
}

// use finds a blob, or a place for it, and makes it the last one used.
func (c *Cache) use(d family.Digest) *kept {
	c.mu.Lock()
	defer c.mu.Unlock()
	k := &kept{digest: d, read: sync.OnceValues(func() ([]byte, error) { return c.blobs.Blob(d) })}
	if i := slices.IndexFunc(c.kept, func(k *kept) bool { return k.digest == d }); i >= 0 {
		k = c.kept[i]
		c.kept = slices.Delete(c.kept, i, i+1)
	}
	c.kept = append(c.kept, k)
	return k
}

// settle counts a blob that was read, forgets one that could not be, and makes room.
func (c *Cache) settle(k *kept, size int64, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := slices.Index(c.kept, k)
	switch {
	case i < 0:
		return // it had to make room meanwhile
	case err != nil:
		c.kept = slices.Delete(c.kept, i, i+1)
		return
	}
	c.bytes += size - k.size
	k.size = size
	for c.bytes > c.most && len(c.kept) > 1 {
		c.bytes -= c.kept[0].size
		c.kept = slices.Delete(c.kept, 0, 1)
	}
}

// ofFamily are the blobs of a family, with its manifest.
type ofFamily struct {
	digest   family.Digest
	manifest []byte
	family.Blobs
}

// OfFamily adds a family's manifest to its blobs, in the form that its digest names.
func OfFamily(f *family.Family, blobs family.Blobs) family.Blobs {
	return ofFamily{f.Digest(), f.Compact(), blobs}
}

// Blob implements family.Blobs.
func (o ofFamily) Blob(d family.Digest) ([]byte, error) {
	if d == o.digest {
		return o.manifest, nil
	}
	return o.Blobs.Blob(d)
}
