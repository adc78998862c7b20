package repo

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent/blob"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/family"
)

// today is when the tests play.
var today = time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)

const dayLong = 24 * time.Hour

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

// desk is a repository with all its keys, a server of it, and its devices.
type desk struct {
	testing.TB
	dir, keys string
	now       time.Time
	url       string

	mu     sync.Mutex
	asked  []string                                                 // paths, since the last call of names
	before func(w http.ResponseWriter, r *http.Request) (done bool) // the server's handler
}

func newDesk(tb testing.TB) *desk {
	tb.Helper()
	d := &desk{TB: tb, dir: filepath.Join(tb.TempDir(), "repo"), keys: tb.TempDir(), now: today}
	for _, role := range Roles() {
		d.key(role, "a")
	}
	r, err := Init(d.dir, d.ring(), Setup{}, d.now)
	if err != nil {
		tb.Fatal(err)
	}
	d.publish(r)
	root, err := os.OpenRoot(d.dir)
	if err != nil {
		tb.Fatal(err)
	}
	h := NewHandler(root)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		d.mu.Lock()
		d.asked = append(d.asked, strings.TrimPrefix(r.URL.Path, "/"))
		before := d.before
		d.mu.Unlock()
		if before == nil || !before(w, r) {
			h.ServeHTTP(w, r)
		}
	}))
	tb.Cleanup(func() { s.Close(); root.Close() })
	d.url = s.URL
	return d
}

// key makes a key of a role.
func (d *desk) key(role Role, name string) Key {
	d.Helper()
	k, err := GenerateKey(role, filepath.Join(d.keys, role+"-"+name+".pem"))
	if err != nil {
		d.Fatal(err)
	}
	return k
}

// ring are the keys, less some by role or by role and name.
func (d *desk) ring(without ...string) (keys []Key) {
	d.Helper()
	all, err := ReadKeys(d.keys)
	if err != nil {
		d.Fatal(err)
	}
	for _, k := range all {
		lost := false
		for _, w := range without {
			lost = lost || k.Role == w || filepath.Base(k.File) == w+".pem"
		}
		if !lost {
			keys = append(keys, k)
		}
	}
	return keys
}

func (d *desk) open(without ...string) *Repository {
	d.Helper()
	r, err := Open(d.dir, d.ring(without...), d.now)
	if err != nil {
		d.Fatal(err)
	}
	return r
}

// publish wants all to be visible.
func (d *desk) publish(r *Repository) {
	d.Helper()
	done, err := r.Publish()
	if err != nil || len(done.Waiting) > 0 {
		d.Fatalf("%+v, %v", done, err)
	}
}

// edit changes the repository with all keys.
func (d *desk) edit(change func(r *Repository) error) {
	d.Helper()
	r := d.open()
	if err := change(r); err != nil {
		d.Fatal(err)
	}
	d.publish(r)
}

// release adds one, with a program of its own.
func (d *desk) release(version string) {
	d.Helper()
	d.edit(func(r *Repository) error {
		m := &Manifest{Version: version, Arch: "amd64", State: TwoWay}
		return errors.Join(r.Pack(d.folder(version), m), r.AddRelease(m))
	})
}

// folder has the files of a release.
func (d *desk) folder(version string) string {
	d.Helper()
	dir := d.TempDir()
	program := random(300_000, byte(len(version)), []byte(version)...)
	err := errors.Join(os.WriteFile(filepath.Join(dir, Program), program, 0o755),
		os.WriteFile(filepath.Join(dir, "libonnxruntime.so.1.30.0"), random(3_000_000, 1), 0o644))
	if err != nil {
		d.Fatal(err)
	}
	return dir
}

// random are n bytes, the same ones for the same seed.
func random(n int, kind byte, seed ...byte) []byte {
	s := [32]byte{kind}
	copy(s[1:], seed)
	b := make([]byte, n)
	rand.NewChaCha8(s).Read(b)
	return b
}

// names returns what was asked for since the last call.
func (d *desk) names() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	all := d.asked
	d.asked = nil
	return all
}

// serve puts a handler before the server's.
func (d *desk) serve(before func(w http.ResponseWriter, r *http.Request) bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.before = before
}

// file reads one of the repository.
func (d *desk) file(name string) []byte {
	d.Helper()
	b, err := os.ReadFile(filepath.Join(d.dir, name))
	if err != nil {
		d.Fatal(err)
	}
	return b
}

// instead has the server give something else for a file.
func (d *desk) instead(files map[string][]byte) {
	d.serve(func(w http.ResponseWriter, r *http.Request) bool {
		b, ok := files[strings.TrimPrefix(r.URL.Path, "/")]
		switch {
		case ok && b == nil:
			http.NotFound(w, r)
		case ok:
			w.Write(b)
		}
		return ok
	})
}

// device is a client with a folder of its own.
type device struct {
	*desk
	*Client
	dir     string
	fetcher *blob.Fetcher
	clock   time.Time
	told    time.Time // by an operator
}

