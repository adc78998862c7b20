package main

import (
	"context"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

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

func TestARepositoryIsKeptByCommands(t *testing.T) {
	keys, dir := keyring(t), filepath.Join(t.TempDir(), "repo")
	mustLimber(t, "firmware", "repo", "init", "--repo", dir, "--keys", keys, "--expires", "timestamp=14d,snapshot=36h")
	out := mustLimber(t, "firmware", "repo", "add", "--repo", dir, "--keys", keys, "--version", "1.4.0", "--arch", "arm64",
		"--board", "*Orin*", "--from", "1.2.0,1.4.0", "--one-way", releaseFolder(t))
	if !strings.Contains(out, "1 files") || !strings.Contains(out, "devices see new versions of releases, snapshot, timestamp") {
		t.Errorf("add: %s", out)
	}
	mustLimber(t, "firmware", "repo", "add", "--repo", dir, "--keys", keys, "--family", "../../../family/stock")
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
		{"repo add --repo R --keys K --family a folder", "and not both", exitUsage},
		{"repo withdraw --repo R --keys K", "either --version or --family", exitUsage},
		{"repo sign --repo R --keys K --renew time", `there is no role "time"`, exitUsage},
		{"repo rotate --repo R --keys K", "--role is missing", exitUsage},
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
