package blob

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/family"
)

// socket keeps what is published, each once the test lets it.
type socket struct {
	gated bool
	gate  chan struct{} // of the bubble; nil: at once

	mu  sync.Mutex
	got []mqtt.Message
	err error
}

func (s *socket) Publish(ctx context.Context, m mqtt.Message) error {
	if s.gate != nil {
		select {
		case <-s.gate:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.got = append(s.got, m)
	return s.err
}

// all are what was published.
func (s *socket) all() []mqtt.Message {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.got
}

// asking is what a device sends for a part.
func asking(who string, d family.Digest, offset int64, n int) (wire.Topic, []byte) {
	f, err := json.Marshal(wire.Fetch{Offset: offset, Bytes: n})
	if err != nil {
		panic(err)
	}
	return wire.Topic{Address: wire.Address{Fleet: "demo", Device: who}, Kind: wire.KindFetch,
		Digest: string(d)}, f
}

// serving runs a server in a bubble that lets everybody have what it has, but for
// "stranger".
func serving(t *testing.T, have blobs, s *socket, run func(*Server)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		if s.gated {
			s.gate = make(chan struct{})
		}
		known := func(who string, _ family.Digest) bool { return who != "stranger" }
		server := NewServer(ServerConfig{have, known}, s, discard())
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- server.Run(ctx) }()
		run(server)
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

func TestPartsAreAnsweredRawAndNotRetained(t *testing.T) {
	b := random(100_000)
	for _, tt := range []struct {
		who    string
		offset int64
		bytes  int
		want   []byte
	}{
		{"desk", 0, 1000, b[:1000]},
		{"desk", 65_536, wire.BlobPart, b[65_536:]},
		{"desk", 0, wire.MaxBlobParts, b},
		{"desk", 100_000, 10, nil},
		{"desk", 1 << 60, 10, nil},
		{"stranger", 0, 1000, nil},
		{wire.Controller, 0, 1000, b[:1000]},
	} {
		s := &socket{}
		serving(t, having(b), s, func(server *Server) {
			server.Receive(asking(tt.who, family.DigestOf(b), tt.offset, tt.bytes))
			synctest.Wait()
		})
		got := s.all()
		topic := fmt.Sprintf("limber/v1/demo/%s/blob/%s/%d", tt.who, family.DigestOf(b), tt.offset)
		if len(got) != 1 || got[0].Topic != topic || got[0].QoS != 0 || got[0].Retained ||
			!bytes.Equal(got[0].Payload, tt.want) {
			t.Errorf("%+v: got %d messages", tt, len(got))
		}
	}
}

func TestOfThoseWhoServeTheControllerOnlyTheOneAnswersThatHasTheBlob(t *testing.T) {
	mine, others := random(10), random(11)
	for _, asked := range [][]byte{mine, others} {
		s := &socket{}
		may := func(_ string, d family.Digest) bool { return d == family.DigestOf(mine) }
		server := NewServer(ServerConfig{having(mine), may}, s, discard())
		for _, who := range []string{wire.Controller, "desk"} {
			server.Receive(asking(who, family.DigestOf(asked), 0, 10))
			to, r, _ := server.first()
			server.answer(t.Context(), to, r)
			server.done()
		}
		want := 2
		if &asked[0] == &others[0] {
			want = 1 // the device is told that there is none
		}
		if n := len(s.all()); n != want {
			t.Errorf("%d of 2 were answered, want %d", n, want)
		}
	}
}

func TestWhatIsNoAskAndWhatCannotBeReadIsNotAnswered(t *testing.T) {
	b, s := random(10), &socket{}
	serving(t, having(b), s, func(server *Server) {
		topic, _ := asking("desk", family.DigestOf(b), 0, 10)
		for _, payload := range []string{"", "{}", `{"schema":1,"offset":-1,"bytes":10}`,
			`{"schema":1,"offset":0,"bytes":262145}`, `{"schema":2,"offset":0,"bytes":1}`, "\x00",
			strings.Repeat("[", 100_000)} {
			server.Receive(topic, []byte(payload))
		}
		server.Receive(asking("desk", family.DigestOf(nil), 0, 10)) // allowed, and not there
		synctest.Wait()
		if n := server.Counts().Dropped; n != 8 {
			t.Errorf("%d were dropped, want 8", n)
		}
	})
	if n := len(s.all()); n != 0 {
		t.Errorf("%d were answered", n)
	}
}

func TestC8_AStormOfAsksIsDroppedAndEverybodyHasHisTurn(t *testing.T) {
	b := random(1 << 20)
	digest := family.DigestOf(b)
	s := &socket{gated: true}
	serving(t, having(b), s, func(server *Server) {
		for i := range 10_000 {
			server.Receive(asking("greedy", digest, int64(i), 1))
			server.Receive(asking("large", digest, int64(i%16)*wire.BlobPart, wire.BlobPart))
		}
		for i := range 10_000 {
			server.Receive(asking(fmt.Sprintf("d%d", i), digest, 0, wire.BlobPart))
		}
		synctest.Wait()
		for len(s.all()) < asksMost {
			s.gate <- struct{}{}
			synctest.Wait()
		}
		if c := server.Counts(); c.Parts != asksMost || c.Dropped != 30_000-asksMost {
			t.Errorf("%+v, want %d parts of 30000 asks", c, asksMost)
		}
		server.Receive(asking("late", digest, 0, 1))
		s.gate <- struct{}{}
	})
	sent := map[string]int{}
	last := 0
	for i, m := range s.all() {
		topic, err := wire.ParseTopic(m.Topic)
		if err != nil {
			t.Fatal(err)
		}
		if sent[topic.Device]++; topic.Device == "d4000" {
			last = i
		}
	}
	if sent["greedy"] != asksOfOne || sent["large"] != wire.MaxBlobParts/wire.BlobPart || sent["late"] != 1 {
		t.Errorf("greedy got %d, large %d, late %d", sent["greedy"], sent["large"], sent["late"])
	}
	if last > 4010 {
		t.Errorf("the 4000th device had its turn after %d parts", last)
	}
}

func TestWhatTheLinkDoesNotTakeIsDropped(t *testing.T) {
	b, s := random(10), &socket{err: errors.New("down")}
	serving(t, having(b), s, func(server *Server) {
		server.Receive(asking("desk", family.DigestOf(b), 0, 10))
		synctest.Wait()
		if c := server.Counts(); c.Dropped != 1 || c.Parts != 0 {
			t.Errorf("got %+v, want one dropped", c)
		}
	})
}

func FuzzServerReceive(f *testing.F) {
	f.Add([]byte(`{"schema":1,"offset":0,"bytes":65536}`))
	f.Add([]byte(`{"schema":1,"offset":9223372036854775807,"bytes":262144}`))
	b := random(1000)
	f.Fuzz(func(t *testing.T, payload []byte) {
		s := &socket{}
		server := NewServer(ServerConfig{having(b), func(string, family.Digest) bool { return true }}, s, discard())
		topic, _ := asking("desk", family.DigestOf(b), 0, 1)
		server.Receive(topic, payload)
		if who, r, ok := server.first(); ok {
			server.answer(t.Context(), who, r)
			server.done()
			if got := s.all(); len(got) != 1 || len(got[0].Payload) > r.Bytes {
				t.Errorf("%q: %d messages", payload, len(got))
			}
		}
	})
}

func TestTheHandlerServesLiveBlobsAndNothingElse(t *testing.T) {
	b, hidden, lost := random(1000), random(999), random(998)
	name := func(b []byte) string { return string(family.DigestOf(b)) }
	live := func(d family.Digest) bool { return d != family.DigestOf(hidden) }
	s := httptest.NewServer(NewHandler(having(b, hidden), live))
	t.Cleanup(s.Close)
	for _, tt := range []struct {
		method, path, header string
		code, bytes          int
	}{
		{"GET", "/" + name(b), "", 200, 1000},
		{"HEAD", "/" + name(b), "", 200, 0},
		{"GET", "/" + name(b), "Range: bytes=10-19", 206, 10},
		{"GET", "/" + name(b), "Range: bytes=1000-", 416, -1},
		{"GET", "/" + name(b), `If-None-Match: "` + name(b) + `"`, 304, 0},
		{"POST", "/" + name(b), "", 405, -1},
		{"PUT", "/" + name(b), "", 405, -1},
		{"GET", "/" + name(hidden), "", 404, -1},
		{"GET", "/" + name(lost), "", 500, -1},
		{"GET", "/" + strings.ToUpper(name(b)), "", 404, -1},
		{"GET", "/", "", 404, -1},
		{"GET", "/" + name(b) + "/", "", 404, -1},
		{"GET", "/..%2f" + name(b), "", 404, -1},
	} {
		r, err := http.NewRequestWithContext(t.Context(), tt.method, s.URL+tt.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if key, value, ok := strings.Cut(tt.header, ": "); ok {
			r.Header.Set(key, value)
		}
		a, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(a.Body)
		a.Body.Close()
		if a.StatusCode != tt.code || err != nil || tt.bytes >= 0 && len(got) != tt.bytes {
			t.Errorf("%s %s %s: %s with %d bytes, want %d with %d", tt.method, tt.path, tt.header, a.Status, len(got), tt.code,
				tt.bytes)
		}
		if tt.code == 200 && a.Header.Get("ETag") != `"`+name(b)+`"` {
			t.Errorf("the ETag is %s", a.Header.Get("ETag"))
		}
	}
}

// counting counts how often a blob is read.
type counting struct {
	blobs
	mu    sync.Mutex
	reads map[family.Digest]int
}

func (c *counting) Blob(d family.Digest) ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reads[d]++
	return c.blobs.Blob(d)
}

func TestTheCacheReadsABlobOnceAndIsBounded(t *testing.T) {
	small, other, large := random(100), random(101), random(1000)
	under := &counting{blobs: having(small, other, large), reads: map[family.Digest]int{}}
	c := NewCache(under, 250)
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			for _, b := range [][]byte{small, other} {
				if got, err := c.Blob(family.DigestOf(b)); err != nil || !bytes.Equal(got, b) {
					t.Errorf("%d bytes, %v", len(got), err)
				}
			}
		})
	}
	all.Wait()
	if under.reads[family.DigestOf(small)] != 1 || under.reads[family.DigestOf(other)] != 1 {
		t.Errorf("reads: %v, want one each", under.reads)
	}
	for range 3 {
		if got, err := c.Blob(family.DigestOf(large)); err != nil || len(got) != 1000 {
			t.Errorf("%d bytes, %v", len(got), err)
		}
	}
	if n := under.reads[family.DigestOf(large)]; n != 1 || len(c.kept) != 1 || c.bytes != 1000 {
		t.Errorf("%d reads, %d kept with %d bytes; want the large one alone", n, len(c.kept), c.bytes)
	}
	for range 2 {
		if _, err := c.Blob(family.DigestOf(nil)); err == nil {
			t.Error("a blob is there that is not")
		}
	}
	if n := under.reads[family.DigestOf(nil)]; n != 2 {
		t.Errorf("what cannot be read was tried %d times, want each time", n)
	}
}
