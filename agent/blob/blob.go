// Package blob brings blobs to those who want them, and serves those that it has.
//
//	             ┌─▶ a source: HTTP range requests, one window each ─┐
//	Fetch ─ ways ┤                                                   ├─▶ STATE/fetch/{digest}.part ─▶ bytes
//	             └─▶ the other side of the broker: fetch ⇄ blob ─────┘
//
//	fetch ─▶ Server: waits for its turn, bounded ─▶ blob        GET ─▶ Handler ─▶ range
//
// A device wants the blobs of a family that it is to take into use, and the controller
// those of a family that a command line has: the same two parts, with the roles
// exchanged. Sources that the configuration allows come first, the broker last. A way
// that fails is followed by the next one; a way that got on before it failed is tried
// again, where it was, unless it had become too slow. Nobody having the blob is no error
// but a wait, which ends with the caller's context. What has no digest, such as signed
// metadata, is read from sources alone, as a document.
//
// Over MQTT parts are pulled, with QoS 0: a few are asked for at a time, and asked for
// again when those behind them came, or when nothing came for longer than round trips
// take here. What nobody asked for is counted and left alone.
//
// The rule that makes it correct: a partial blob is a file that only grows, in order, so
// its length is all that a cut, a restart or a kill needs to go on from; and what a
// digest names is handed out only once it has that digest. Whoever sends something else
// costs the time that it took, and a third time ends it.
package blob

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/family"
)

// What is asked for before it has come, in bytes, in either way: as much comes again after
// a cut, at most.
const (
	windowBytes = windowParts * wire.BlobPart
	// windowParts is how many parts that is over MQTT.
	windowParts = 4
)

// wrongMost is how often what came may have been something else.
const wrongMost = 3

// Config describes a Fetcher.
type Config struct {
	Dir          string  // of the partial blobs; made when it is needed
	Allowed      Allowed // where sources may lie
	KiBPerSecond int     // KiB of blobs a second, in either way; 0: no bound
}

// Link asks on the other side of the broker.
type Link interface {
	// Fetch asks for a part of a blob, and does not wait. What comes is given to Receive,
	// if it does. Its error is that nothing was asked.
	Fetch(digest string, f wire.Fetch) error
}

// Wanted is a blob.
type Wanted struct {
	Digest  family.Digest
	Sources []string // URLs below which it may lie; those that are not allowed are left alone
	Max     int64    // bytes
}

// Counts are totals since New.
type Counts struct {
	Bytes   uint64 // of blobs that came, also what was of no use
	Ignored uint64 // messages with a part that nobody asked for
}

// Fetcher brings blobs. Fetch, FetchFile, Size and Forget are for one goroutine at a
// time, the rest for any.
type Fetcher struct {
	cfg    Config
	link   Link
	client *http.Client
	log    *slog.Logger
	rate   *rate

	open    atomic.Pointer[window]
	bytes   atomic.Uint64
	ignored atomic.Uint64
}

// New assembles a Fetcher; it starts nothing.
func New(cfg Config, link Link, log *slog.Logger) *Fetcher {
	return &Fetcher{cfg: cfg, link: link, client: newClient(), log: log, rate: newRate(cfg.KiBPerSecond)}
}

// Counts returns the totals so far.
func (f *Fetcher) Counts() Counts { return Counts{Bytes: f.bytes.Load(), Ignored: f.ignored.Load()} }

// Receive takes a message of a blob topic. It never blocks.
func (f *Fetcher) Receive(t wire.Topic, payload []byte) {
	w := f.open.Load()
	if w == nil || !w.receive(t, payload) {
		f.ignored.Add(1)
	}
}

// Fetch returns the bytes of a blob once they have its digest. It goes on where it was
// when it ended before, and calls progress with the bytes that are there. What it
// brought is kept until Forget. While nobody has the blob it waits, until ctx ends. Its
// errors are ctx's, those of the disk, and a *wire.Refusal: Invalid after three wrong
// ones, NoSpace where the disk is full, and Unauthorized where no source is allowed and
// the other side of the broker never had it.
func (f *Fetcher) Fetch(ctx context.Context, w Wanted, progress func(done int64)) (b []byte, err error) {
	err = f.bring(ctx, w, progress, func(p *partial) error {
		b, err = p.whole()
		return err
	})
	return b, err
}

// FetchFile is Fetch for a blob that need not be in memory: it returns the file that has
// it, whose bytes were read back from the disk. The caller may move it away; Forget
// removes it otherwise.
func (f *Fetcher) FetchFile(ctx context.Context, w Wanted, progress func(done int64)) (file string, err error) {
	err = f.bring(ctx, w, progress, func(p *partial) error {
		file = p.file.Name()
		return p.settle()
	})
	return file, err
}

