package blob

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

const (
	// stall is how long a source may take for the next stallBytes: one that gives a byte
	// now and then would be waited for until the command expires.
	stall      = 20 * time.Second
	stallBytes = 2 << 10
	// headerMost bounds the headers of an answer, in bytes.
	headerMost = 16 << 10
)

// errStalled ends a request to a source that says next to nothing any more.
var errStalled = fmt.Errorf("fewer than %d bytes came in %v", stallBytes, stall)

// newClient asks for what is named and for nothing else: it neither follows a redirect
// nor has anything compressed.
func newClient() *http.Client {
	return &http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			Proxy:                  http.ProxyFromEnvironment,
			DialContext:            (&net.Dialer{Timeout: stall}).DialContext,
			ForceAttemptHTTP2:      true,
			DisableCompression:     true,
			MaxResponseHeaderBytes: headerMost,
			MaxIdleConnsPerHost:    1,
			IdleConnTimeout:        stall,
		},
	}
}

// source is a blob, or a document, at a URL that is allowed.
type source struct {
	*Fetcher
	at   *url.URL
	pace *rate
}

// bring asks for one window after the other, as long as they are more than crumbs.
func (s source) bring(ctx context.Context, p *partial) error {
	for mark, since := p.done, time.Now(); !p.complete(); {
		if p.room() == 0 {
			return p.wrong("%s: it has more than %d bytes, or others", s.at, p.want.Max)
		}
		if err := s.window(ctx, p); err != nil {
			return fmt.Errorf("%s: %w", s.at, err)
		}
		if p.done-mark >= stallBytes {
			mark, since = p.done, time.Now()
		} else if time.Since(since) >= stall && !p.complete() {
			return fmt.Errorf("%s: %w", s.at, errStalled)
		}
	}
	return nil
}

