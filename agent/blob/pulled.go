package blob

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/limber-edge/limber/agent/wire"
)

// silentMost is how often in a row nothing may come.
const silentMost = 3

var (
	// errNone says that the other side of the broker has no such blob, or nobody is there.
	errNone = errors.New("it is not there")
	// errEmpty ends a probe.
	errEmpty = fmt.Errorf("the other side of the broker says that it has none: %w", errNone)
	// errSilent follows silentMost asks.
	errSilent = fmt.Errorf("the other side of the broker does not answer: %w", errNone)
)

// pulled is a blob from the other side of the broker.
type pulled struct{ *Fetcher }

// bring asks for parts until all are there.
func (c pulled) bring(ctx context.Context, p *partial) error {
	w := newWindow(c.Fetcher, string(p.want.Digest), p.done)
	c.open.Store(w)
	defer c.open.Store(nil)
	for !p.complete() {
		if p.room() == 0 {
			return p.wrong("over the broker: it has more than %d bytes, or others", p.want.Max)
		}
		if err := w.ask(p); err != nil {
			return err
		}
		if err := c.step(ctx, w, p); err != nil {
			return err
		}
	}
	return nil
}

// step waits for a part, or for what is to be done without one.
func (c pulled) step(ctx context.Context, w *window, p *partial) error {
	turn := time.NewTimer(w.patience())
	defer turn.Stop()
	select {
	case got := <-w.arrived:
		c.bytes.Add(uint64(len(got.bytes)))
		if w.took(got) {
			if err := w.add(p); err != nil {
				return err
			}
		}
		if p.done < w.end || p.complete() {
			return nil
		}
		return c.ended(ctx, w, p)
	case <-turn.C:
		return w.silence()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// ended judges that nothing follows what is there: the blob ends here, and is another
// one, or it is not there any more.
func (c pulled) ended(ctx context.Context, w *window, p *partial) error {
	if p.done == 0 {
		return errEmpty
	}
	there, err := c.probe(ctx, w, 0)
	switch {
	case err != nil:
		return err
	case !there:
		return errEmpty
	}
	return p.wrong("over the broker: %d bytes that have another digest", w.end)
}

// size asks for a byte at greater and greater offsets.
func (c pulled) size(ctx context.Context, p *partial) (int64, error) {
	w := newWindow(c.Fetcher, string(p.want.Digest), 0)
	c.open.Store(w)
	defer c.open.Store(nil)
	n := int64(wire.BlobPart)
	for ; n < p.want.Max; n *= 2 {
		there, err := c.probe(ctx, w, n)
		if err != nil {
			return 0, err
		}
		if !there {
			break
		}
	}
	if n == wire.BlobPart { // of what is not there, nothing follows either
		if there, err := c.probe(ctx, w, 0); err != nil || !there {
			return 0, cmp.Or(err, errEmpty)
		}
	}
	return min(n, p.want.Max), nil
}

// probe finds out whether there is a byte at an offset.
func (c pulled) probe(ctx context.Context, w *window, offset int64) (there bool, err error) {
	w.reset(offset)
	for {
		if err := w.send(ask{offset: offset, bytes: 1}); err != nil {
			return false, err
		}
		got, err := w.await(ctx)
		if err != nil || got != nil {
			return got != nil && len(got.bytes) > 0, err
		}
	}
}
