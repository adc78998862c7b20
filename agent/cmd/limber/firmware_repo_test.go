package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/limber-edge/limber/firmware/repo"
)

// keyring makes a key of each role.
func keyring(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for _, role := range repo.Roles() {
		mustLimber(t, "firmware", "keygen", "--role", role, "--out", filepath.Join(dir, role+".pem"))
	}
	return dir
}

// mustLimber runs a command line and returns what it prints.
func mustLimber(t *testing.T, args ...string) string {
	t.Helper()
	r := limber(t, args...)
	if r.code != exitDone {
		t.Fatalf("%q: %+v", args, r)
	}
	return r.stdout
}

// releaseFolder has the files of a release.
func releaseFolder(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "limber"), []byte("a program"), 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestAReleaseWithoutAnONNXRuntimeIsAddedWithAWarning(t *testing.T) {
	keys, dir, folder := keyring(t), filepath.Join(t.TempDir(), "repo"), releaseFolder(t)
	mustLimber(t, "firmware", "repo", "init", "--repo", dir, "--keys", keys)
	add := func(version string) ran {
		return limber(t, "firmware", "repo", "add", "--repo", dir, "--keys", keys, "--version", version, "--arch", "arm64", folder)
	}
	if got := add("1.4.0"); got.code != exitDone || !strings.Contains(got.stderr, "1.4.0 has no libonnxruntime.so.*") {
		t.Errorf("got %+v, want a warning", got)
	}
	mustWrite(t, filepath.Join(folder, "libonnxruntime.so.1.30.0"), []byte("a library"))
	if got := add("1.5.0"); got.code != exitDone || got.stderr != "" {
		t.Errorf("got %+v, want none", got)
	}
}

func TestARepositoryIsKeptByCommands(t *testing.T) {
	keys, dir := keyring(t), filepath.Join(t.TempDir(), "repo")
	mustLimber(t, "firmware", "repo", "init", "--repo", dir, "--keys", keys, "--expires", "timestamp=14d,snapshot=36h")
	out := mustLimber(t, "firmware", "repo", "add", "--repo", dir, "--keys", keys, "--version", "1.4.0", "--arch", "arm64",
		"--board", "*Orin*", "--from", "1.2.0,1.4.0", "--one-way", releaseFolder(t))
	for _, want := range []string{"manifest sha256:", "files: 1", "devices see new versions of releases, snapshot, timestamp"} {
		if !strings.Contains(out, want) {
			t.Errorf("add: %s, want %q in it", out, want)
		}
	}
	out = mustLimber(t, "firmware", "repo", "add", "--repo", dir, "--keys", keys, "--family", "../../../family/stock")
	if !strings.Contains(out, "family cifar10: sha256:") {
		t.Errorf("add: %s", out)
	}
	var s repoStatus
	if err := json.Unmarshal([]byte(mustLimber(t, "firmware", "repo", "status", "--repo", dir, "--json")), &s); err != nil {
		t.Fatal(err)
	}
	if len(s.Roles) != 6 || len(s.Targets) != 2 || len(s.Changes) != 0 || s.Roles[5].Days < 13.9 || s.Roles[4].Days > 1.5 {
		t.Errorf("status: %+v", s)
	}
	table := mustLimber(t, "firmware", "repo", "status", "--repo", dir)
	for _, want := range []string{"ROLE", "timestamp  3", "release/1.4.0/arm64.json", "family/" + s.Targets[0].SHA256} {
		if !strings.Contains(table, want) {
			t.Errorf("status lacks %q:\n%s", want, table)
		}
	}
	limber(t, "firmware", "repo", "sign", "--repo", dir, "--keys", t.TempDir(), "--renew", "timestamp").
		complained(t, exitFailed, "--renew timestamp: no key in --keys signs for it")
	bob := filepath.Join(t.TempDir(), "root-bob.pem")
	mustLimber(t, "firmware", "keygen", "--role", "root", "--out", bob)
	out = mustLimber(t, "firmware", "repo", "rotate", "--repo", dir, "--keys", keys, "--role", "root", "--add",
		strings.TrimSuffix(bob, ".pem")+".pub", "--threshold", "2")
	if !strings.Contains(out, "waiting: root 2: it has 1 of 2 signatures") || !strings.Contains(out, "repo sign --repo "+dir) {
		t.Errorf("rotate: %s", out)
	}
	if out = mustLimber(t, "firmware", "repo", "sign", "--repo", dir, "--keys", filepath.Dir(bob)); !strings.Contains(out, "of root\n") {
		t.Errorf("sign: %s", out)
	}
	mustLimber(t, "firmware", "repo", "sign", "--repo", dir, "--keys", keys, "--renew", "timestamp,snapshot", "--expires", "snapshot=60d")
	mustLimber(t, "firmware", "repo", "withdraw", "--repo", dir, "--keys", keys, "--version", "1.4.0")
	mustLimber(t, "firmware", "repo", "withdraw", "--repo", dir, "--keys", keys, "--family", s.Targets[0].SHA256)
	if table = mustLimber(t, "firmware", "repo", "status", "--repo", dir); strings.Contains(table, ".json") {
		t.Errorf("all was withdrawn:\n%s", table)
	}
}

