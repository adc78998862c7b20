package repo

import (
	"crypto/sha256"
	"debug/elf"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/limber-edge/limber/family"
)

// Pack copies the files of a folder into the repository's blobs and lists them in a
// manifest. What is neither a file nor a folder is an error, and so is a program for
// another architecture. The caller has the Lock: what others were copying when they were
// killed is removed.
func (r *Repository) Pack(folder string, m *Manifest) error {
	if info, err := os.Stat(folder); err == nil && !info.IsDir() {
		return fmt.Errorf("%s is a file: a release is a folder, with the program %q in it", folder, Program)
	}
	blobs := filepath.Join(r.dir, blobsDir)
	if err := errors.Join(makeFolder(blobs, 0o755), sweep(blobs)); err != nil {
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
		if f.Path == Program || strings.HasPrefix(f.Path, runtimeName) {
			if err := checkArch(file, m.Arch); err != nil {
				return err
			}
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

// sweep removes the files of a folder that were never written to their end.
func sweep(dir string) error {
	parts, err := filepath.Glob(filepath.Join(dir, "*"+partSuffix))
	for _, part := range parts {
		err = errors.Join(err, os.Remove(part))
	}
	return err
}

// checkArch says that a program or a library is for another architecture. Of one that is
// no ELF file, such as a script, nothing is known.
func checkArch(file, arch string) error {
	f, err := elf.Open(file)
	if err != nil {
		return nil
	}
	defer f.Close()
	of := map[elf.Machine]string{elf.EM_X86_64: "amd64", elf.EM_AARCH64: "arm64"}[f.Machine]
	if of == "" {
		of = f.Machine.String()
	}
	if of != arch {
		return fmt.Errorf("%s is for %s, and the release is for %s", file, of, arch)
	}
	return nil
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
