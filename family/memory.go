package family

import "fmt"

// MemoryBlobs are blobs in memory.
type MemoryBlobs map[Digest][]byte

// Add files a blob under its digest.
func (m MemoryBlobs) Add(b []byte) Digest {
	d := DigestOf(b)
	m[d] = b
	return d
}

// Blob returns what was added; nobody may change it.
func (m MemoryBlobs) Blob(d Digest) ([]byte, error) {
	b, ok := m[d]
	if !ok {
		return nil, fmt.Errorf("blob %s: not there", d.Short())
	}
	return b, nil
}
