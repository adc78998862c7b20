package blob

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/limber-edge/limber/family"
)

// trickle gives a byte a second of what it has, for ever.
type trickle struct {
	r *http.Request
	b []byte
}

func (t *trickle) Read(b []byte) (int, error) {
	if err := sleep(t.r.Context(), time.Second); err != nil {
		return 0, err
	}
	n := copy(b[:1], t.b)
	t.b = t.b[n:]
	return n, nil
}

// slowly has a mirror of a name give a byte a second, and others all at once.
func slowly(b []byte, asked map[string]int) roundTrip {
	h := NewHandler(having(b), func(family.Digest) bool { return true })
	return func(r *http.Request) (*http.Response, error) {
		asked[r.URL.Hostname()]++
		w := &answer{header: http.Header{}}
		h.ServeHTTP(w, r)
		a := &http.Response{StatusCode: w.code, Header: w.header, ContentLength: int64(w.body.Len()),
			Body: io.NopCloser(&w.body)}
		if r.URL.Hostname() == "slow.example" {
			a.Body = io.NopCloser(&trickle{r, w.body.Bytes()})
		}
		return a, nil
	}
}

func TestM3_AMirrorOfAByteASecondIsGivenUpAndAnotherGoesOnWhereItWas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, asked := random(3<<20), map[string]int{}
		allowed := mustAllow(t, "http://slow.example", "http://fast.example")
		f := New(Config{Dir: t.TempDir(), Allowed: allowed}, nowhere{}, discard())
		f.client.Transport = slowly(b, asked)
		began := time.Now()
		mustComplete(t, f, wantedOf(b, "http://slow.example", "http://fast.example"))
		if took := time.Since(began); took < stall || took > stall+2*time.Second {
			t.Errorf("it took %v, want a stall of %v and little more", took, stall)
		}
		if f.Counts().Bytes != uint64(len(b)) || asked["slow.example"] != 1 {
			t.Errorf("%d bytes came, want each of %d once; the slow one was asked %d times", f.Counts().Bytes, len(b),
				asked["slow.example"])
		}
	})
}

// crumbs is a mirror that answers, a second after it was asked, with the one byte that
// follows; whole says that this is all that there was to be in the answer.
func crumbs(b []byte, whole bool) roundTrip {
	return func(r *http.Request) (*http.Response, error) {
		if err := sleep(r.Context(), time.Second); err != nil {
			return nil, err
		}
		from := 0
		fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &from)
		body, last := io.Reader(bytes.NewReader(b[from:from+1])), from
		if !whole {
			body, last = io.MultiReader(body, iotest.ErrReader(io.ErrUnexpectedEOF)), from+100
		}
		a := &http.Response{StatusCode: http.StatusPartialContent, Header: http.Header{}, Body: io.NopCloser(body)}
		a.Header.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, last, len(b)))
		return a, nil
	}
}

func TestM3_AMirrorIsGivenUpHoweverItTakesItsTime(t *testing.T) {
	b := random(200_000)
	fast := slowly(b, map[string]int{})
	for name, tt := range map[string]struct {
		slow roundTrip
		rate int // KiB/s
	}{
		"a byte a second at a bounded rate": {fast, 64},
		"a byte an answer":                  {crumbs(b, true), 0},
		"answers that break off":            {crumbs(b, false), 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := New(Config{Dir: t.TempDir(), Allowed: mustAllow(t, "http://slow.example", "http://fast.example"),
					KiBPerSecond: tt.rate}, nowhere{}, discard())
				f.client.Transport = roundTrip(func(r *http.Request) (*http.Response, error) {
					if r.URL.Hostname() == "slow.example" {
						return tt.slow(r)
					}
					return fast(r)
				})
				ctx, cancel := context.WithTimeout(t.Context(), 2*stall)
				defer cancel()
				if _, err := f.Fetch(ctx, wantedOf(b, "http://slow.example", "http://fast.example"), nil); err != nil {
					t.Errorf("the fast one is not asked: %v", err)
				}
			})
		})
	}
}

func TestM3_ADocumentOfAByteASecondIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := random(50_000)
		f := New(Config{Allowed: mustAllow(t, "http://slow.example")}, nowhere{}, discard())
		f.client.Transport = slowly(b, map[string]int{})
		began := time.Now()
		_, err := f.Document(t.Context(), "http://slow.example", string(family.DigestOf(b)), 1<<20)
		if took := time.Since(began); !errors.Is(err, errStalled) || took != stall {
			t.Errorf("got %v after %v, want it given up after %v", err, took, stall)
		}
	})
}

func TestC7_ADocumentIsReadUpToItsBoundFromWhereItMayLie(t *testing.T) {
	site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/repo/metadata/a.json":
			w.Write(bytes.Repeat([]byte("a"), 100))
		case "/repo/endless":
			for r.Context().Err() == nil {
				w.Write(make([]byte, 1<<16))
			}
		case "/repo/moved":
			http.Redirect(w, r, "/repo/metadata/a.json", http.StatusFound)
		case "/repo/forbidden":
			w.WriteHeader(http.StatusForbidden)
		case "/repo/broken":
			w.WriteHeader(http.StatusBadGateway)
		default:
			http.NotFound(w, r)
		}
	}))
	defer site.Close()
	f := New(Config{Allowed: mustAllow(t, site.URL+"/repo")}, nowhere{}, discard())
	b, err := f.Document(t.Context(), site.URL+"/repo/", "metadata/a.json", 100)
	if err != nil || len(b) != 100 {
		t.Errorf("%d bytes, %v", len(b), err)
	}
	for _, tt := range []struct {
		source, name string
		none         bool
		want         string
	}{
		{site.URL + "/repo", "metadata/a.json", false, "more than 99 bytes"},
		{site.URL + "/repo", "endless", false, "more than 99 bytes"},
		{site.URL + "/repo", "moved", false, "redirects are not followed"},
		{site.URL + "/repo", "none", true, "404"},
		{site.URL + "/repo", "forbidden", true, "403"},
		{site.URL + "/repo", "broken", false, "502"},
		{site.URL + "/other", "a", false, "not below any"},
		{"file:///etc", "passwd", false, "http:// or https://"},
		{"http://169.254.169.254/latest", "meta-data", false, "not below any"},
		{`\\server\share`, "a", false, "http:// or https://"},
	} {
		_, err := f.Document(t.Context(), tt.source, tt.name, 99)
		if err == nil || errors.Is(err, fs.ErrNotExist) != tt.none || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s of %s: got %v, want %q", tt.name, tt.source, err, tt.want)
		}
	}
}

func TestABlobThatIsNotReadIntoMemoryIsAFileThatTheDiskHas(t *testing.T) {
	b := random(5 << 20)
	f, url := mustServe(t, always(having(b)).ServeHTTP)
	w := wantedOf(b, url)
	file, err := f.FetchFile(t.Context(), w, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(file); err != nil || !bytes.Equal(got, b) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	moved := filepath.Join(t.TempDir(), "limber")
	if err := os.Rename(file, moved); err != nil {
		t.Fatal(err)
	}
	before := f.Counts().Bytes
	if _, err := f.FetchFile(t.Context(), w, nil); err != nil || f.Counts().Bytes-before != uint64(len(b)) {
		t.Errorf("moved away: %v, %d bytes came; want all of it again", err, f.Counts().Bytes-before)
	}
	w.Digest = family.DigestOf([]byte("other"))
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := f.FetchFile(short, w, nil); err == nil {
		t.Error("a blob that is not there came")
	}
}
