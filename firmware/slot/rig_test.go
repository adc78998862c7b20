package slot

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func digestOf(s string) string {
	sum := sha256.Sum256([]byte(s))
	return digestPrefix + hex.EncodeToString(sum[:])
}

// made is a release and the contents of its files, by path.
type made struct {
	Release
	contents map[string]string
}

func sample(version string) made {
	m := made{Release{Version: version, Digest: digestOf(version)}, map[string]string{}}
	m.add(Program, "#!/bin/sh\necho "+version, 0o755)
	m.add("libonnxruntime.so.1.30.0", "library", 0o644)
	m.add("share/doc/notice.txt", "words", 0o444)
	return m
}

func (m *made) add(path, content string, mode fs.FileMode) {
	m.Files = append(m.Files, File{path, digestOf(content), int64(len(content)), mode})
	m.contents[path] = content
}

func (m *made) open(f File) (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader([]byte(m.contents[f.Path]))), nil
}

// device is a state folder, whose program runs from some slot.
type device struct {
	*testing.T
	slots *Slots
	agent *Agent
}

func newDevice(t *testing.T) *device {
	d := &device{T: t, slots: Open(t.TempDir())}
	d.runs(Package)
	return d
}

func (d *device) runs(n Name) { d.agent = d.slots.Agent(n) }

func (d *device) must(err error) {
	d.Helper()
	if err != nil {
		d.Fatal(err)
	}
}

// staged brings a release as far as that.
func (d *device) staged(m made) {
	d.Helper()
	d.must(d.agent.Fetch(m.Version, m.Digest, &Command{"c-" + m.Version, []byte(`{}`)}))
	d.must(d.agent.Stage(context.Background(), m.Release, m.open))
}

// tried brings a release to its trial, which starts.
func (d *device) tried(m made) {
	d.Helper()
	d.staged(m)
	d.switched()
}

func (d *device) switched() {
	d.Helper()
	d.must(d.agent.Switch(5 * time.Minute))
	d.must(d.slots.Launcher().Count(""))
	d.runs(d.phase().Slot)
}

// back has the launcher go back.
func (d *device) back(r Reason, tail string) {
	d.Helper()
	p, err := d.slots.Launcher().Back(r, tail)
	d.must(err)
	d.runs(p.Slot)
}

func (d *device) phase() *Phase {
	d.Helper()
	p, err := d.slots.Phase()
	d.must(err)
	return &p
}

// wants checks phase, slot and previous slot.
func (d *device) wants(phase string, slot, previous Name) {
	d.Helper()
	if p := d.phase(); p.Phase != phase || p.Slot != slot || p.Previous != previous {
		d.Errorf("got %s in %s, before it %s; want %s in %s, before it %s", p.Phase, p.Slot, p.Previous,
			phase, slot, previous)
	}
}

func (d *device) mustWrite(path, content string) {
	d.Helper()
	path = filepath.Join(d.slots.dir, path)
	d.must(os.MkdirAll(filepath.Dir(path), 0o700))
	d.must(os.WriteFile(path, []byte(content), 0o600))
}
