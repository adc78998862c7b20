package repo

import (
	"bytes"
	"context"
	"errors"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/limber-edge/limber/family"
)

func TestC14_AKeyIsItsOwnersAloneAndNeverWrittenOver(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "root-alice.pem")
	k, err := GenerateKey(Root, file)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]os.FileMode{file: 0o600, PublicFile(file): 0o644} {
		if info, err := os.Stat(name); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v; want %v", name, info.Mode(), err, want)
		}
	}
	before, _ := os.ReadFile(file)
	if _, err := GenerateKey(Root, file); err == nil || !strings.Contains(err.Error(), "never written over") {
		t.Errorf("again: got %v", err)
	}
	if after, _ := os.ReadFile(file); !bytes.Equal(before, after) {
		t.Error("the key changed")
	}
	public, err := ReadKey(PublicFile(file))
	if err != nil || public.ID != k.ID || public.Private() || !k.Private() {
		t.Errorf("got %+v and %+v, %v", k, public, err)
	}
	all, err := ReadKeys(dir, dir)
	if err != nil || len(all) != 1 || !all[0].Private() {
		t.Errorf("got %d keys, %v; want one that signs", len(all), err)
	}
	for _, bad := range []string{"alice.pem", "root", "root.key", "admin-a.pem", "rooted-a.pem"} {
		if _, err := GenerateKey(Root, filepath.Join(dir, bad)); err == nil {
			t.Errorf("%s: nobody complained", bad)
		}
	}
	if _, err := GenerateKey(Targets, filepath.Join(dir, "root-b.pem")); err == nil {
		t.Error("root-b.pem for targets: nobody complained")
	}
}

func TestARepositoryNamesTheManifestOfAVersionForEachArchitecture(t *testing.T) {
	d := newDesk(t)
	want := map[string]family.Digest{}
	d.release("1.5.1")
	d.edit(func(r *Repository) error {
		var errs []error
		for _, arch := range []string{"amd64", "arm64"} {
			m := &Manifest{Version: "1.5.0", Arch: arch, State: TwoWay}
			errs = append(errs, r.Pack(d.folder("1.5.0"), m), r.AddRelease(m))
			want[arch] = m.Digest()
		}
		return errors.Join(errs...)
	})
	if got := d.open().Manifests("1.5.0"); !maps.Equal(got, want) {
		t.Errorf("the folder: got %v, want %v", got, want)
	}
	v := d.device()
	if got, err := v.Manifests(t.Context(), "1.5.0"); err != nil || !maps.Equal(got, want) {
		t.Errorf("a client: got %v, %v; want %v", got, err, want)
	}
	if got, err := v.Manifests(t.Context(), "1.6.0"); !errors.Is(err, ErrRefused) {
		t.Errorf("of one that is not there: got %v, %v", got, err)
	}
	v.restart("http://127.0.0.1:1")
	if got, err := v.Manifests(t.Context(), "1.5.0"); err == nil || errors.Is(err, ErrRefused) {
		t.Errorf("of nobody: got %v, %v; want that it is said at once", got, err)
	}
}

func TestAKeyFileThatIsNoneSaysWhy(t *testing.T) {
	rsa := "-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----\n"
	for text, want := range map[string]string{"": "PEM", "x": "PEM", rsa: "RSA PRIVATE KEY",
		strings.ReplaceAll(rsa, "RSA ", ""): "PKCS #8", strings.Repeat("x", maxKeyFile+1): "more than"} {
		file := filepath.Join(t.TempDir(), "root.pem")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadKey(file); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.20q: got %v, want %q", text, err, want)
		}
	}
}

