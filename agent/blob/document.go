package blob

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"net/http"
)

// Document returns a small file below a source, such as metadata, which has no digest to
// be asked for by: at most so many bytes. It may be called from any goroutine, and waits
// for no rate. Its error is fs.ErrNotExist where the source says that there is none.
func (f *Fetcher) Document(ctx context.Context, from, name string, most int64) (b []byte, err error) {
	at, err := f.cfg.Allowed.Permit(from)
	if err != nil {
		return nil, err
	}
	s := source{f, at.JoinPath(name), newRate(0)}
	err = s.ask(ctx, http.MethodGet, "", func(a *http.Response, body io.Reader) error {
		switch {
		case a.StatusCode == http.StatusNotFound || a.StatusCode == http.StatusGone || a.StatusCode == http.StatusForbidden:
			return fmt.Errorf("%w: %w", fs.ErrNotExist, statusError(a)) // some storage forbids to look for what is not there
		case a.StatusCode != http.StatusOK:
			return statusError(a)
		}
		b, err = io.ReadAll(io.LimitReader(body, most+1))
		if err == nil && int64(len(b)) > most {
			err = fmt.Errorf("it has more than %d bytes", most)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.at, err)
	}
	return b, nil
}
