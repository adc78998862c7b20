package blob

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/limber-edge/limber/family"
)

// The environment of a process that fetches a blob until it is killed.
const (
	envFolder = "LIMBER_TEST_FOLDER"
	envSource = "LIMBER_TEST_SOURCE"
	envDigest = "LIMBER_TEST_DIGEST"
)

// killedBytes is the size of that blob.
const killedBytes = 20*windowBytes + 99

func TestMain(m *testing.M) {
	if os.Getenv(envFolder) == "" {
		m.Run()
		return
	}
	allowed, err := ParseAllowed([]string{os.Getenv(envSource)})
	if err == nil {
		f := New(Config{Dir: os.Getenv(envFolder), Allowed: allowed}, nowhere{}, discard())
		w := Wanted{family.Digest(os.Getenv(envDigest)), []string{os.Getenv(envSource)}, 1 << 30}
		_, err = f.Fetch(context.Background(), w, func(done int64) { fmt.Println(done) })
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// TestKilledWhileItFetchesItGoesOnWhereItWas kills a process again and again, each time a
// little later.
func TestKilledWhileItFetchesItGoesOnWhereItWas(t *testing.T) {
	b := random(killedBytes)
	var sent atomic.Int64
	h := always(having(b))
	f, url := mustServe(t, func(w http.ResponseWriter, r *http.Request) { h.ServeHTTP(&metered{w, &sent}, r) })
	w := wantedOf(b, url)
	kills := 0
	for at := int64(1); at < killedBytes; at += 3*windowBytes + 1000 {
		if mustFetchUntil(t, f.cfg.Dir, w, at) {
			kills++
		}
	}
	if kills == 0 {
		t.Fatal("it was never killed in time")
	}
	before := mustSize(t, f.cfg.Dir, w)
	mustFetch(t, f, w)
	again := sent.Load() - killedBytes
	t.Logf("killed %d times, lastly at %d of %d bytes; %d were sent again", kills, before, killedBytes, again)
	if again > int64(kills)*windowBytes {
		t.Errorf("%d bytes were sent again after %d kills, want at most %d each", again, kills, windowBytes)
	}
}

// mustFetchUntil has a process fetch a blob and kills it once so many bytes are there. It
// tells whether it was in time.
func mustFetchUntil(tb testing.TB, dir string, w Wanted, bytes int64) bool {
	tb.Helper()
	exe, err := os.Executable()
	if err != nil {
		tb.Fatal(err)
	}
	c := exec.CommandContext(tb.Context(), exe)
	c.Env = append(os.Environ(), envFolder+"="+dir, envSource+"="+w.Sources[0], envDigest+"="+string(w.Digest))
	c.Stderr = os.Stderr
	out, err := c.StdoutPipe()
	if err == nil {
		err = c.Start()
	}
	if err != nil {
		tb.Fatal(err)
	}
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if n, err := strconv.ParseInt(strings.TrimSpace(lines.Text()), 10, 64); err == nil && n >= bytes {
			break
		}
	}
	c.Process.Kill()
	return c.Wait() != nil
}

// mustSize is how much is there of a blob.
func mustSize(tb testing.TB, dir string, w Wanted) int64 {
	tb.Helper()
	info, err := os.Stat(filepath.Join(dir, string(w.Digest)+partSuffix))
	if err != nil {
		tb.Fatal(err)
	}
	return info.Size()
}

// metered counts what a handler writes.
type metered struct {
	http.ResponseWriter
	sent *atomic.Int64
}

func (m *metered) Write(b []byte) (int, error) {
	m.sent.Add(int64(len(b)))
	return m.ResponseWriter.Write(b)
}
