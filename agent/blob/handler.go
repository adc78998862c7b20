package blob

import (
	"bytes"
	"net/http"
	"strings"
	"time"

	"github.com/limber-edge/limber/family"
)

// handler serves blobs over HTTP.
type handler struct {
	blobs family.Blobs
	live  func(family.Digest) bool
}

// NewHandler serves GET and HEAD of /{64 hexadecimal digits}, with ranges: the blobs
// that are live. Who asks is not known, so nobody is refused.
func NewHandler(blobs family.Blobs, live func(d family.Digest) bool) http.Handler {
	return handler{blobs, live}
}

// ServeHTTP implements http.Handler.
func (h handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	digest := family.Digest(strings.TrimPrefix(r.URL.Path, "/"))
	switch {
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "blobs are only read", http.StatusMethodNotAllowed)
		return
	case !digest.Valid() || !h.live(digest):
		http.NotFound(w, r)
		return
	}
	b, err := h.blobs.Blob(digest)
	if err != nil {
		http.Error(w, "the blob cannot be read", http.StatusInternalServerError) // the error may name files
		return
	}
	header := w.Header()
	header.Set("Content-Type", "application/octet-stream")
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Cache-Control", "max-age=31536000, immutable")
	header.Set("ETag", `"`+string(digest)+`"`)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(b))
}
