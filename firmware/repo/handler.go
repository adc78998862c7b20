package repo

import (
	"net/http"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"
)

// handler serves a repository.
type handler struct{ root *os.Root }

// NewHandler serves GET and HEAD of what devices ask a repository for, with ranges, from
// the folder. Nothing beside it can be asked for, and no folder is listed.
func NewHandler(root *os.Root) http.Handler { return handler{root} }

// ServeHTTP implements http.Handler.
func (h handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "a repository is only read", http.StatusMethodNotAllowed)
		return
	}
	name := strings.TrimPrefix(r.URL.Path, "/")
	top, _, _ := strings.Cut(name, "/")
	if path.Clean(name) != name || !slices.Contains([]string{metadataDir, targetsDir, blobsDir}, top) ||
		strings.HasSuffix(name, partSuffix) {
		http.NotFound(w, r)
		return
	}
	f, err := h.root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a pipe would wait for who writes
	if err != nil {
		http.NotFound(w, r)
		return
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		http.NotFound(w, r)
		return
	}
	keep := "max-age=31536000, immutable" // a name with a version or a digest in it
	if path.Base(name) == timestampFile {
		keep = "no-cache"
	}
	header := w.Header()
	header.Set("Cache-Control", keep)
	header.Set("Content-Type", "application/octet-stream")
	header.Set("X-Content-Type-Options", "nosniff")
	http.ServeContent(w, r, "", info.ModTime(), f)
}
