package blob

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent/wire"
)

// TestASourceThatGivesNothingNewIsNotAskedWithoutEnd: its answers look as if they were in
// order, and bring nothing.
func TestASourceThatGivesNothingNewIsNotAskedWithoutEnd(t *testing.T) {
	b := random(5000)
	for name, answer := range map[string]http.HandlerFunc{
		"another blob, without its length": func(w http.ResponseWriter, _ *http.Request) {
			w.Write(b[:3000])
			w.(http.Flusher).Flush()
		},
		"a part without bytes": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Range", "bytes 0-9/*")
			w.WriteHeader(http.StatusPartialContent)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			var requests atomic.Int32
			f, url := mustServe(t, func(w http.ResponseWriter, r *http.Request) {
				requests.Add(1)
				answer(w, r)
			})
			f.link = linkFunc(func(string, wire.Fetch) error { // it was the turn of the other side
				cancel()
				return errOffline
			})
			_, err := f.Fetch(ctx, wantedOf(b, url), nil)
			if n := requests.Load(); !errors.Is(err, context.Canceled) || n > 4 {
				t.Errorf("%d requests until the next way had its turn: %v", n, err)
			}
		})
	}
}

func TestAPartialBlobThatIsLongerThanTheBlobIsFetchedAnewWithoutRanges(t *testing.T) {
	b := random(5000)
	for name, flush := range map[string]bool{"with a length": false, "without a length": true} {
		t.Run(name, func(t *testing.T) {
			f, url := mustServe(t, func(w http.ResponseWriter, _ *http.Request) {
				if flush {
					w.(http.Flusher).Flush()
				}
				w.Write(b)
			})
			w := wantedOf(b, url)
			if err := os.WriteFile(filepath.Join(f.cfg.Dir, string(w.Digest)+partSuffix), make([]byte, 6000), 0o600); err != nil {
				t.Fatal(err)
			}
			mustFetch(t, f, w)
		})
	}
}

func TestTheSizeOfWhatIsNotThereIsWaitedFor(t *testing.T) {
	bubble(t, 3*windowBytes, func(t *testing.T, l *line, f *Fetcher) {
		there := time.Now().Add(time.Minute)
		l.answer = func(a wire.Fetch) ([]byte, bool) {
			if time.Now().Before(there) {
				return nil, true
			}
			return cutOut(l.blob, a), true
		}
		if n, err := f.Size(t.Context(), wantedOf(l.blob)); n < int64(len(l.blob)) || err != nil {
			t.Errorf("got %d, %v; want at least %d", n, err, len(l.blob))
		}
	})
}

// TestAControllerThatDiesIsWaitedForThoughNoSourceIsAllowed: it had the blob, so it is no
// fault of the command.
func TestAControllerThatDiesIsWaitedForThoughNoSourceIsAllowed(t *testing.T) {
	for name, answers := range map[string]bool{"silent": false, "has it no more": true} {
		t.Run(name, func(t *testing.T) {
			bubble(t, 3*windowBytes, func(t *testing.T, l *line, f *Fetcher) {
				var died time.Time
				l.answer = func(a wire.Fetch) ([]byte, bool) {
					if a.Offset == 4*wire.BlobPart && died.IsZero() {
						died = time.Now()
					}
					if !died.IsZero() && time.Since(died) < 10*time.Minute {
						return nil, answers
					}
					return cutOut(l.blob, a), true
				}
				w := wantedOf(l.blob, "http://evil.example/")
				b, err := f.Fetch(t.Context(), w, nil)
				if err != nil || !bytes.Equal(b, l.blob) {
					t.Error(fmt.Errorf("%d bytes, %w", len(b), err))
				}
			})
		})
	}
}
