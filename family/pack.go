package family

import (
	"archive/zip"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"time"
)

// Limits of what a family is made of, wherever it comes from, in bytes.
const (
	MaxManifest = 1 << 20
	MaxBlob     = 1 << 30
)

// Pack writes a family as one file: a family's folder as a ZIP archive, stored
// without compression, so that every blob can be read where it lies. Blobs that omit
// holds, such as a supernet that the receiver has already, are left out. The
// same family gives the same bytes.
func Pack(w io.Writer, f *Family, blobs Blobs, omit func(Digest) bool) error {
	z := zip.NewWriter(w)
	manifest, err := f.Marshal()
	if err != nil {
		return err
	}
	if err := store(z, ManifestFile, manifest); err != nil {
		return err
	}
	for _, d := range f.Digests() {
		if omit(d) {
			continue
		}
		b, err := blobs.Blob(d)
		if err != nil {
			return fmt.Errorf("pack: %w", err)
		}
		if err := store(z, f.file(d), b); err != nil {
			return err
		}
	}
	if err := z.Close(); err != nil {
		return fmt.Errorf("pack: %w", err)
	}
	return nil
}

// store adds a file without compression and without a time of day.
func store(z *zip.Writer, name string, b []byte) error {
	w, err := z.CreateHeader(&zip.FileHeader{Name: name, Method: zip.Store, Modified: time.Unix(0, 0).UTC()})
	if err == nil {
		_, err = w.Write(b)
	}
	if err != nil {
		return fmt.Errorf("pack %s: %w", name, err)
	}
	return nil
}

// Open opens a family that lies in a folder or in a file that Pack wrote. The
// caller closes it.
func Open(name string) (*Folder, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, fmt.Errorf("family: %w", err)
	}
	if info.IsDir() {
		f, err := OpenFolder(os.DirFS(name))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path.Clean(name), err)
		}
		return f, nil
	}
	file, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("family: %w", err)
	}
	f, err := OpenPack(file, info.Size())
	if err != nil {
		file.Close()
		return nil, fmt.Errorf("%s: %w", path.Clean(name), err)
	}
	f.closer = file
	return f, nil
}

// OpenPack opens what Pack wrote. Of the archive only the names of a family's
// own files are let in, each once, uncompressed and of bounded size; nothing is
// ever unpacked to a path of the archive's choice.
func OpenPack(r io.ReaderAt, size int64) (*Folder, error) {
	z, err := zip.NewReader(r, size)
	if err != nil {
		return nil, fmt.Errorf("family file: %w: wants what `limber family pack` wrote", err)
	}
	names := make([]string, 0, len(z.File))
	for _, f := range z.File {
		if err := judge(f); err != nil {
			return nil, fmt.Errorf("family file: entry %.80q: %w", f.Name, err)
		}
		names = append(names, f.Name)
	}
	slices.Sort(names)
	if twice := len(names) - len(slices.Compact(names)); twice > 0 {
		return nil, fmt.Errorf("family file: %d entries are there twice", twice)
	}
	return OpenFolder(z)
}

// judge says why an entry has no place in a family file.
func judge(f *zip.File) error {
	limit := uint64(MaxBlob)
	dir, base := path.Split(f.Name)
	switch {
	case f.Name == ManifestFile:
		limit = MaxManifest
	case f.Name == SupernetFile:
	case dir == BlobFolder+"/" && Digest(base).Valid():
	default:
		return fmt.Errorf("not a file of a family")
	}
	switch {
	case f.Method != zip.Store || f.CompressedSize64 != f.UncompressedSize64:
		return fmt.Errorf("compressed: a family file is stored as it is")
	case f.UncompressedSize64 > limit:
		return fmt.Errorf("%d bytes, more than %d", f.UncompressedSize64, limit)
	case f.Mode()&^fs.ModePerm != 0:
		return fmt.Errorf("not a regular file")
	}
	return nil
}
