package blob

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/family"
)

// always is a handler of what somebody has.
func always(b blobs) http.Handler {
	return http.StripPrefix("/blobs", NewHandler(b, func(family.Digest) bool { return true }))
}

func TestABlobComesFromASourceInWindows(t *testing.T) {
	for _, n := range []int{1, wire.BlobPart, windowBytes - 1, windowBytes, windowBytes + 1, 3*windowBytes + 5} {
		b := random(n)
		var asked []string
		h := always(having(b))
		f, url := mustServe(t, func(w http.ResponseWriter, r *http.Request) {
			asked = append(asked, r.Header.Get("Range"))
			h.ServeHTTP(w, r)
		})
		mustFetch(t, f, wantedOf(b, url))
		if want := (n + windowBytes - 1) / windowBytes; len(asked) != want || asked[0] != "bytes=0-262143" {
			t.Errorf("%d bytes were asked for as %q, want %d requests", n, asked, want)
		}
		if got := f.Counts(); got.Bytes != uint64(n) {
			t.Errorf("%d bytes came for %d", got.Bytes, n)
		}
	}
}

func TestC7_ARedirectIsNotFollowed(t *testing.T) {
	b := random(1000)
	var followed atomic.Int32
	f, url := mustServe(t, func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/blobs/elsewhere") {
			followed.Add(1)
			w.Write(b)
			return
		}
		http.Redirect(w, r, "/blobs/elsewhere/"+strings.TrimPrefix(r.URL.Path, "/blobs/"), http.StatusFound)
	})
	ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
	defer cancel()
	_, err := f.Fetch(ctx, wantedOf(b, url), nil)
	if err == nil || followed.Load() > 0 {
		t.Errorf("a redirect was followed %d times: %v", followed.Load(), err)
	}
}

// TestWhoWaitsInVainIsToldWhatEachWaySaid: that the time is over is no help.
func TestWhoWaitsInVainIsToldWhatEachWaySaid(t *testing.T) {
	f, url := mustServe(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/x", http.StatusFound) })
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err := f.Fetch(ctx, wantedOf(random(10), url), nil)
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "redirects are not followed") ||
		!errors.Is(err, errOffline) {
		t.Errorf("got %v, want the end of its time, and what the source and the broker said", err)
	}
}

func TestC7_NothingIsAskedOfASourceThatIsNotAllowed(t *testing.T) {
	var asked atomic.Int32
	f, url := mustServe(t, func(http.ResponseWriter, *http.Request) { asked.Add(1) })
	w := wantedOf(random(10), strings.Replace(url, "127.0.0.1", "localhost", 1), url+"/../secret",
		strings.TrimSuffix(url, "/blobs"), "file:///etc/passwd")
	ctx, cancel := context.WithCancel(t.Context())
	f.link = linkFunc(func(string, wire.Fetch) error { // and the other side is asked
		cancel()
		return errOffline
	})
	if _, err := f.Fetch(ctx, w, nil); !errors.Is(err, context.Canceled) || asked.Load() > 0 {
		t.Errorf("%d requests, %v", asked.Load(), err)
	}
}

// linkFunc is a link as a function.
type linkFunc func(string, wire.Fetch) error

func (l linkFunc) Fetch(digest string, f wire.Fetch) error { return l(digest, f) }

// TestASourceAtFaultCostsNothingButItsTurn: each fault is the first answer, after which
// the source does what it should.
func TestASourceAtFaultCostsNothingButItsTurn(t *testing.T) {
	b := random(windowBytes + 1000)
	for name, fault := range map[string]http.HandlerFunc{
		"answers 404": http.NotFound,
		"answers 500": func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusInternalServerError) },
		"another part": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Range", "bytes 10-19/1000")
			w.WriteHeader(http.StatusPartialContent)
			w.Write(b[10:20])
		},
		"no Content-Range": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusPartialContent)
			w.Write(b[:10])
		},
		"more than was asked for": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Range", fmt.Sprintf("bytes 0-%d/%d", len(b)-1, len(b)))
			w.WriteHeader(http.StatusPartialContent)
			w.Write(b)
		},
		"a size of gigabytes": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Range", "bytes 0-9/99999999999")
			w.WriteHeader(http.StatusPartialContent)
			w.Write(b[:10])
		},
		"a body of gigabytes": func(w http.ResponseWriter, r *http.Request) {
			for chunk := make([]byte, 1<<20); r.Context().Err() == nil; {
				if _, err := w.Write(chunk); err != nil {
					return
				}
			}
		},
		"gzip": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			z := gzip.NewWriter(w)
			z.Write(b)
			z.Close()
		},
		"closes early": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Range", fmt.Sprintf("bytes 0-%d/%d", windowBytes-1, len(b)))
			w.Header().Set("Content-Length", fmt.Sprint(windowBytes))
			w.WriteHeader(http.StatusPartialContent)
			w.Write(b[:5000])
		},
		"hangs up": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"other bytes": func(w http.ResponseWriter, _ *http.Request) {
			w.Write(make([]byte, len(b)))
		},
		"fewer bytes": func(w http.ResponseWriter, _ *http.Request) { w.Write(b[:windowBytes]) },
		"headers without end": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X", strings.Repeat("x", 1<<20))
			w.Write(b)
		},
		"all of it, without ranges": func(w http.ResponseWriter, _ *http.Request) { w.Write(b) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var requests atomic.Int32
			h := always(having(b))
			f, url := mustServe(t, func(w http.ResponseWriter, r *http.Request) {
				if requests.Add(1) == 1 {
					fault(w, r)
					return
				}
				h.ServeHTTP(w, r)
			})
			mustFetch(t, f, wantedOf(b, url))
			if got, most := f.Counts().Bytes, uint64(len(b)+2<<20); got > most {
				t.Errorf("%d bytes came, want at most %d", got, most)
			}
		})
	}
}

