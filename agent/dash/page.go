package dash

import (
	"crypto/sha256"
	"embed"
	"fmt"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strings"
	"time"
)

// built is what Vite makes of the sources in web/.
//
//go:embed all:web/dist
var built embed.FS

// page is the files of the page, by their paths.
type page struct{ files map[string]file }

// file is one of them.
type file struct {
	body, kind, tag string
	lasts           bool // its name changes with it
}

func newPage() (*page, error) {
	p := &page{files: map[string]file{}}
	root, err := fs.Sub(built, "web/dist")
	if err != nil {
		return nil, err
	}
	err = fs.WalkDir(root, ".", func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		b, err := fs.ReadFile(root, name)
		p.files["/"+name] = file{body: string(b), kind: kindOf(name), tag: fmt.Sprintf(`"%.16x"`, sha256.Sum256(b)),
			lasts: strings.HasPrefix(name, "assets/")}
		return err
	})
	p.files["/"] = p.files["/index.html"]
	return p, err
}

// kindOf is the type of a file by its name. What this machine thinks of names is not asked.
func kindOf(name string) string {
	switch path.Ext(name) {
	case ".html":
		return "text/html; charset=utf-8"
	case ".js":
		return "text/javascript; charset=utf-8"
	case ".css":
		return "text/css; charset=utf-8"
	case ".svg":
		return "image/svg+xml"
	}
	return mime.TypeByExtension(path.Ext(name))
}

// ServeHTTP implements http.Handler.
func (p *page) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f, ok := p.files[r.URL.Path]
	if !ok {
		http.NotFound(w, r)
		return
	}
	h := w.Header()
	h.Set("Content-Type", f.kind)
	h.Set("ETag", f.tag)
	h.Set("Cache-Control", "no-cache")
	if f.lasts {
		h.Set("Cache-Control", "public, max-age=31536000, immutable")
	}
	http.ServeContent(w, r, "", time.Time{}, strings.NewReader(f.body))
}
