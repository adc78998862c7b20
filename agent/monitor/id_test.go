package monitor

import (
	"os"
	"path/filepath"
	"testing"
)

func TestAMachineIsNamedByADigestOfItsID(t *testing.T) {
	const id = "0123456789abcdef0123456789abcdef"
	for text, want := range map[string]string{
		id + "\n": "3eb1bd439947eb76", id: "3eb1bd439947eb76", "": "", "uninitialized\n": "", "none": "",
	} {
		root := t.TempDir()
		if err := os.MkdirAll(filepath.Join(root, "etc"), 0o700); err != nil {
			t.Fatal(err)
		}
		if text != "none" {
			if err := os.WriteFile(filepath.Join(root, "etc", "machine-id"), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if got := New(root).ID(); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}