func TestARepositoryBeginsWithKeysForEveryRole(t *testing.T) {
	d := newDesk(t)
	if _, err := Init(d.dir, d.ring(), Setup{}, d.now); err == nil || !strings.Contains(err.Error(), "already") {
		t.Errorf("again: got %v", err)
	}
	_, err := Init(filepath.Join(t.TempDir(), "r"), d.ring(Snapshot), Setup{Thresholds: map[Role]int{Root: 2, Targets: 0}}, d.now)
	for _, want := range []string{"role targets wants 0 signatures", "role root has 1 of the 2 keys that must sign",
		"role snapshot", "keygen --role snapshot"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	if _, err := Open(t.TempDir(), nil, d.now); err == nil || !strings.Contains(err.Error(), "repo init") {
		t.Errorf("an empty folder: got %v", err)
	}
}

// Who ships has no key but that of the releases, and a machine signs every day.
func TestWhatIsEditedIsVisibleOnceAllHaveSigned(t *testing.T) {
	d := newDesk(t)
	v := d.device()
	shipper := d.open(Root, Targets, Families, Snapshot, Timestamp)
	m := &Manifest{Version: "1.0.0", Arch: "amd64", State: TwoWay}
	if err := errors.Join(shipper.Pack(d.folder("1.0.0"), m), shipper.AddRelease(m)); err != nil {
		t.Fatal(err)
	}
	before := d.backup()
	done, err := shipper.Publish()
	if err != nil || len(done.Visible) > 0 || len(done.Waiting) != 2 {
		t.Errorf("got %+v, %v; want the release and a snapshot to wait", done, err)
	}
	if after := d.backup(); len(after) != len(before) {
		t.Errorf("devices see %d files, before %d", len(after), len(before))
	}
	if err := v.Signed(t.Context(), "1.0.0", m.Digest()); err == nil {
		t.Error("a release that waits was taken")
	}
	machine := d.open(Root, Targets, Families, Releases)
	changes := machine.Changes()
	if want := releaseTarget("1.0.0", "amd64") + " is " + string(m.Digest()); !slices.Equal(changes, []string{want}) {
		t.Errorf("it would change %+v, want the release", changes)
	}
	if done, err = machine.Publish(); err != nil || len(done.Waiting) > 0 ||
		!slices.Equal(done.Visible, []Role{Releases, Snapshot, Timestamp}) {
		t.Errorf("got %+v, %v", done, err)
	}
	v.takes("1.0.0")
	if done, err = d.open().Publish(); err != nil || len(done.Visible)+len(done.Waiting) > 0 {
		t.Errorf("signed again: %+v, %v; want nothing to do", done, err)
	}
}

func TestARootThatWaitsDoesNotHoldBackWhatIsSignedEveryDay(t *testing.T) {
	d := newDesk(t)
	d.release("1.0.0")
	v := d.device()
	v.takes("1.0.0")
	r := d.open(Root)
	if err := r.Rotate(Rotation{Role: Timestamp, Add: []Key{d.key(Timestamp, "b")}}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Publish(); err != nil {
		t.Fatal(err)
	}
	d.now = d.now.Add(6 * dayLong)
	r = d.open(Root)
	if err := r.Renew(Timestamp); err != nil {
		t.Fatal(err)
	}
	if done, err := r.Publish(); err != nil || !slices.Contains(done.Visible, Timestamp) {
		t.Errorf("got %+v, %v; want a new timestamp", done, err)
	}
	v.clock = d.now.Add(5 * dayLong)
	v.takes("1.0.0")
}

func TestStatusSaysWhatExpiresWhenAndWhatWaits(t *testing.T) {
	d := newDesk(t)
	d.release("1.0.0")
	d.now = d.now.Add(8 * dayLong)
	r := d.open(Root)
	if err := r.Rotate(Rotation{Role: Root, Add: []Key{d.key(Root, "b")}, Threshold: 2}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Publish(); err != nil {
		t.Fatal(err)
	}
	for _, s := range d.open().Status() {
		want := map[Role]float64{Timestamp: -1, Snapshot: 22}[s.Role]
		if want == 0 {
			want = 357
		}
		if s.Days != want || s.Signatures != 1 || s.Threshold != 1 || (s.Waiting != nil) != (s.Role == Root) {
			t.Errorf("got %+v, want %v days", s, want)
		}
		if s.Role == Root && !strings.Contains(s.Waiting.Why, "of 2 signatures") {
			t.Errorf("root waits: %s", s.Waiting.Why)
		}
	}
	if all := d.open().Targets(); len(all) != 1 || all[0].Target != releaseTarget("1.0.0", "amd64") {
		t.Errorf("targets: %+v", all)
	}
}

func TestACopyOfWhatIsServedIsARepositoryAndIsNotBegunAnew(t *testing.T) {
	d := newDesk(t)
	d.release("1.0.0")
	for _, name := range []string{settingsFile, stagedDir} {
		if err := os.RemoveAll(filepath.Join(d.dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Init(d.dir, d.ring(), Setup{}, d.now); err == nil || !strings.Contains(err.Error(), "is there already") {
		t.Errorf("got %v, want it not begun anew", err)
	}
	d.release("1.0.1")
	if all := d.open().Targets(); len(all) != 2 {
		t.Errorf("got %+v, want both releases", all)
	}
}

func TestStatusSaysThatATimestampHasExpiredAtOnce(t *testing.T) {
	d := newDesk(t)
	d.now = d.now.Add(7*dayLong + time.Second)
	all := d.open().Status()
	if s := all[len(all)-1]; s.Role != Timestamp || s.Days >= 0 {
		t.Errorf("got %+v, want a timestamp that expired a second ago", s)
	}
}

func TestAReleaseHasOneManifestAndIsThereOnce(t *testing.T) {
	d := newDesk(t)
	d.release("1.0.0")
	r := d.open()
	m := &Manifest{Version: "1.0.0", Arch: "amd64", State: OneWay}
	if err := r.Pack(d.folder("1.0.0"), m); err != nil {
		t.Fatal(err)
	}
	if err := r.AddRelease(m); err == nil || !strings.Contains(err.Error(), "withdraw it first") {
		t.Errorf("another of that version: got %v", err)
	}
	m.Files[0].Digest = family.DigestOf([]byte("elsewhere"))
	m.Version = "1.0.1"
	if err := r.AddRelease(m); err == nil || !strings.Contains(err.Error(), "not in the repository") {
		t.Errorf("a file that is not there: got %v", err)
	}
	if err := r.WithdrawRelease("3.0.0", ""); err == nil {
		t.Error("one that is not there was withdrawn")
	}
}

// Who signs, signs all of a document: one that was changed on a server must not come by.
func TestC1_WhatWasTamperedWithIsNotSignedAnew(t *testing.T) {
	for name, change := range map[string]func(d *desk) (string, []byte){
		"releases by another key": func(d *desk) (string, []byte) {
			name := d.visible(Releases)
			return name, forge(d, d.file(name), func(s *metadata.TargetsType) { s.Expires = d.now }, Families)
		},
		"a timestamp": func(d *desk) (string, []byte) {
			const name = "metadata/timestamp.json"
			return name, bytes.Replace(d.file(name), []byte(`"sig":"`), []byte(`"sig":"00`), 1)
		},
		"a root that nobody signed": func(d *desk) (string, []byte) {
			b := d.file("metadata/1.root.json")
			return "metadata/2.root.json", forge(d, b, func(s *metadata.RootType) { s.Version++ }, Targets)
		},
		"garbage": func(d *desk) (string, []byte) { return d.visible(Targets), []byte("{}") },
	} {
		d := newDesk(t)
		d.release("1.0.0")
		file, b := change(d)
		if err := os.WriteFile(filepath.Join(d.dir, file), b, 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(d.dir, d.ring(), d.now); err == nil {
			t.Errorf("%s: nobody complained", name)
		}
	}
}

func TestWhatIsNoFileOfARepositoryHoldsNobodyUp(t *testing.T) {
	d := newDesk(t)
	if err := syscall.Mkfifo(filepath.Join(d.dir, metadataDir, "pipe"), 0o644); err != nil {
		t.Fatal(err)
	}
	soon := http.Client{Timeout: 10 * time.Second}
	a, err := soon.Get(d.url + "/" + metadataDir + "/pipe")
	if err != nil {
		t.Fatal(err)
	}
	defer a.Body.Close()
	if a.StatusCode != http.StatusNotFound {
		t.Errorf("a pipe: got %s", a.Status)
	}
}

func TestC7_ARepositoryIsServedAndNothingBesideIt(t *testing.T) {
	d := newDesk(t)
	d.release("1.0.0")
	outside := filepath.Join(filepath.Dir(d.dir), "secret")
	if err := errors.Join(os.WriteFile(outside, []byte("secret"), 0o644), os.Symlink(outside, filepath.Join(d.dir, "blobs", "link")),
		os.WriteFile(filepath.Join(d.dir, "staged", "root.json"), []byte("staged"), 0o644)); err != nil {
		t.Fatal(err)
	}
	ask := func(method, path, bytes string) (int, []byte) {
		r, err := http.NewRequest(method, d.url, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.URL.Path, r.URL.RawPath = path, path
		if bytes != "" {
			r.Header.Set("Range", bytes)
		}
		a, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer a.Body.Close()
		b, err := io.ReadAll(a.Body)
		if err != nil {
			t.Fatal(err)
		}
		return a.StatusCode, b
	}
	for _, path := range []string{"/", "/metadata", "/metadata/", "/repo.json", "/staged/root.json", "/../secret", "/metadata/../repo.json",
		"/metadata/../../secret", "/blobs/link", "/blobs/../repo.json", "//metadata/1.root.json", "/metadata//1.root.json",
		"/metadata/1.root.json/", "/blobs/%2e%2e/repo.json", "/metadata/x.part", "/metadata/\x00", "/targets/release"} {
		if code, b := ask(http.MethodGet, path, ""); code != http.StatusNotFound {
			t.Errorf("%q: got %d, %.40q", path, code, b)
		}
	}
	digest := string(d.released("1.0.0"))
	code, b := ask(http.MethodGet, "/blobs/"+digest, "bytes=2-5")
	if whole := d.file("blobs/" + digest); code != http.StatusPartialContent || !bytes.Equal(b, whole[2:6]) {
		t.Errorf("a range: got %d, %q", code, b)
	}
	if code, _ := ask(http.MethodPut, "/metadata/timestamp.json", ""); code != http.StatusMethodNotAllowed {
		t.Errorf("PUT: got %d", code)
	}
}

// nobody answers, until somebody does.
type nobody struct {
	there func(name string) ([]byte, error)
}

func (n nobody) Document(_ context.Context, _, name string, _ int64) ([]byte, error) {
	return n.there(name)
}

func TestWithoutASourceItIsWaitedForAndWhatIsKeptCounts(t *testing.T) {
	d := newDesk(t)
	d.release("1.0.0")
	v := d.device()
	v.takes("1.0.0")
	d.release("1.0.1")
	synctest.Test(t, func(t *testing.T) {
		away := errors.New("no route to host")
		ends := time.Now().Add(time.Hour)
		v.deps.Getter = nobody{func(name string) ([]byte, error) {
			if time.Now().Before(ends) {
				return nil, away
			}
			return os.ReadFile(filepath.Join(d.dir, name))
		}}
		if err := v.Signed(t.Context(), "1.0.0", d.released("1.0.0")); err != nil || time.Now().After(ends) {
			t.Errorf("what is kept: %v", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := v.Signed(ctx, "1.0.1", d.released("1.0.1")); !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, away) {
			t.Errorf("what is not: got %v, want it to have waited", err)
		}
		if err := v.Signed(t.Context(), "1.0.1", d.released("1.0.1")); err != nil || time.Now().Before(ends) {
			t.Errorf("once it is there: %v", err)
		}
		if err := v.May(t.Context(), family.DigestOf(nil)); !errors.Is(err, ErrRefused) {
			t.Errorf("a family: got %v", err)
		}
	})
}

func TestManyAskAtOnce(t *testing.T) {
	d := newDesk(t)
	d.release("1.0.0")
	v := d.device()
	want := d.released("1.0.0")
	errs := make(chan error)
	for range 8 {
		go func() { errs <- v.Signed(t.Context(), "1.0.0", want) }()
	}
	for range 8 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}

func TestWhoSignsIsToldWhatChanges(t *testing.T) {
	d := newDesk(t)
	d.release("1.0.0")
	b := d.key(Root, "b")
	r := d.open(Root, Releases)
	a := d.idsOf(d.ring("root-b"), Root)[0]
	if err := errors.Join(r.Rotate(Rotation{Role: Root, Add: []Key{b, d.key(Root, "c")}, Remove: []string{a}, Threshold: 2}),
		r.WithdrawRelease("1.0.0", "")); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Publish(); err != nil {
		t.Fatal(err)
	}
	all := strings.Join(d.open().Changes(), "\n")
	for _, want := range []string{"key " + b.ID[:8] + " may sign for root", "key " + a[:8] + " may not sign for root any more",
		"2 must sign for root, 1 before", "release/1.0.0/amd64.json is not"} {
		if !strings.Contains(all, want) {
			t.Errorf("got %s\nwant %q", all, want)
		}
	}
}

// What was written when the machine went down is any of the files, up to one.
func TestM17_WhatWasCutWhileItBecameVisibleIsFinishedByTheNext(t *testing.T) {
	d := newDesk(t)
	d.release("1.0.0")
	v := d.device()
	v.takes("1.0.0")
	before := d.backup()
	lost := d.ring()
	staged := set{}
	d.edit(func(r *Repository) error {
		var errs []error
		for _, role := range []Role{Timestamp, Targets, Releases} {
			errs = append(errs, r.Rotate(Rotation{Role: role, Add: []Key{d.key(role, "b")}, Remove: d.idsOf(lost, role)}))
		}
		return errors.Join(errs...)
	})
	after := d.published()
	for _, role := range Roles() {
		if _, same := before[metadataDir+"/"+fileOf(role, headOf(after[role]).Signed.Version)]; !same || role == Timestamp {
			staged[role] = after[role]
		}
	}
	written := Roles()
	for n := range len(written) + 1 {
		if err := os.RemoveAll(filepath.Join(d.dir, metadataDir)); err != nil {
			t.Fatal(err)
		}
		files := maps.Clone(before)
		for _, role := range written[:n] {
			files[metadataDir+"/"+fileOf(role, headOf(after[role]).Signed.Version)] = after[role]
		}
		for role, b := range staged {
			files[stagedDir+"/"+role+".json"] = b
		}
		for name, b := range files {
			file := filepath.Join(d.dir, name)
			if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, b, 0o644)); err != nil {
				t.Fatal(err)
			}
		}
		d.publish(d.open())
		v.takes("1.0.0")
		if waiting := d.open().Waiting(); len(waiting) > 0 {
			t.Errorf("after %d files: %+v waits", n, waiting)
		}
	}
}

func TestAVersionNeverHasTwoContents(t *testing.T) {
	d := newDesk(t)
	d.release("1.0.0")
	r := d.open(Snapshot)
	if err := r.WithdrawRelease("1.0.0", ""); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Publish(); err != nil {
		t.Fatal(err)
	}
	waiting := d.file("staged/releases.json")
	d.publish(d.open())
	d.release("1.0.1") // elsewhere, and then the copy comes along in which the first still waits
	visible := d.backup()
	if err := os.WriteFile(filepath.Join(d.dir, "staged/releases.json"), waiting, 0o644); err != nil {
		t.Fatal(err)
	}
	done, err := d.open().Publish()
	if err != nil || !slices.Equal(done.Overtaken, []Role{Releases}) || len(done.Visible)+len(done.Waiting) > 0 {
		t.Errorf("got %+v, %v; want it given up", done, err)
	}
	for name, b := range d.backup() {
		if !bytes.Equal(b, visible[name]) {
			t.Errorf("%s has another content", name)
		}
	}
}

func TestM17_ABeginningThatWasCutIsFinishedByTheNext(t *testing.T) {
	d := newDesk(t)
	all := d.published()
	for n := range len(Roles()) { // of which the last ones are not there
		for i, role := range Roles() {
			err := os.WriteFile(filepath.Join(d.dir, stagedDir, role+".json"), all[role], 0o644)
			if i >= n {
				err = errors.Join(err, os.Remove(filepath.Join(d.dir, metadataDir, fileOf(role, 1))))
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		d.publish(d.open())
		if err := d.device().Refresh(t.Context()); err != nil {
			t.Errorf("with %d files: %v", n, err)
		}
	}
}
