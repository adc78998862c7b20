package ofa

import (
	"archive/tar"
	"bytes"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// Tensor is one named tensor of a checkpoint, converted to float32.
//
// Tensors that share a storage in the file may share Data; treat it as read-only.
type Tensor struct {
	Shape []int     // empty for a scalar
	Data  []float32 // row-major, as many numbers as Shape multiplies to
}

// Checkpoint holds the floating-point tensors of a PyTorch state_dict.
//
// A checkpoint is a pickle, and a pickle is a program, so the safety rule is:
// nothing in the file is ever run, and nothing is allocated on the file's word.
// The pickle may name only the handful of classes a state_dict consists of
// (see allowedGlobal), which this reader imitates; any other is an error that
// names it. A declared length is compared with the bytes that are there before
// memory is taken, and all numbers together may not exceed the file's size in
// bytes, however often the file refers to the same storage.
type Checkpoint struct {
	names   []string
	tensors map[string]Tensor
	taken   string
}

// Taken says what was taken of a file that holds more than a plain state_dict,
// and what was left; empty where there was no choice.
func (c *Checkpoint) Taken() string { return c.taken }

// Names lists the tensors in the order of the state_dict.
func (c *Checkpoint) Names() []string { return slices.Clone(c.names) }

// Tensor returns the tensor of that name and whether the checkpoint has one.
func (c *Checkpoint) Tensor(name string) (Tensor, bool) {
	t, ok := c.tensors[name]
	return t, ok
}

// storageSource gives the raw bytes of the storages that the object pickle refers
// to; each container has its own.
type storageSource func(s *pyStorage) ([]byte, error)

// ReadCheckpoint reads a file that torch.save wrote, in the zip or the legacy
// container: a state_dict, or a dict that holds one under a name that training
// tools use, in the order of wrappers. The prefixes that such tools put before
// every name are taken off.
//
// Storages of float32, float16, bfloat16 and float64 become float32. Integer
// tensors (num_batches_tracked) and values that are no tensors are left out.
func ReadCheckpoint(file []byte) (*Checkpoint, error) {
	var (
		object pyValue
		source storageSource
		err    error
	)
	switch {
	case bytes.HasPrefix(file, []byte("PK\x03\x04")):
		object, source, err = openZip(file)
	case len(file) > 0 && file[0] == opProto:
		object, source, err = openLegacy(file)
	default:
		err = fmt.Errorf("not a PyTorch checkpoint (neither zip nor legacy container): %s",
			describe(file[:min(len(file), 512)]))
	}
	if err != nil {
		return nil, err
	}
	state, found, err := stateDict(object)
	if err != nil {
		return nil, err
	}
	bare, prefix := withoutPrefixes(state)
	l := tensorLoader{source: source, size: len(file), bytes: len(file), numbers: len(file),
		read: map[*pyStorage][]float32{}}
	c, err := l.load(bare)
	if err != nil {
		return nil, err
	}
	c.taken = found.say(prefix)
	return c, nil
}

// describe says what a file that is no checkpoint looks like, from its first bytes.
func describe(head []byte) string {
	for _, known := range []struct{ prefix, name string }{
		{"version https://git-lfs.", "it is a Git LFS pointer; fetch the file itself with git lfs pull"},
		{"PK\x05\x06", "it is an empty zip archive"},
		{"\x1f\x8b", "it is gzip data; unpack it first"},
		{"\x89HDF", "it is an HDF5 file"},
		{"\x7fELF", "it is an ELF program"},
	} {
		if bytes.HasPrefix(head, []byte(known.prefix)) {
			return known.name
		}
	}
	if len(head) == 0 {
		return "the file is empty"
	}
	if _, err := tar.NewReader(bytes.NewReader(head)).Next(); err == nil {
		return "it is a tar archive, the container of PyTorch before 0.1.10; save it again with a newer PyTorch"
	}
	if text, ok := firstLine(head); ok {
		return fmt.Sprintf("it looks like text, starting with %q", text)
	}
	return fmt.Sprintf("it starts with the bytes % x", head[:min(len(head), 8)])
}

// firstLine returns the beginning of the first line if head is readable text.
func firstLine(head []byte) (string, bool) {
	if i := bytes.LastIndexByte(head, '\n'); i > 0 {
		head = head[:i] // the rest may end inside a character
	}
	if !utf8.Valid(head) || bytes.ContainsFunc(head, func(r rune) bool {
		return r < ' ' && !strings.ContainsRune("\t\r\n\f", r)
	}) {
		return "", false
	}
	line, _, _ := strings.Cut(strings.TrimSpace(string(head)), "\n")
	return clip(line, 40), true
}

// clip shortens s to at most n bytes for an error message.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "") + "..."
}
