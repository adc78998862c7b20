package resident_test

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/limber-edge/limber/family/ort"
	"github.com/limber-edge/limber/family/ort/orttest"
	"github.com/limber-edge/limber/family/resident"
)

// The newer runtime is the real one under another version number.
func TestM19_ANewRuntimeBuildsTheCacheAnew(t *testing.T) {
	newer := mustVersion(t, orttest.Path(t), "1.99.0")
	f, cache := mustStock(t), t.TempDir()
	one := f.Family
	one.Members = one.Members[:1]
	var folders []string
	for _, path := range []string{orttest.Path(t), newer, newer} {
		rt, err := ort.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		s, err := resident.New(rt, &one, f, cache, ort.DefaultOptions(), nil).Session(0)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if err := rt.Close(); err != nil {
			t.Error(err)
		}
		folders = append(folders, mustOnly(t, cache)) // the stale one is gone
	}
	if folders[1] == folders[0] || folders[2] != folders[1] {
		t.Errorf("got cache folders %v, want another with the new runtime, which stays", folders)
	}
}

// mustVersion makes a library that is another one under a version of its own.
func mustVersion(t *testing.T, library, version string) string {
	t.Helper()
	gcc, err := exec.LookPath("gcc")
	if err != nil {
		t.Skip("no gcc to build a library with")
	}
	path, c := filepath.Join(t.TempDir(), "libonnxruntime.so"), filepath.Join(t.TempDir(), "version.c")
	mustWrite(t, c, []byte(fmt.Sprintf(`
		#include <dlfcn.h>
		typedef struct { const void *(*api)(unsigned); const char *(*version)(void); } base;
		static const char *name(void) { return %q; }
		static base b;
		base *OrtGetApiBase(void) {
			base *(*real)(void) = dlsym(dlopen(%q, RTLD_LAZY), "OrtGetApiBase");
			b.api = real()->api;
			b.version = name;
			return &b;
		}`, version, library)))
	if out, err := exec.CommandContext(t.Context(), gcc, "-shared", "-fPIC", "-o", path, c,
		"-ldl").CombinedOutput(); err != nil {
		t.Fatalf("gcc: %v\n%s", err, out)
	}
	return path
}