func TestASourceWithoutRangesGoesOnBehindWhatIsThere(t *testing.T) {
	b := random(100_000)
	var requests atomic.Int32
	f, url := mustServe(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", fmt.Sprint(len(b)))
		if requests.Add(1) == 1 {
			w.Write(b[:60_000])
			panic(http.ErrAbortHandler)
		}
		w.Write(b)
	})
	mustFetch(t, f, wantedOf(b, url))
	if n := requests.Load(); n != 2 {
		t.Errorf("%d requests, want 2", n)
	}
}

func TestThreeWrongOnesAreInvalid(t *testing.T) {
	b := random(1000)
	f, url := mustServe(t, func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(random(1001)))
	})
	f.link = linkFunc(func(string, wire.Fetch) error { return errOffline })
	_, err := f.Fetch(t.Context(), wantedOf(b, url, url+"/a", url+"/b"), nil)
	if refused(err) != string(wire.Invalid) {
		t.Errorf("got %v, want %s", err, wire.Invalid)
	}
}

func TestAnotherSourceGoesOnWhereOneEnded(t *testing.T) {
	b := random(3 * windowBytes)
	h := always(having(b))
	var second []string
	f, url := mustServe(t, func(w http.ResponseWriter, r *http.Request) {
		one := strings.HasPrefix(r.URL.Path, "/blobs/one/")
		switch r.URL.Path = strings.NewReplacer("/one/", "/", "/two/", "/").Replace(r.URL.Path); {
		case one && r.Header.Get("Range") != "bytes=0-262143":
			http.NotFound(w, r)
			return
		case !one:
			second = append(second, r.Header.Get("Range"))
		}
		h.ServeHTTP(w, r)
	})
	mustFetch(t, f, wantedOf(b, url+"/one", url+"/two"))
	if len(second) != 2 || second[0] != fmt.Sprintf("bytes=%d-%d", windowBytes, 2*windowBytes-1) {
		t.Errorf("the second source was asked for %q", second)
	}
}

func TestTheSizeIsKnownBeforeTheFirstByte(t *testing.T) {
	b := random(100_001)
	f, url := mustServe(t, always(having(b)).ServeHTTP)
	n, err := f.Size(t.Context(), wantedOf(b, url))
	if n != int64(len(b)) || err != nil || f.Counts().Bytes != 0 {
		t.Errorf("got %d, %v and %d bytes; want %d and none", n, err, f.Counts().Bytes, len(b))
	}
}

func TestASizeBeyondTheLimitIsWrong(t *testing.T) {
	f, url := mustServe(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "99999999999")
	})
	_, err := f.Size(t.Context(), wantedOf(random(10), url, url+"/a", url+"/b"))
	if refused(err) != string(wire.Invalid) {
		t.Errorf("got %v, want %s", err, wire.Invalid)
	}
}

// roundTrip is a transport as a function.
type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// dripping gives stallBytes every so often, and then nothing.
type dripping struct {
	ctx   context.Context
	b     []byte
	every time.Duration
}

func (d *dripping) Read(b []byte) (int, error) {
	wait := d.every
	if len(d.b) == 0 {
		wait = time.Hour
	}
	if err := sleep(d.ctx, wait); err != nil {
		return 0, err
	}
	n := copy(b[:min(len(b), stallBytes)], d.b)
	d.b = d.b[n:]
	return n, nil
}

