package family

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
)

// The files of a family that lies in a folder.
const (
	ManifestFile    = "family.json"
	SupernetFile    = "supernet.pth"
	DescriptionFile = "supernet.json"
	BlobFolder      = "blobs"
)

// BlobFile is where a folder keeps a blob; the supernet has a file of its own.
func BlobFile(d Digest) string { return path.Join(BlobFolder, string(d)) }

// Folder is a family in a folder: the manifest, the supernet, and the small
// blobs under their digests.
type Folder struct {
	Family
	tree   fs.FS
	closer io.Closer // of the file that the tree is in, or nil
}

// Close lets go of the file that Open opened. Blobs handed out stay.
func (f *Folder) Close() error {
	if f.closer == nil {
		return nil
	}
	return f.closer.Close()
}

// OpenFolder reads the manifest.
func OpenFolder(tree fs.FS) (*Folder, error) {
	b, err := fs.ReadFile(tree, ManifestFile)
	if err != nil {
		return nil, fmt.Errorf("family: %w", err)
	}
	f, err := Parse(b)
	if err != nil {
		return nil, err
	}
	return &Folder{Family: *f, tree: tree}, nil
}

// Blob returns the bytes of a blob, checked against its digest.
func (f *Folder) Blob(d Digest) ([]byte, error) {
	if !d.Valid() {
		return nil, fmt.Errorf("blob %q: not a SHA-256 digest", d)
	}
	name := f.file(d)
	b, err := fs.ReadFile(f.tree, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("blob %s: the family has no file %s", d.Short(), name)
	} else if err != nil {
		return nil, fmt.Errorf("blob %s: %w", d.Short(), err)
	}
	if got := DigestOf(b); got != d {
		return nil, fmt.Errorf("blob %s: %s holds other bytes (%s)", d.Short(), name, got.Short())
	}
	return b, nil
}

// file is where a folder keeps a blob of the family.
func (f *Family) file(d Digest) string {
	if d == f.Supernet {
		return SupernetFile
	}
	return BlobFile(d)
}

// Digests lists every blob the family needs, each once.
func (f *Family) Digests() []Digest {
	seen := map[Digest]bool{"": true}
	var all []Digest
	add := func(digests ...Digest) {
		for _, d := range digests {
			if !seen[d] {
				seen[d] = true
				all = append(all, d)
			}
		}
	}
	add(f.Supernet)
	for _, m := range f.Members {
		add(m.Stats, m.Model, m.Canary)
	}
	return all
}
