package main

import (
	"io"
	"os"
	"path/filepath"
)

// writeFile makes a file that is whole or absent.
func writeFile(name string, fill func(io.Writer) error) error {
	f, err := os.CreateTemp(filepath.Dir(name), ".limber-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	err = fill(f)
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = os.Chmod(f.Name(), 0o644)
	}
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), name)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
