package family

import "fmt"

// MemoryBlobs are blobs in memory.
type MemoryBlobs map[Digest][]byte

// Blob returns one of them.
func (b MemoryBlobs) Blob(d Digest) ([]byte, error) {
	v, ok := b[d]
	if !ok {
		return nil, fmt.Errorf("blob %s: not there", d.Short())
	}
	return v, nil
}

// Add keeps one more, which it neither copies nor changes.
func (b MemoryBlobs) Add(v []byte) Digest {
	d := DigestOf(v)
	b[d] = v
	return d
}
