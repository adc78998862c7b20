package repo

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/limber-edge/limber/family"
)

// Pack copies the files of a folder into the repository's blobs and lists them in a
// manifest. What is neither a file nor a folder is an error.
func (r *Repository) Pack(folder string, m *Manifest) error {
	blobs := filepath.Join(r.dir, blobsDir)
	if err := makeFolder(blobs, 0o755); err != nil {
		return err
	}
	m.Schema = manifestSchema
	err := filepath.WalkDir(folder, func(file string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		name, err := filepath.Rel(folder, file)
		if err != nil {
			return err
		}
		f := File{Path: filepath.ToSlash(name), Mode: ModePlain}
		if err := checkPath(f.Path); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		if !e.Type().IsRegular() {
			return fmt.Errorf("%s is a link or no file: a release has only files; put the file itself in its place", file)
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		if info.Mode()&0o111 != 0 {
			f.Mode = ModeProgram
		}
		f.Digest, f.Bytes, err = r.addBlob(file)
		m.Files = append(m.Files, f)
		return err
	})
	if err != nil {
		return fmt.Errorf("files of the release: %w", err)
	}
	return syncFolder(blobs)
}

func (r *Repository) blobFile(d family.Digest) string {
	return filepath.Join(r.dir, blobsDir, string(d))
}

// addBlob copies a file to where its digest names it.
func (r *Repository) addBlob(file string) (family.Digest, int64, error) {
	from, err := os.Open(file)
	if err != nil {
		return "", 0, err
	}
	defer from.Close()
	part, err := os.CreateTemp(filepath.Join(r.dir, blobsDir), "*"+partSuffix)
	if err != nil {
		return "", 0, err
	}
	defer os.Remove(part.Name()) // of no use once it was renamed
	sum := sha256.New()
	n, err := io.Copy(io.MultiWriter(part, sum), from)
	if err == nil {
		err = part.Chmod(0o644)
	}
	if err == nil {
		err = part.Sync()
	}
	if err = errors.Join(err, part.Close()); err != nil {
		return "", 0, err
	}
	d := family.Digest(hex.EncodeToString(sum.Sum(nil)))
	return d, n, os.Rename(part.Name(), r.blobFile(d))
}
