package slot

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestAStagedReleaseHasItsFilesAndModes(t *testing.T) {
	d := newDevice(t)
	m := sample("2")
	d.staged(m)
	path, err := d.slots.Program(A)
	if err != nil || !filepath.IsAbs(path) {
		t.Fatalf("got %q, %v", path, err)
	}
	for _, f := range m.Files {
		path := filepath.Join(d.slots.dir, "a", f.Path)
		b, err := os.ReadFile(path)
		info, err2 := os.Stat(path)
		if err := errors.Join(err, err2); err != nil || string(b) != m.contents[f.Path] || info.Mode() != f.Mode {
			t.Errorf("%s: got %q, %v, %v; want %q, %v", f.Path, b, info.Mode(), err, m.contents[f.Path], f.Mode)
		}
	}
	if got, err := d.slots.Release(A); err != nil || got.Version != "2" || got.Digest != m.Digest {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestAFileThatThisReleaseHasNeedNotBeFetched(t *testing.T) {
	d := newDevice(t)
	m := sample("2")
	library := m.Files[1]
	if path, ok := d.agent.Held(library.Digest); ok {
		t.Errorf("the package is taken to have %s", path)
	}
	d.tried(m)
	d.must(d.agent.Confirm())
	path, ok := d.agent.Held(library.Digest)
	if b, err := os.ReadFile(path); !ok || err != nil || string(b) != m.contents[library.Path] {
		t.Errorf("got %s, %v, which has %q, %v", path, ok, b, err)
	}
	if path, ok := d.agent.Held(digestOf("something else")); ok {
		t.Errorf("got %s for what it has not", path)
	}
}

func TestARunThatFailedIsStagedOver(t *testing.T) {
	d := newDevice(t)
	m := sample("2")
	d.must(d.agent.Fetch(m.Version, m.Digest, nil))
	ctx, cancel := context.WithCancel(t.Context())
	for name, tt := range map[string]struct {
		open func(File) (io.ReadCloser, error)
		want error
	}{
		"absent": {func(File) (io.ReadCloser, error) { return nil, fs.ErrNotExist }, fs.ErrNotExist},
		"short":  {sourceOf(""), ErrSource},
		"long":   {sourceOf(strings.Repeat("x", 1<<20)), ErrSource},
		"other":  {sourceOf(strings.Repeat("x", int(m.Files[0].Bytes))), ErrSource},
		"cancelled": {func(f File) (io.ReadCloser, error) {
			cancel()
			return m.open(f)
		}, context.Canceled},
	} {
		using := t.Context()
		if name == "cancelled" {
			using = ctx
		}
		if err := d.agent.Stage(using, m.Release, tt.open); !errors.Is(err, tt.want) {
			t.Errorf("%s: got %v, want %v", name, err, tt.want)
		}
		if _, err := d.slots.Program(A); err == nil {
			t.Errorf("%s: it can be run", name)
		}
		if left, _ := filepath.Glob(d.slots.path("a*")); len(left) > 0 {
			t.Errorf("%s: left %q", name, left)
		}
		d.wants(Stage, Package, Package)
	}
	d.must(d.agent.Stage(t.Context(), m.Release, m.open))
}

func sourceOf(s string) func(File) (io.ReadCloser, error) {
	return func(File) (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(s)), nil }
}

func TestAManifestThatLeadsElsewhereIsRefusedBeforeAnythingIsWritten(t *testing.T) {
	for name, change := range map[string]func(*Release){
		"parent":           func(r *Release) { r.Files[1].Path = "../x" },
		"inner parent":     func(r *Release) { r.Files[1].Path = "a/../../x" },
		"absolute":         func(r *Release) { r.Files[1].Path = "/etc/passwd" },
		"not clean":        func(r *Release) { r.Files[1].Path = "a//b" },
		"dot":              func(r *Release) { r.Files[1].Path = "." },
		"none":             func(r *Release) { r.Files[1].Path = "" },
		"backslash":        func(r *Release) { r.Files[1].Path = `a\b` },
		"line feed":        func(r *Release) { r.Files[1].Path = "a\nb" },
		"long":             func(r *Release) { r.Files[1].Path = strings.Repeat("x", 300) },
		"twice":            func(r *Release) { r.Files[1].Path = r.Files[2].Path },
		"twice but case":   func(r *Release) { r.Files[1].Path = "LIMBER" },
		"below a file":     func(r *Release) { r.Files[1].Path = "Limber/x" },
		"the marker":       func(r *Release) { r.Files[1].Path = "Release.json" },
		"setuid":           func(r *Release) { r.Files[0].Mode = 0o755 | fs.ModeSetuid },
		"a folder":         func(r *Release) { r.Files[0].Mode = 0o755 | fs.ModeDir },
		"others write":     func(r *Release) { r.Files[0].Mode = 0o757 },
		"nobody reads":     func(r *Release) { r.Files[1].Mode = 0o200 },
		"no program":       func(r *Release) { r.Files[0].Path = "other" },
		"not executable":   func(r *Release) { r.Files[0].Mode = 0o644 },
		"negative":         func(r *Release) { r.Files[1].Bytes = -1 },
		"digest of a file": func(r *Release) { r.Files[1].Digest = "sha256:0a" },
		"digest":           func(r *Release) { r.Digest = strings.ToUpper(r.Digest) },
		"version":          func(r *Release) { r.Version = "" },
		"many":             func(r *Release) { r.Files = make([]File, 300) },
	} {
		t.Run(name, func(t *testing.T) {
			d := newDevice(t)
			m := sample("2")
			d.must(d.agent.Fetch(m.Version, m.Digest, nil))
			change(&m.Release)
			if err := d.agent.Stage(t.Context(), m.Release, m.open); err == nil {
				t.Error("it is taken")
			}
			d.wants(Fetch, Package, Package)
			if all, _ := filepath.Glob(d.slots.path("*")); len(all) != 1 {
				t.Errorf("there is %q", all)
			}
		})
	}
}

func FuzzParseRelease(f *testing.F) {
	f.Add([]byte(`{"version":"1","digest":"` + digestOf("") + `","files":[{"path":"limber","digest":"` + digestOf("") +
		`","bytes":0,"mode":493},{"path":"a/b","digest":"` + digestOf("") + `","bytes":9,"mode":420}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := parseRelease(b)
		if err != nil {
			return
		}
		for _, file := range r.Files {
			if !filepath.IsLocal(file.Path) || file.Mode.Perm() != file.Mode || file.Mode&0o022 != 0 {
				t.Errorf("got %+v", file)
			}
		}
	})
}
