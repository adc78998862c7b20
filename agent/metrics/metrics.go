// Package metrics lets Prometheus read a device, and a supervisor ask for its health.
//
//	connection ─▶ limit ─▶ headers ─▶ token ─┬▶ /metrics ─▶ collector ─▶ Device
//	              16       5 s, 16 KiB       └▶ /healthz ─▶ Device
//
// Nothing is counted here: the figures are those that the device keeps anyway, read
// when somebody asks. Where nobody may ask, nothing of this runs.
//
// The rule that keeps it safe on a network: whoever asks may read two pages and hold
// few connections for a short time, and nothing that is sent is kept.
package metrics

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/limber-edge/limber/agent"
	"github.com/limber-edge/limber/agent/config"
)

// Device is what is read; an agent.Agent is one. It is safe for concurrent use.
type Device interface {
	Snapshot() agent.Snapshot
	Vitals() agent.Vitals
}

// What a reader may take.
const (
	headerTime  = 5 * time.Second
	answerTime  = 10 * time.Second
	idleTime    = 2 * time.Minute  // between two scrapes on one connection
	headerBytes = 16<<10 - slop    // so that 16 KiB are read
	slop        = 4096             // that package http reads beyond what it is told
	connections = 16               // at once
	rebind      = 10 * time.Second // before an address that is taken, or not there yet, is tried again
)

// Server answers readers.
type Server struct {
	cfg     config.Metrics
	device  Device
	log     *slog.Logger
	metrics http.Handler
	locked  atomic.Bool // the token cannot be read
}

// New makes a Server for a configuration that is valid. It starts nothing.
func New(cfg config.Metrics, d Device, log *slog.Logger) *Server {
	all := prometheus.NewRegistry()
	all.MustRegister(collector{d})
	return &Server{cfg: cfg, device: d, log: log, metrics: promhttp.HandlerFor(all, promhttp.HandlerOpts{})}
}

// Run serves until ctx ends. An address that cannot be had keeps no device from its
// work: it is tried again.
func (s *Server) Run(ctx context.Context) error {
	for told := false; ; {
		l, err := new(net.ListenConfig).Listen(ctx, "tcp", s.cfg.Listen)
		if err == nil {
			s.log.Info("metrics are served", "addr", l.Addr().String())
			return s.serve(ctx, l)
		}
		if !told && ctx.Err() == nil {
			s.log.Warn("metrics are not served until the address can be had", "err", err)
			told = true
		}
		select {
		case <-time.After(rebind):
		case <-ctx.Done():
			return nil
		}
	}
}

// serve closes the listener.
func (s *Server) serve(ctx context.Context, l net.Listener) error {
	server := &http.Server{Handler: s, ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
		ReadHeaderTimeout: headerTime, ReadTimeout: headerTime, WriteTimeout: answerTime, IdleTimeout: idleTime,
		MaxHeaderBytes: headerBytes}
	defer context.AfterFunc(ctx, func() { server.Close() })()
	if err := server.Serve(limit(l, connections)); ctx.Err() == nil {
		return fmt.Errorf("metrics: %w", err)
	}
	return nil
}

// ServeHTTP answers a GET or HEAD without a body of one of two paths, from a reader
// who knows the token. To all others it says why not, and hangs up.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	status, why := s.refuse(r)
	if status != 0 {
		if status == http.StatusUnauthorized {
			w.Header().Set("WWW-Authenticate", `Bearer realm="limber"`)
		}
		w.Header().Set("Connection", "close")
		http.Error(w, why, status)
		return
	}
	if r.URL.Path == "/metrics" {
		s.metrics.ServeHTTP(w, r)
		return
	}
	s.health(w)
}

// refuse says why a request is not answered; status 0: it is.
func (s *Server) refuse(r *http.Request) (status int, why string) {
	token, err := s.cfg.Token()
	if was := s.locked.Swap(err != nil); err != nil && !was {
		s.log.Warn("metrics are refused", "err", err)
	}
	switch {
	case err != nil:
		return http.StatusServiceUnavailable, "the device cannot read its token; see its log"
	case token != "" && !knows(r.Header.Get("Authorization"), token):
		return http.StatusUnauthorized, "the token of metrics.token_file is wanted: Authorization: Bearer TOKEN"
	case r.URL.Path != "/metrics" && r.URL.Path != "/healthz":
		return http.StatusNotFound, "there are /metrics and /healthz"
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		return http.StatusMethodNotAllowed, "there is only to read: GET"
	case r.ContentLength != 0:
		return http.StatusRequestEntityTooLarge, "a request has no body here"
	}
	return 0, ""
}

// knows tells whether a header has the token. How long it takes tells nothing of how
// much of it is right.
func knows(authorization, token string) bool {
	scheme, given, _ := strings.Cut(authorization, " ")
	a, b := sha256.Sum256([]byte(strings.TrimSpace(given))), sha256.Sum256([]byte(token))
	return subtle.ConstantTimeCompare(a[:], b[:]) == 1 && strings.EqualFold(scheme, "bearer")
}

// health says what is wrong, and what to do about it.
func (s *Server) health(w http.ResponseWriter) {
	if err := s.device.Snapshot().Fault; err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	io.WriteString(w, "ok\n")
}