func TestASourceIsGivenUpWhenNothingComesAndNotWhenItTakesLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const whole = 40 * stallBytes
		b := random(whole)
		f := New(Config{Dir: t.TempDir(), Allowed: mustAllow(t, "http://a.example")}, nowhere{}, discard())
		f.client.Transport = roundTrip(func(r *http.Request) (*http.Response, error) {
			a := &http.Response{StatusCode: http.StatusPartialContent, Header: http.Header{}}
			from := 0
			fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &from)
			a.Header.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, whole-1, whole))
			a.Body = io.NopCloser(&dripping{r.Context(), b[from:min(from+25*stallBytes, whole)], stall - time.Second})
			return a, nil
		})
		began := time.Now()
		mustComplete(t, f, wantedOf(b, "http://a.example"))
		took, want := time.Since(began), 40*(stall-time.Second)+stall
		if took < want || took > want+pauseFirst {
			t.Errorf("it took %v, want %v and a pause: 40 portions, and a silence after the 25th", took, want)
		}
	})
}

// mustComplete is mustFetch without a limit of time.
func mustComplete(tb testing.TB, f *Fetcher, w Wanted) {
	tb.Helper()
	if b, err := f.Fetch(tb.Context(), w, nil); err != nil || family.DigestOf(b) != w.Digest {
		tb.Fatalf("%d bytes, %v", len(b), err)
	}
}

func TestTheRateBoundsASource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := random(1 << 20)
		for _, ranges := range []bool{true, false} {
			f := New(Config{Dir: t.TempDir(), Allowed: mustAllow(t, "http://a.example"), KiBPerSecond: 64}, nowhere{}, discard())
			h := NewHandler(having(b), func(family.Digest) bool { return true })
			f.client.Transport = roundTrip(func(r *http.Request) (*http.Response, error) {
				w := &answer{header: http.Header{}}
				if !ranges {
					r.Header.Del("Range")
				}
				h.ServeHTTP(w, r)
				return &http.Response{StatusCode: w.code, Header: w.header, ContentLength: int64(w.body.Len()),
					Body: io.NopCloser(&w.body)}, nil
			})
			began := time.Now()
			mustComplete(t, f, wantedOf(b, "http://a.example"))
			if took := time.Since(began); took < 15*time.Second || took > 17*time.Second {
				t.Errorf("ranges %v: a MiB at 64 KiB/s took %v", ranges, took)
			}
		}
	})
}

// answer is what a handler writes.
type answer struct {
	code   int
	header http.Header
	body   bytes.Buffer
}

func (a *answer) Header() http.Header { return a.header }
func (a *answer) WriteHeader(code int) {
	if a.code == 0 {
		a.code = code
	}
}
func (a *answer) Write(b []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	return a.body.Write(b)
}

func TestWhatCameIsTheOwnersAloneAndStaysUntilForgotten(t *testing.T) {
	b := random(1000)
	f, url := mustServe(t, always(having(b)).ServeHTTP)
	w := wantedOf(b, url)
	mustFetch(t, f, w)
	file := filepath.Join(f.cfg.Dir, string(w.Digest)+partSuffix)
	info, err := os.Stat(file)
	if err != nil || info.Mode() != 0o600 || info.Size() != int64(len(b)) {
		t.Fatalf("got %v, %v; want the blob, mode 0600", info, err)
	}
	f.client.Transport = roundTrip(func(*http.Request) (*http.Response, error) { return nil, errors.New("asked again") })
	mustFetch(t, f, w)
	if n, err := f.Size(t.Context(), w); n != int64(len(b)) || err != nil {
		t.Errorf("the size of what is there is %d, %v; want %d", n, err, len(b))
	}
	if err := f.Forget(func(d family.Digest) bool { return d == w.Digest }); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(file); err != nil {
		t.Errorf("what is kept is gone: %v", err)
	}
	if err := f.Forget(func(family.Digest) bool { return false }); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(file); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what is forgotten is there: %v", err)
	}
}

func TestAPartialBlobThatIsDamagedOrTooLongIsFetchedAnew(t *testing.T) {
	b := random(5000)
	for name, there := range map[string][]byte{"damaged": make([]byte, 3000), "too long": make([]byte, 4<<20),
		"as long, and others": make([]byte, 5000), "longer than the blob": make([]byte, 6000)} {
		f, url := mustServe(t, always(having(b)).ServeHTTP)
		w := wantedOf(b, url)
		if err := os.WriteFile(filepath.Join(f.cfg.Dir, string(w.Digest)+partSuffix), there, 0o600); err != nil {
			t.Fatal(err)
		}
		t.Run(name, func(t *testing.T) { mustFetch(t, f, w) })
	}
}

func FuzzContentRange(f *testing.F) {
	for _, seed := range []string{"bytes 0-9/10", "bytes 5-9/*", "bytes */10", "bytes 9-5/10", "bytes 0-9/9", "bytes 0-/1",
		""} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		c, err := parseContentRange(text)
		if err == nil && (c.from < 0 || c.bytes < 1 || c.total >= 0 && c.from+c.bytes > c.total) {
			t.Errorf("%q is %+v", text, c)
		}
	})
}