// bring has a blob come, and then taken.
func (f *Fetcher) bring(ctx context.Context, w Wanted, progress func(done int64), take func(*partial) error) error {
	err := f.turns(ctx, w, progress, func(ctx context.Context, way way, p *partial) error {
		if err := way.bring(ctx, p); err != nil {
			return err
		}
		return take(p)
	})
	if err != nil {
		return fmt.Errorf("blob %s: %w", w.Digest.Short(), err)
	}
	return nil
}

// Size returns how many bytes a blob has at most, without fetching it: as its source
// says, or else to a power of two of parts. It waits, and has errors, as Fetch does.
func (f *Fetcher) Size(ctx context.Context, w Wanted) (atMost int64, err error) {
	err = f.turns(ctx, w, nil, func(ctx context.Context, way way, p *partial) error {
		if p.complete() {
			atMost = p.done
			return nil
		}
		atMost, err = way.size(ctx, p)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("size of blob %s: %w", w.Digest.Short(), err)
	}
	return atMost, nil
}

// Forget removes what was brought of the blobs that keep has no use for.
func (f *Fetcher) Forget(keep func(family.Digest) bool) error {
	entries, err := os.ReadDir(f.cfg.Dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	errs := []error{err}
	for _, e := range entries {
		if digest, ok := strings.CutSuffix(e.Name(), partSuffix); !ok || !keep(family.Digest(digest)) {
			errs = append(errs, os.RemoveAll(filepath.Join(f.cfg.Dir, e.Name())))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("remove partial blobs: %w", err)
	}
	return nil
}

// way is one by which blobs come.
type way interface {
	// bring goes on until the partial blob is whole. Its errors are ctx's, errWrong, one of
	// the disk as fatal, and whatever else keeps this way from it.
	bring(ctx context.Context, p *partial) error
	// size is how many bytes the blob has at most, with the same errors.
	size(ctx context.Context, p *partial) (int64, error)
}

// errWrong marks that what came is not the blob.
var errWrong = errors.New("that is not the blob")

// fatal is an error that another way would not mend.
type fatal struct{ error }

func (f fatal) Unwrap() error { return f.error }

// The pauses after a round in which no way got on.
const (
	pauseFirst = time.Second
	pauseMost  = 10 * time.Second
)

// turns tries one way after the other until one did what was to be done.
func (f *Fetcher) turns(ctx context.Context, w Wanted, progress func(int64),
	do func(context.Context, way, *partial) error) error {
	p, err := openPartial(f.cfg.Dir, w, progress)
	if err != nil {
		return err
	}
	defer p.close()
	ways, denied := f.ways(w)
	pause := pauseFirst
	last := make([]error, len(ways)) // of each way
	given := func() error { return errors.Join(append([]error{ctx.Err()}, last...)...) }
	for at, wrong := 0, 0; ; {
		before := p.done
		err := do(ctx, ways[at%len(ways)], p)
		end, isFatal := errors.AsType[fatal](err)
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return given()
		case isFatal:
			return end.error
		case errors.Is(err, errWrong):
			f.log.Warn("blob refused", "err", err)
			if wrong++; wrong == wrongMost {
				return wire.Refuse(wire.Invalid, "%d times what came was something else, lastly: %w", wrong, err)
			}
		case denied != nil && errors.Is(err, errNone) && p.done == 0: // else it had it, and is waited for
			return wire.Refuse(wire.Unauthorized, "%w; and the controller: %w", denied, err)
		case p.done > before:
			pause = pauseFirst
			if p.done-before >= stallBytes && !errors.Is(err, errStalled) { // else another may be faster
				continue
			}
		}
		last[at%len(ways)] = err
		if at++; at%len(ways) > 0 {
			continue
		}
		if sleep(ctx, pause/2+rand.N(pause/2)) != nil {
			return given()
		}
		pause = min(2*pause, pauseMost)
	}
}

// ways are the sources that are allowed, and then the other side of the broker. denied
// says why there is no source, where some were named.
func (f *Fetcher) ways(w Wanted) (ways []way, denied error) {
	for _, s := range w.Sources {
		at, err := f.cfg.Allowed.Permit(s)
		if err != nil {
			denied = errors.Join(denied, err)
			continue
		}
		ways = append(ways, source{f, at.JoinPath(string(w.Digest)), f.rate})
	}
	if len(ways) > 0 {
		denied = nil
	}
	return append(ways, pulled{f}), denied
}

// sleep returns ctx's error if that ends first.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