// TestOfTwoCommandsOnARepositoryAtOnceNeitherIsLost has one wait while the test edits.
func TestOfTwoCommandsOnARepositoryAtOnceNeitherIsLost(t *testing.T) {
	keys, dir := keyring(t), filepath.Join(t.TempDir(), "repo")
	mustLimber(t, "firmware", "repo", "init", "--repo", dir, "--keys", keys)
	unlock, err := repo.Lock(t.Context(), dir, func() { t.Error("nobody else edits it") })
	if err != nil {
		t.Fatal(err)
	}
	r, err := repo.Open(dir, mustKeys(t, keys), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	folder, added := releaseFolder(t), make(chan int, 1)
	said, stderr := io.Pipe()
	go func() {
		line := []string{"firmware", "repo", "add", "--repo", dir, "--keys", keys, "--version", "1.5.0", "--arch", "amd64", folder}
		added <- run(t.Context(), line, io.Discard, stderr)
		stderr.Close()
	}()
	line, err := bufio.NewReader(said).ReadString('\n')
	if !strings.Contains(line, "waiting: another command edits "+dir) {
		t.Fatalf("got %q, %v", line, err)
	}
	m := &repo.Manifest{Version: "1.4.0", Arch: "amd64", State: repo.TwoWay}
	if err := errors.Join(r.Pack(folder, m), r.AddRelease(m)); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Publish(); err != nil {
		t.Fatal(err)
	}
	unlock()
	rest, err := io.ReadAll(said)
	if code := <-added; code != exitDone || err != nil {
		t.Errorf("exit %d: %s, %v", code, rest, err)
	}
	status := mustLimber(t, "firmware", "repo", "status", "--repo", dir)
	if !strings.Contains(status, "release/1.4.0") || !strings.Contains(status, "release/1.5.0") {
		t.Errorf("got\n%s, want both releases", status)
	}
}

func mustKeys(t *testing.T, dir string) []repo.Key {
	t.Helper()
	keys, err := repo.ReadKeys(dir)
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

func TestAWrongLineOnARepositorySaysWhatIsWrong(t *testing.T) {
	keys, dir := keyring(t), filepath.Join(t.TempDir(), "repo")
	for _, tt := range []struct {
		line, want string
		code       int
	}{
		{"keygen", "--role is missing", exitUsage},
		{"keygen --role boss --out a.pem", `there is no role "boss"`, exitUsage},
		{"keygen --role root --out " + dir + "/none/root.pem", "no such file", exitFailed},
		{"keygen --role root --out " + keys + "/targets-a.pem", "call it root.pem", exitFailed},
		{"keygen --role root --out " + keys + "/root.pem", "never written over", exitFailed},
		{"repo init --repo " + dir, "--keys is missing", exitUsage},
		{"repo init --keys " + keys, "--repo is missing", exitUsage},
		{"repo init --repo R --keys K --expires timestamp=soon", "such as 12h or 7d", exitUsage},
		{"repo init --repo R --keys K --expires timestamp=213504d", "such as 12h or 7d", exitUsage}, // 2^64 ns and a little
		{"repo init --repo R --keys K --expires time=7d", `there is no role "time"`, exitUsage},
		{"repo init --repo R --keys K --threshold boss=2", `there is no role "boss"`, exitUsage},
		{"repo init --repo R --keys K --threshold root=2", "keygen --role root", exitFailed},
		{"repo status --repo R", "`limber firmware repo init` begins one", exitFailed},
		{"repo add --repo R --keys K", "wants the folder of a release, or --family", exitUsage},
		{"repo add --repo R --keys K folder", "--version is missing", exitUsage},
		{"repo add --repo R --keys K --version 1.0.0 --arch arm64 --from 1.0.0 folder", "OLDEST,NEWEST", exitUsage},
		{"repo add --repo R --keys K --version 1.0.0 --arch aarch64 folder", "neither amd64 nor arm64", exitUsage},
		{"repo add --repo R --keys K --family a folder", "and not both", exitUsage},
		{"repo add --repo R --keys K --family a --version 1.0.0", "and not both", exitUsage},
		{"repo withdraw --repo R --keys K", "either --version or --family", exitUsage},
		{"repo sign --repo R --keys K --renew time", `there is no role "time"`, exitUsage},
		{"repo rotate --repo R --keys K", "--role is missing", exitUsage},
		{"repo rotate --repo R --keys K --role root", "wants --add, --remove or --threshold", exitUsage},
		{"repo rotate --repo R --keys K --role root --add none.pem", "none.pem", exitFailed},
		{"repo serve --repo R", "begins one", exitFailed},
	} {
		line := strings.NewReplacer("--repo R", "--repo "+dir, "--keys K", "--keys "+keys).Replace(tt.line)
		limber(t, append([]string{"firmware"}, strings.Fields(line)...)...).complained(t, tt.code, tt.want)
	}
}

func TestARepositoryIsServedUntilItIsStopped(t *testing.T) {
	keys, dir := keyring(t), filepath.Join(t.TempDir(), "repo")
	mustLimber(t, "firmware", "repo", "init", "--repo", dir, "--keys", keys)
	ctx, stop := context.WithCancel(t.Context())
	said, ended := newSpoken(), make(chan int)
	go func() {
		ended <- run(ctx, []string{"firmware", "repo", "serve", "--repo", dir, "--listen", "127.0.0.1:0"}, said, said)
	}()
	_, at, _ := strings.Cut(<-said.lines, "http://")
	at, _, _ = strings.Cut(at, ": ")
	a, err := http.Get("http://" + at + "/metadata/timestamp.json")
	if err != nil {
		t.Fatal(err)
	}
	a.Body.Close()
	if a.StatusCode != http.StatusOK {
		t.Errorf("got %s", a.Status)
	}
	stop()
	if code := <-ended; code != exitDone {
		t.Errorf("stopped: got exit %d, want 0", code)
	}
}
