package repo

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/limber-edge/limber/family"
)

// python runs a script of testdata with python-tuf, or skips.
func python(t *testing.T, script string, args ...string) (out string, err error) {
	t.Helper()
	dir, err := filepath.Abs("../../.tuf")
	if err != nil {
		t.Fatal(err)
	}
	c := exec.CommandContext(t.Context(), "python3", append([]string{"testdata/" + script}, args...)...)
	c.Env = append(os.Environ(), "PYTHONPATH="+dir, "PYTHONDONTWRITEBYTECODE=1")
	b, err := c.CombinedOutput()
	return strings.TrimSpace(string(b)), err
}

// mustPythonTUF skips where there is no python-tuf.
func mustPythonTUF(t *testing.T) {
	t.Helper()
	c := exec.Command("python3", "-c", "import tuf, cryptography")
	c.Env = append(os.Environ(), "PYTHONPATH=../../.tuf")
	if out, err := c.CombinedOutput(); err != nil {
		t.Skipf("no python-tuf: run firmware/repo/fetch.sh, or make test, which does: %v\n%s", err, out)
	}
}

func TestAnyClientOfTUFTakesWhatIsSignedHere(t *testing.T) {
	mustPythonTUF(t)
	t.Parallel()
	d := newDesk(t)
	d.edit(func(r *Repository) error {
		return r.Rotate(Rotation{Role: Root, Add: []Key{d.key(Root, "b"), d.key(Root, "c")}, Threshold: 2})
	})
	d.release("1.0.0")
	root, name := filepath.Join(d.dir, "metadata/1.root.json"), releaseTarget("1.0.0", "amd64")
	file, err := python(t, "client.py", d.url, root, name, t.TempDir())
	if err != nil {
		t.Fatalf("%v: %s", err, file)
	}
	b, err := os.ReadFile(file)
	if err != nil || family.DigestOf(b) != d.released("1.0.0") {
		t.Errorf("got %d bytes, %v; want the manifest", len(b), err)
	}
	d.edit(func(r *Repository) error { return r.WithdrawRelease("1.0.0", "amd64") })
	if out, err := python(t, "client.py", d.url, root, name, t.TempDir()); err == nil || !strings.Contains(out, "is not listed") {
		t.Errorf("withdrawn: got %q, %v", out, err)
	}
}

func TestC1_WhatPythonTUFSignsIsTakenFromThoseWhoMaySignAlone(t *testing.T) {
	mustPythonTUF(t)
	t.Parallel()
	d := newDesk(t)
	d.release("1.0.0")
	forged := func(role Role, what string, by ...Role) []byte {
		out := filepath.Join(t.TempDir(), "out.json")
		args := []string{filepath.Join(d.dir, d.visible(role)), out, what}
		for _, r := range by {
			args = append(args, filepath.Join(d.keys, r+"-a.pem"))
		}
		if text, err := python(t, "forge.py", args...); err != nil {
			t.Fatalf("%v: %s", err, text)
		}
		b, err := os.ReadFile(out)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	for _, tt := range []struct {
		name string
		file string
		b    []byte
		want string // "": it is taken
	}{
		{"a timestamp", "timestamp.json", forged(Timestamp, "later", Timestamp), ""},
		{"the one before", "timestamp.json", forged(Timestamp, "backwards", Timestamp), "must be >="},
		{"a timestamp of another key", "timestamp.json", forged(Timestamp, "later", Snapshot, Releases), "not enough signatures"},
		{"a timestamp of a snapshot that there is not", "timestamp.json", forged(Timestamp, "snapshot", Timestamp), "404"},
		{"a root", "2.root.json", forged(Root, "later", Root), ""},
		{"a root of another key", "2.root.json", forged(Root, "later", Targets), "not enough signatures"},
	} {
		v := d.device()
		d.serve(nil)
		v.takes("1.0.0")
		d.instead(map[string][]byte{metadataDir + "/" + tt.file: tt.b})
		err := v.Refresh(t.Context())
		if tt.want == "" && err != nil || tt.want != "" && !strings.Contains(fmt.Sprint(err), tt.want) {
			t.Errorf("%s: got %v, want %q", tt.name, err, tt.want)
		}
	}
	files := map[string][]byte{}
	d.chain(files, set{Families: forged(Families, "steal", Families)})
	d.instead(files)
	if err := d.device().Signed(t.Context(), "9.9.9", family.DigestOf([]byte("stolen"))); err == nil ||
		!strings.Contains(err.Error(), "is not signed") {
		t.Errorf("a program by the family key: got %v", err)
	}
	d.chain(files, set{Releases: forged(Releases, "steal", Families)})
	if err := d.device().Refresh(t.Context()); err == nil || !strings.Contains(err.Error(), "releases") {
		t.Errorf("releases by the family key: got %v", err)
	}
}
