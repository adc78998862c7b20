package onnx_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/limber-edge/limber/family/onnx"
	"github.com/limber-edge/limber/family/ort"
	"github.com/limber-edge/limber/family/ort/orttest"
)

// elsewhere is a model of two weights, two numbers each, which both are where
// entries say.
func elsewhere(entries ...string) []byte {
	where := []byte{}
	for i := 0; i < len(entries); i += 2 {
		where = append(where, message(13, str(1, entries[i]), str(2, entries[i+1]))...)
	}
	mul := func(a, b, out string) []byte { return message(1, str(1, a), str(1, b), str(2, out), str(4, "Mul")) }
	external := func(name string) []byte {
		return message(5, str(8, name), varint(1, 2), varint(2, 1), varint(14, 1), where)
	}
	return model(17, mul("x", "w", "once"), mul("once", "v", "y"), str(2, "g"), external("w"), external("v"),
		value(11, "x", 1, 1, 3, 2, 2), value(12, "y", 1, 1, 3, 2, 2))
}

// The scan refuses every weight outside of the file. The library is the second
// wall: from memory, which is how foreign models reach it, it refuses them all;
// from a file it takes what lies beside the model, and cannot tell that a hard
// link leads elsewhere.
func TestM9_WeightsOutsideTheFileAreRefusedByTheScanAndTheLibrary(t *testing.T) {
	rt, dir, secret := orttest.Open(t), t.TempDir(), filepath.Join(t.TempDir(), "secret")
	numbers := make([]byte, 16)
	for path, b := range map[string][]byte{secret: numbers, filepath.Join(dir, "beside"): numbers,
		filepath.Join(dir, "short"): numbers[:4]} {
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.Symlink(secret, filepath.Join(dir, "symbolic")), os.Link(secret,
		filepath.Join(dir, "hard"))); err != nil {
		t.Fatal(err)
	}
	above, err := filepath.Rel(dir, secret)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name     string
		where    []string
		fromFile bool // the library takes it
	}{
		{"..", []string{"location", above}, false},
		{"absolute", []string{"location", secret}, false},
		{"symbolic link", []string{"location", "symbolic"}, false},
		{"hard link", []string{"location", "hard"}, true},
		{"beside the model, overlapping", []string{"location", "beside"}, true},
		{"memory address", []string{"location", "*/_ORT_MEM_ADDR_/*", "offset", "4096", "length", "8"}, false},
		{"missing", []string{"location", "none"}, false},
		{"short file", []string{"location", "short"}, false},
		{"negative offset", []string{"location", "beside", "offset", "-4", "length", "8"}, false},
		{"offset that overflows", []string{"location", "beside", "offset", "9223372036854775807", "length", "8"}, false},
		{"offset of no int64", []string{"location", "beside", "offset", "18446744073709551615", "length", "8"}, false},
		{"offset behind the end", []string{"location", "beside", "offset", "1048576", "length", "8"}, false},
		{"another length", []string{"location", "beside", "length", "1048576"}, false},
		{"nowhere", nil, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := elsewhere(tt.where...)
			if _, err := onnx.Scan(m); !errors.Is(err, onnx.ErrRefused) {
				t.Errorf("scan: got %v, want it refused", err)
			}
			if err := runs(rt, m); err == nil {
				t.Error("library, from memory: got no error")
			}
			if err := loads(rt, filepath.Join(dir, "model.onnx"), m); (err == nil) != tt.fromFile {
				t.Errorf("library, from a file: got %v, want it let in: %v", err, tt.fromFile)
			}
		})
	}
}

// loads tells whether the library makes a session of a model in a file.
func loads(rt *ort.Runtime, path string, model []byte) error {
	if err := os.WriteFile(path, model, 0o600); err != nil {
		return err
	}
	s, err := rt.NewSession(path, ort.Shape{Input: "x", R: 2, Output: "y", Classes: 12}, ort.DefaultOptions())
	if err != nil {
		return err
	}
	return s.Close()
}