// device is one that was given the first root.
func (d *desk) device(sources ...string) *device {
	v := &device{desk: d, dir: filepath.Join(d.TempDir(), "repo"), clock: d.now}
	v.restart(sources...)
	return v
}

// restart makes the client anew.
func (v *device) restart(sources ...string) {
	v.Helper()
	if len(sources) == 0 {
		sources = []string{v.url}
	}
	allowed, err := blob.ParseAllowed(sources)
	if err != nil {
		v.Fatal(err)
	}
	v.fetcher = blob.New(blob.Config{Dir: filepath.Join(filepath.Dir(v.dir), "fetch"), Allowed: allowed}, nowhere{}, discard())
	cfg := Config{Dir: v.dir, Root: v.file("metadata/1.root.json"), Sources: sources, Built: today.Add(-30 * dayLong)}
	v.Client, err = NewClient(cfg, Deps{v.fetcher, func() time.Time { return v.clock }, func() time.Time { return v.told }},
		discard())
	if err != nil {
		v.Fatal(err)
	}
}

// nowhere is a broker that is not there.
type nowhere struct{}

func (nowhere) Fetch(string, wire.Fetch) error { return errors.New("broker not connected") }

// takes wants a release to be signed.
func (v *device) takes(version string) {
	v.Helper()
	if err := v.Signed(v.Context(), version, v.released(version)); err != nil {
		v.Fatalf("release %s: %v", version, err)
	}
}

// published is what is visible, as it is in the files.
func (d *desk) published() set {
	d.Helper()
	s, err := readPublished(d.dir)
	if err != nil {
		d.Fatal(err)
	}
	return s
}

// released is the digest of a release.
func (d *desk) released(version string) family.Digest {
	d.Helper()
	for _, t := range d.published().list() {
		if t.Target == releaseTarget(version, "amd64") {
			return family.Digest(t.SHA256)
		}
	}
	return family.DigestOf([]byte(version)) // it was never added, or is withdrawn
}

// refuses wants a release, or with none a refresh, to be refused for a reason.
func (v *device) refuses(version, why string) {
	v.Helper()
	ctx, cancel := context.WithTimeout(v.Context(), 20*time.Second)
	defer cancel()
	err := v.Refresh(ctx)
	if version != "" {
		err = v.Signed(ctx, version, v.released(version))
	}
	if !errors.Is(err, ErrRefused) || !strings.Contains(fmt.Sprint(err), why) {
		v.Errorf("release %q: got %v, want it refused for %q", version, err, why)
	}
}

// waits wants a release, or with none a refresh, to find no source of use, which may change.
func (v *device) waits(version, why string) {
	v.Helper()
	err := v.Refresh(v.Context())
	if err == nil || errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), why) {
		v.Errorf("got %v, want that no source is of use: %q", err, why)
	}
	if version == "" {
		return
	}
	ctx, cancel := context.WithTimeout(v.Context(), 300*time.Millisecond)
	defer cancel()
	if err := v.Signed(ctx, version, v.released(version)); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ErrRefused) {
		v.Errorf("release %q: got %v, want it waited for", version, err)
	}
}

// keeps wants what is kept to be good for a release after a start without any source.
func (v *device) keeps(version string) {
	v.Helper()
	v.restart()
	t, err := v.kept(v.Context())
	if err != nil || !signed(t, releaseTarget(version, "amd64"), v.released(version)) {
		v.Errorf("release %s after a start: it is not known, %v", version, err)
	}
}

func TestADeviceTakesWhatIsSignedAndFetchesWhatIsNew(t *testing.T) {
	d := newDesk(t)
	d.release("1.0.0")
	v := d.device()
	v.takes("1.0.0")
	have := map[family.Digest]bool{}
	if n := v.fetch("1.0.0", have); n != 3_300_000 {
		t.Errorf("the first release has %d bytes, want its two files", n)
	}
	d.release("1.0.1")
	v.takes("1.0.1")
	if n := v.fetch("1.0.1", have); n != 300_000 {
		t.Errorf("the next one took %d bytes, want those of its program", n)
	}
	v.keeps("1.0.1")
	v.keeps("1.0.0")
}

// fetch brings the files of a release that are not there, and returns how many bytes
// that took.
func (v *device) fetch(version string, have map[family.Digest]bool) (n int64) {
	v.Helper()
	bring := func(d family.Digest, most int64) []byte {
		w := blob.Wanted{Digest: d, Sources: BlobsBelow(v.url), Max: most}
		file, err := v.fetcher.FetchFile(v.Context(), w, nil)
		if err != nil {
			v.Fatal(err)
		}
		b, err := os.ReadFile(file)
		if err != nil || family.DigestOf(b) != d {
			v.Fatalf("%s: %d bytes, %v", d, len(b), err)
		}
		return b
	}
	m, err := ParseManifest(bring(v.released(version), maxManifest))
	if err != nil {
		v.Fatal(err)
	}
	for _, f := range m.Files {
		if !have[f.Digest] {
			n += int64(len(bring(f.Digest, f.Bytes)))
			have[f.Digest] = true
		}
	}
	return n
}
