package dash

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
)

// Why a request is refused.
var (
	errCrowded = fmt.Errorf("%d screens are open already: close one, or wait", streamsMost)
	errReading = errors.New("this page is for looking only: nobody may steer, as `limber dash` was started without " +
		"--token-file")
	errToken = errors.New("the token is wrong: it is the first line of the file that --token-file of `limber dash` names")
	errSite  = errors.New("another web page asks for this: only the page of this server may " +
		"(a reverse proxy in front must pass the Host on)")
	errType = errors.New(`the request must have the content type "application/json"`)
)

// handler answers all requests.
func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /", s.page)
	mux.HandleFunc("GET /api/events", s.events)
	mux.HandleFunc("POST /api/steer", s.try)
	mux.HandleFunc("POST /api/devices/{name}/{verb}", s.aim)
	mux.HandleFunc("POST /api/rollouts/{id}/{action}", s.act)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		setHeaders(w.Header())
		if status, err := s.judge(r); err != nil {
			refuse(w, status, err)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// setHeaders has the browser run what is here and nothing else, and show it to nobody else.
func setHeaders(h http.Header) {
	h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "+
		"font-src 'self'; connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; "+
		"frame-ancestors 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
}

// judge tells why a request is not answered, and with which status.
func (s *Server) judge(r *http.Request) (status int, err error) {
	steers := r.Method != http.MethodGet && r.Method != http.MethodHead
	switch {
	case !s.knows(r.Host):
		return http.StatusMisdirectedRequest, fmt.Errorf("this server is not known as %.80q: "+
			"`limber dash --host NAME` has it answer to a name, which another page may have made point here", r.Host)
	case strings.HasPrefix(r.URL.Path, "/api/") && !ownSite(r, steers):
		return http.StatusForbidden, errSite
	case !steers:
		return 0, nil
	case s.cfg.Token == "":
		return http.StatusForbidden, errReading
	case !isJSON(r.Header.Get("Content-Type")):
		return http.StatusUnsupportedMediaType, errType
	case !s.shows(r.Header.Get("Authorization")):
		return http.StatusUnauthorized, errToken
	}
	return 0, nil
}

// knows tells whether a Host is one of this server: an address, which no other name can
// stand for, this computer, or a name that it was given.
func (s *Server) knows(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	if _, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		return true
	}
	host = strings.ToLower(host)
	return host == "localhost" || strings.HasSuffix(host, ".localhost") ||
		slices.ContainsFunc(s.cfg.Hosts, func(name string) bool { return strings.EqualFold(name, host) })
}

// ownSite tells whether a request is of the page of this server, or of no page at all, as
// far as browsers tell. What is typed into one may read.
func ownSite(r *http.Request, steers bool) bool {
	switch r.Header.Get("Sec-Fetch-Site") {
	case "", "same-origin":
	case "none":
		if steers {
			return false
		}
	default:
		return false
	}
	origins := r.Header.Values("Origin")
	if len(origins) == 0 {
		return true
	}
	at, err := url.Parse(origins[0])
	return err == nil && len(origins) == 1 && at.Host != "" && strings.EqualFold(at.Host, r.Host)
}

func isJSON(contentType string) bool {
	t, _, err := mime.ParseMediaType(contentType)
	return err == nil && t == "application/json"
}

// shows tells whether a header has the token. How long that takes says nothing of it.
func (s *Server) shows(authorization string) bool {
	kind, token, _ := strings.Cut(authorization, " ")
	given, wanted := sha256.Sum256([]byte(strings.TrimSpace(token))), sha256.Sum256([]byte(s.cfg.Token))
	return strings.EqualFold(kind, "Bearer") && subtle.ConstantTimeCompare(given[:], wanted[:]) == 1
}

// refuse answers why not.
func refuse(w http.ResponseWriter, status int, err error) { answer(w, status, fault{err.Error()}) }

// answer answers in JSON.
func answer[T fault | outcome](w http.ResponseWriter, status int, v T) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // who does not read it does not want it
}