// size asks how long the blob is.
func (s source) size(ctx context.Context, p *partial) (int64, error) {
	var n int64
	err := s.ask(ctx, http.MethodHead, "", func(a *http.Response, _ io.Reader) error {
		n = a.ContentLength
		switch {
		case a.StatusCode != http.StatusOK || n < 0:
			return statusError(a)
		case n > p.want.Max:
			return fmt.Errorf("%w: it says that it has %d bytes, more than %d", errWrong, n, p.want.Max)
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("%s: %w", s.at, err)
	}
	return n, nil
}

// window asks for what follows what is there, and adds what comes.
func (s source) window(ctx context.Context, p *partial) error {
	n := min(s.pace.part(windowBytes), p.room())
	return s.ask(ctx, http.MethodGet, byteRange(p.done, n), func(a *http.Response, body io.Reader) error {
		span, err := s.answered(a, p, n)
		if err != nil {
			return err
		}
		switch has, err := io.CopyN(io.Discard, body, span.known); {
		case errors.Is(err, io.EOF):
			return p.wrong("it has %d bytes, fewer than the %d that are there", has, span.known)
		case err != nil:
			return err
		}
		before := p.done
		if err := add(p, io.LimitReader(body, span.bytes)); err != nil {
			return err
		}
		switch {
		case (p.done == span.total || p.done == before && a.StatusCode == http.StatusOK) && !p.complete():
			return p.wrong("%d bytes that have another digest", p.done)
		case p.done == before: // it would be asked for the same again at once
			return errors.New("it sends none of the bytes that it names")
		}
		return nil
	})
}

// byteRange is the header that asks for n bytes.
func byteRange(from, n int64) string { return fmt.Sprintf("bytes=%d-%d", from, from+n-1) }

// span is what an answer holds.
type span struct {
	known int64 // bytes that are there already, where ranges are not known
	bytes int64 // that come then, at most
	total int64 // of the blob; -1: not known
}

// answered judges an answer to the request for n bytes by its headers.
func (s source) answered(a *http.Response, p *partial, n int64) (span, error) {
	switch {
	case a.StatusCode == http.StatusPartialContent:
		got, err := parseContentRange(a.Header.Get("Content-Range"))
		switch {
		case err != nil:
			return span{}, err
		case got.from != p.done || got.bytes > n:
			return span{}, fmt.Errorf("it answers with %d bytes from %d on, %d from %d on were asked for", got.bytes, got.from,
				n, p.done)
		case got.total > p.want.Max:
			return span{}, fmt.Errorf("%w: it says that it has %d bytes, more than %d", errWrong, got.total, p.want.Max)
		}
		return got.span, nil
	case a.StatusCode == http.StatusOK && a.ContentLength > p.want.Max:
		return span{}, fmt.Errorf("%w: it says that it has %d bytes, more than %d", errWrong, a.ContentLength, p.want.Max)
	case a.StatusCode == http.StatusOK:
		return span{p.done, p.room(), a.ContentLength}, nil
	case a.StatusCode == http.StatusRequestedRangeNotSatisfiable && p.done > 0:
		return span{}, p.wrong("it has no more than the %d bytes that are there, and they have another digest", p.done)
	}
	return span{}, statusError(a)
}

// statusError says what a source answered instead of a blob.
func statusError(a *http.Response) error {
	if a.StatusCode >= 300 && a.StatusCode < 400 {
		return fmt.Errorf("it answers %s: redirects are not followed", a.Status)
	}
	return fmt.Errorf("it answers %s", a.Status)
}

// ask makes a request and has take look at the answer. The request ends when next to
// nothing comes any more.
func (s source) ask(ctx context.Context, method, bytes string, take func(*http.Response, io.Reader) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	due, silence := time.Now().Add(stall), time.AfterFunc(stall, func() { cancel(errStalled) })
	defer silence.Stop()
	r, err := http.NewRequestWithContext(ctx, method, s.at.String(), nil)
	if err != nil {
		return err
	}
	r.Header.Set("Accept-Encoding", "identity")
	if bytes != "" {
		r.Header.Set("Range", bytes)
	}
	a, err := s.client.Do(r)
	if err == nil {
		defer a.Body.Close()
		if code := a.Header.Get("Content-Encoding"); code != "" && code != "identity" {
			return fmt.Errorf("it sends %.40q, which was not asked for", code)
		}
		err = take(a, &moving{ctx: ctx, body: a.Body, silence: silence, due: due, fetcher: s.Fetcher, rate: s.pace})
	}
	if cause := context.Cause(ctx); cause != nil && err != nil {
		return cause
	}
	return withoutURL(err)
}

// withoutURL is an error of the client without the words that are said anyway.
func withoutURL(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		return u.Err
	}
	return err
}

// moving is a body at a rate, which puts off the end of its request with every
// stallBytes, and by as long as it waits for the rate.
type moving struct {
	ctx     context.Context // of the request
	body    io.Reader
	silence *time.Timer
	due     time.Time // when silence ends the request
	fetcher *Fetcher
	rate    *rate
	moved   int // bytes since the end was put off
}

func (m *moving) Read(b []byte) (int, error) {
	rate := m.rate
	if wait := rate.wait(); wait > 0 {
		m.putOff(m.due.Add(wait))
		if err := sleep(m.ctx, wait); err != nil {
			return 0, err
		}
	}
	n, err := m.body.Read(b[:min(int64(len(b)), rate.part(int64(len(b))))])
	if n > 0 {
		if m.moved += n; m.moved >= stallBytes {
			m.putOff(time.Now().Add(stall))
			m.moved = 0
		}
		rate.spend(int64(n))
		m.fetcher.bytes.Add(uint64(n))
	}
	return n, err
}

func (m *moving) putOff(due time.Time) {
	m.due = due
	m.silence.Reset(time.Until(due))
}

// add adds what a body has, up to its end. What came before it broke off is kept.
func add(p *partial, body io.Reader) error {
	buf := make([]byte, 32<<10)
	for {
		n, err := body.Read(buf)
		if n > 0 {
			if err := p.add(buf[:n]); err != nil {
				return err
			}
		}
		if err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// contentRange is a header of that name.
type contentRange struct {
	from int64
	span
}

// parseContentRange reads "bytes 0-9/100" or "bytes 0-9/*" (RFC 9110, 14.4).
func parseContentRange(text string) (contentRange, error) {
	bad := fmt.Errorf("its Content-Range is %.80q", text)
	rest, ok := strings.CutPrefix(text, "bytes ")
	where, total, slash := strings.Cut(rest, "/")
	first, last, dash := strings.Cut(where, "-")
	if !ok || !slash || !dash {
		return contentRange{}, bad
	}
	from, err := parseCount(first)
	to, e := parseCount(last)
	if err != nil || e != nil || to < from {
		return contentRange{}, bad
	}
	c := contentRange{from, span{0, to - from + 1, -1}}
	if total != "*" {
		if c.total, err = parseCount(total); err != nil || c.total <= to {
			return contentRange{}, bad
		}
	}
	return c, nil
}

// parseCount reads decimal digits, of at most 1 EB.
func parseCount(s string) (int64, error) {
	n, err := strconv.ParseUint(s, 10, 60)
	return int64(n), err
}
