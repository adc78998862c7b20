package blob

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/family"
)

// patience bounds every wait of the tests; none of them is meant to reach it.
const patience = 20 * time.Second

var device = wire.Address{Fleet: "demo", Device: "desk"}

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

// random are bytes, the same ones for the same number of them.
func random(n int) []byte {
	b := make([]byte, n)
	source := rand.NewChaCha8([32]byte{byte(n), byte(n >> 8), byte(n >> 16)})
	source.Read(b)
	return b
}

// blobs are what somebody has.
type blobs map[family.Digest][]byte

func (b blobs) Blob(d family.Digest) ([]byte, error) {
	if have, ok := b[d]; ok {
		return have, nil
	}
	return nil, fmt.Errorf("blob %s: there is none", d.Short())
}

// having are blobs under their digests.
func having(all ...[]byte) blobs {
	b := blobs{}
	for _, one := range all {
		b[family.DigestOf(one)] = one
	}
	return b
}

// errOffline is what a link without a connection says.
var errOffline = errors.New("broker not connected")

// line is a link to one who has a blob: answers come one after another, each some time
// after it was asked for.
type line struct {
	blob    []byte
	fetcher *Fetcher
	trip    time.Duration                          // there and back
	each    time.Duration                          // of a part, on the wire
	answer  func(f wire.Fetch) (b []byte, ok bool) // nil: what there is of the blob

	mu      sync.Mutex
	offline bool
	asked   []wire.Fetch
	free    time.Time // when the wire has nothing to carry any more
}

func (l *line) Fetch(digest string, f wire.Fetch) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.offline {
		return errOffline
	}
	l.asked = append(l.asked, f)
	b, ok := cutOut(l.blob, f), true
	if l.answer != nil {
		b, ok = l.answer(f)
	}
	if now := time.Now().Add(l.trip); l.free.Before(now) {
		l.free = now
	}
	l.free = l.free.Add(l.each + 1)
	if to := l.fetcher; ok {
		time.AfterFunc(time.Until(l.free), func() { to.Receive(partOf(digest, f.Offset), b) })
	}
	return nil
}

// asks are those that were made.
func (l *line) asks() []wire.Fetch {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]wire.Fetch{}, l.asked...)
}

// partOf is the topic of a part.
func partOf(digest string, offset int64) wire.Topic {
	return wire.Topic{Address: device, Kind: wire.KindBlob, Digest: digest, Offset: offset}
}

// nowhere is a link without a connection.
type nowhere struct{}

func (nowhere) Fetch(string, wire.Fetch) error { return errOffline }

// fetcherOf makes one whose blobs come over a line.
func fetcherOf(dir string, l *line) *Fetcher {
	l.fetcher = New(Config{Dir: dir}, l, discard())
	return l.fetcher
}

// wantedOf is a blob at sources.
func wantedOf(b []byte, sources ...string) Wanted {
	return Wanted{Digest: family.DigestOf(b), Sources: sources, Max: int64(len(b)) + 1<<20}
}

// mustFetch fetches a blob and compares it.
func mustFetch(tb testing.TB, f *Fetcher, w Wanted) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), patience)
	defer cancel()
	b, err := f.Fetch(ctx, w, nil)
	if err != nil {
		tb.Fatal(err)
	}
	if family.DigestOf(b) != w.Digest {
		tb.Errorf("%d bytes of something else came", len(b))
	}
}

// refused is the reason of an error, or what it says where it has none.
func refused(err error) string {
	if err == nil {
		return "none"
	}
	if r, ok := errors.AsType[*wire.Refusal](err); ok {
		return string(r.Reason)
	}
	return err.Error()
}

// mustServe serves over HTTP until the test ends, and returns a fetcher that may ask
// there and nowhere else, and the URL.
func mustServe(tb testing.TB, h http.HandlerFunc) (*Fetcher, string) {
	tb.Helper()
	s := httptest.NewServer(h)
	tb.Cleanup(s.Close)
	f := New(Config{Dir: tb.TempDir(), Allowed: mustAllow(tb, s.URL+"/blobs")}, nowhere{}, discard())
	tb.Cleanup(f.client.CloseIdleConnections)
	return f, s.URL + "/blobs"
}
