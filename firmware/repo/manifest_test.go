package repo

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/limber-edge/limber/family"
)

// manifestOf is one with a file beside the program.
func manifestOf(path, more string) string {
	d := family.DigestOf(nil)
	return fmt.Sprintf(`{"schema":1,"version":"1.4.0","arch":"arm64","state":"two-way","files":[`+
		`{"path":"limber","digest":%q,"bytes":1,"mode":"0755"},{"path":%q,"digest":%q,"bytes":1,"mode":"0644"%s}]}`, d, path, d, more)
}

func TestM8_AFileThatCouldLieElsewhereIsRefusedBeforeAnythingIsWritten(t *testing.T) {
	for _, good := range []string{"a", "lib/a.so.1", "a/b/c", "A", ".a", "a..b", "limber2"} {
		if _, err := ParseManifest([]byte(manifestOf(good, ""))); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	for _, bad := range []string{"", "/", "/a", "//a", "a/", "a//b", ".", "./a", "..", "../a", "a/../../b", "a/..", "a/.", "a\\b",
		"..\\a", "C:\\a", "C:a", "a\x00b", "a\nb", "a b", "a:b", "~", "~root/a", "$HOME", "é", "a\u202eb", "\u2024\u2024/a",
		"limber", "LIMBER", "Limber", "limber/a", "limber/..", "limber/../a", strings.Repeat("a", 201)} {
		if m, err := ParseManifest([]byte(manifestOf(bad, ""))); err == nil {
			t.Errorf("%q was taken: %+v", bad, m.Files)
		}
	}
	for _, more := range []string{`,"link":"/etc/passwd"`, `,"type":"symlink"`, `,"target":"a"`, `,"hardlink":"limber"`,
		`,"device":"8:0"`, `,"uid":0`, `,"mode":"0755"`, `,"Mode":"4755"`, `,"path":"../a"`} {
		if _, err := ParseManifest([]byte(manifestOf("a", more))); err == nil {
			t.Errorf("%s was taken", more)
		}
	}
	for _, mode := range []string{"4755", "2755", "1755", "04755", "0777", "0600", "755", "u+s", "", "0o755", "-0755"} {
		text := strings.Replace(manifestOf("a", ""), "0644", mode, 1)
		if _, err := ParseManifest([]byte(text)); err == nil || !strings.Contains(err.Error(), "neither 0644 nor 0755") {
			t.Errorf("mode %q: got %v", mode, err)
		}
	}
}

func TestM8_TwoFilesNeverHaveOnePlace(t *testing.T) {
	d := string(family.DigestOf(nil))
	for _, paths := range [][2]string{{"lib/a", "lib/a"}, {"lib/a", "LIB/A"}, {"Lib/b", "lib/B"}, {"a", "a/b"}, {"A/b", "a"},
		{"a/b/c", "A/B"}} {
		text := manifestOf(paths[0], fmt.Sprintf(`},{"path":%q,"digest":%q,"bytes":1,"mode":"0644"`, paths[1], d))
		if _, err := ParseManifest([]byte(text)); err == nil || !strings.Contains(err.Error(), "would be") {
			t.Errorf("%q: got %v", paths, err)
		}
	}
}

func TestM8_WhatIsNoFileIsNotPacked(t *testing.T) {
	for name, make := range map[string]func(file string) error{
		"symbolic link": func(file string) error { return os.Symlink("/etc/passwd", file) },
		"link to none":  func(file string) error { return os.Symlink("none", file) },
		"FIFO":          func(file string) error { return syscall.Mkfifo(file, 0o644) },
		"bad name":      func(file string) error { return os.WriteFile(filepath.Join(filepath.Dir(file), "a b"), nil, 0o644) },
	} {
		d := newDesk(t)
		folder := d.folder("1.0.0")
		if err := make(filepath.Join(folder, "lib")); err != nil {
			t.Fatal(err)
		}
		before := d.file("metadata/timestamp.json")
		m := &Manifest{Version: "1.0.0", Arch: "amd64", State: TwoWay}
		if err := d.open().Pack(folder, m); err == nil || !strings.Contains(err.Error(), folder) {
			t.Errorf("%s: got %v, want it named", name, err)
		}
		if !bytes.Equal(before, d.file("metadata/timestamp.json")) {
			t.Errorf("%s: the repository changed", name)
		}
	}
}

func TestAProgramForAnotherArchitectureIsNotPacked(t *testing.T) {
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	d := newDesk(t)
	other := map[string]string{"amd64": "arm64", "arm64": "amd64"}[runtime.GOARCH]
	for _, name := range []string{Program, "libonnxruntime.so.1.30.0"} {
		folder := d.folder("1.0.0")
		if err := os.WriteFile(filepath.Join(folder, name), self, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := d.open().Pack(folder, &Manifest{Version: "1.0.0", Arch: runtime.GOARCH, State: TwoWay}); err != nil {
			t.Error(err)
		}
		err := d.open().Pack(folder, &Manifest{Version: "1.0.0", Arch: other, State: TwoWay})
		if err == nil || !strings.Contains(err.Error(), name+" is for "+runtime.GOARCH+", and the release is for "+other) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestAFileInPlaceOfAFolderIsNotPacked(t *testing.T) {
	d := newDesk(t)
	program := filepath.Join(d.folder("1.0.0"), Program)
	err := d.open().Pack(program, &Manifest{Version: "1.0.0", Arch: "amd64", State: TwoWay})
	if err == nil || !strings.Contains(err.Error(), "limber is a file: a release is a folder") {
		t.Errorf("got %v", err)
	}
}

func TestWhatAKilledCommandWasCopyingIsRemoved(t *testing.T) {
	d := newDesk(t)
	left := filepath.Join(d.dir, blobsDir, "1022670767"+partSuffix)
	if err := os.MkdirAll(filepath.Dir(left), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(left, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	d.release("1.0.0")
	if _, err := os.Stat(left); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want it gone", err)
	}
}

func TestAManifestIsReadStrictly(t *testing.T) {
	good := manifestOf("a", "")
	for _, tt := range []struct{ old, new, want string }{
		{`"schema":1`, `"schema":2`, "schema 2"},
		{`"schema":1,`, ``, "schema 0"},
		{`"version":"1.4.0"`, `"version":"1.4.0","Version":"9.9.9"`, "comes twice"},
		{`"version":"1.4.0"`, `"version":"1.4.0","verſion":"9.9.9"`, "comes twice"},
		{`1.4.0`, `1.4`, "version"},
		{`1.4.0`, `../../x`, "version"},
		{`arm64`, `../x`, "arch"},
		{`two-way`, `three-way`, "state"},
		{`"state"`, `"boards":["["],"state"`, "boards"},
		{`"state"`, `"from":["2.0.0","1.0.0"],"state"`, "from"},
		{`"state"`, `"from":["2.0.0"],"state"`, "from"},
		{`"state"`, `"run":"rm","state"`, "unknown field"},
		{`"bytes":1`, `"bytes":-1`, "bytes"},
		{`"bytes":1`, `"bytes":9000000000`, "bytes"},
		{string(family.DigestOf(nil)), "e3b0", "SHA-256"},
		{`"path":"limber"`, `"path":"lumber"`, `wants "limber"`},
		{`"mode":"0755"`, `"mode":"0644"`, `wants "limber"`},
		{`}]}`, `}]} x`, "follow"},
		{`}]}`, `}]`, "JSON"},
		{`"a"`, `null`, "null"},
	} {
		text := strings.Replace(good, tt.old, tt.new, 1)
		if _, err := ParseManifest([]byte(text)); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s for %s: got %v, want %q", tt.new, tt.old, err, tt.want)
		}
	}
	if _, err := ParseManifest(bytes.Repeat([]byte(" "), maxManifest+1)); err == nil {
		t.Error("one that is too large was taken")
	}
}

func FuzzParseManifest(f *testing.F) {
	f.Add([]byte(manifestOf("a/b", "")))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := ParseManifest(b)
		if err != nil {
			return
		}
		for _, file := range m.Files {
			if !filepath.IsLocal(file.Path) || filepath.Clean(file.Path) != file.Path {
				t.Errorf("file %q", file.Path)
			}
		}
		again, err := ParseManifest(m.Compact())
		if err != nil || again.Digest() != m.Digest() {
			t.Errorf("written and read again: %v", err)
		}
	})
}

func TestVersionsAreInOrder(t *testing.T) {
	order := []string{"0.0.1", "0.1.0", "0.9.0", "0.10.0", "1.0.0-1", "1.0.0-2", "1.0.0-10", "1.0.0-alpha", "1.0.0-alpha.1",
		"1.0.0-alpha.beta", "1.0.0-beta", "1.0.0-rc.1", "1.0.0", "1.0.1", "2.0.0"}
	for i, a := range order {
		for j, b := range order {
			if got := CompareVersions(a, b); got != map[bool]int{true: -1, false: map[bool]int{true: 1}[i > j]}[i < j] {
				t.Errorf("%s and %s: got %d", a, b, got)
			}
		}
		if !ValidVersion(a) {
			t.Errorf("%s is no version", a)
		}
	}
	for _, v := range []string{"", "1", "1.2", "1.2.3.4", "v1.2.3", "01.2.3", "1.2.3-", "1.2.3-a..b", "1.2.3+b", "1.2.-3", "1.2.3-a/b",
		"1.2.3-../a", "1.2.3 ", "1.2.3-" + strings.Repeat("a", 64)} {
		if ValidVersion(v) {
			t.Errorf("%q is a version", v)
		}
	}
}

func TestAReleaseSaysWhichBoardsAndVersionsItIsFor(t *testing.T) {
	m := &Manifest{Version: "1.4.0", Arch: "arm64", Boards: []string{"*Orin*", "Jetson Xavier NX"}, From: &[2]string{"1.2.0", "1.9.9"}}
	for _, tt := range []struct {
		arch, model string
		fits        bool
	}{{"arm64", "NVIDIA Jetson Orin Nano", true}, {"arm64", "Jetson Xavier NX", true}, {"arm64", "Jetson Nano", false},
		{"amd64", "NVIDIA Jetson Orin Nano", false}, {"arm64", "", false}} {
		if err := m.Fits(tt.arch, tt.model); (err == nil) != tt.fits {
			t.Errorf("%s %q: got %v", tt.arch, tt.model, err)
		}
	}
	for version, may := range map[string]bool{"1.2.0": true, "1.9.9": true, "1.5.0-rc.1": true, "1.1.9": false, "2.0.0": false,
		"1.2.0-rc.1": false, "unknown": false} {
		if err := m.MayReplace(version); (err == nil) != may {
			t.Errorf("from %s: got %v", version, err)
		}
	}
	if m.From, m.Boards = nil, nil; errors.Join(m.MayReplace("unknown"), m.Fits("arm64", "")) != nil {
		t.Error("without bounds it is for every board and version")
	}
}
