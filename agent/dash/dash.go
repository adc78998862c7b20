// Package dash is the page on which people look at a fleet: its server, and in web/ its
// sources and what is built from them.
//
//	broker ──▶ controller.Remote ──▶ Registry ──▶ history: rings of points, last commands
//	                 │                   │               │
//	                 │                   └──▶ Ranking ──▶ stream ──▶ GET api/events
//	                 └──▶ rollouts ──────────────────────▶│ (one for each screen)
//
//	POST api/... ──▶ guard: Host, Origin, token ──▶ Command, Do ──▶ outcome
//
// A stream is one goroutine, that of its request. Four times a second it looks at what is
// on its screen, and writes what changed since it wrote last: while a reader is slow
// nothing is looked at, so there is no queue, and what it reads next is the newest. What
// is not on the screen costs a stream no more than its place in the order.
//
// The history has one writer, which reads the Registry as everybody does and keeps of each
// device a ring of points; acknowledgements come to it from the link's reader. So a device
// that is opened shows what was before.
//
// The rule that makes it safe: who cannot show the token reads, and never steers. What
// another page, or a name that another made point here, asks for is refused before
// anything is looked at; without a token file there is nothing that steers. The broker has
// the last word: what it drops is told of as what it is.
package dash

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/limber-edge/limber/agent/blob"
	"github.com/limber-edge/limber/agent/fleet"
	"github.com/limber-edge/limber/agent/fleet/controller"
	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/wire"
)

// Config says what is shown, to whom.
type Config struct {
	Broker mqtt.Config
	Fleet  string
	Listen string   // HOST:PORT
	Hosts  []string // names under which it is reached, beside localhost and addresses
	Token  string   // who has it may steer; "" nobody may
}

// Server serves the page of a fleet.
type Server struct {
	cfg     Config
	web     net.Listener
	remote  *controller.Remote
	history *history
	link    standing
	page    *page
	streams chan struct{} // a token for each
	// when the broker dropped the last that was to steer; nil if it did not
	denied   atomic.Pointer[time.Time]
	pictures pictures
}

// streamsMost is how many screens are served at once.
const streamsMost = 64

// New assembles a server and listens; nothing is answered before Run.
func New(cfg Config, log *slog.Logger) (*Server, error) {
	s, err := assemble(cfg, log)
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", cfg.Listen)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("page: %w; with port 0 it takes any that is free", err)
	} else if err != nil {
		return nil, fmt.Errorf("page: %w", err)
	}
	s.web = narrow{l}
	return s, nil
}

// assemble is New but for listening.
func assemble(cfg Config, log *slog.Logger) (*Server, error) {
	page, err := newPage()
	if err != nil {
		return nil, err
	}
	s := &Server{cfg: cfg, history: newHistory(), page: page, streams: make(chan struct{}, streamsMost),
		pictures: pictures{all: map[string]*picture{}}}
	s.remote, err = controller.OpenRemoteBehind(func(r *controller.Remote) mqtt.Handler { return ears{r, s} },
		cfg.Broker, cfg.Fleet, log, filters(cfg.Fleet)...)
	return s, err
}

// filters are what the page is made of.
func filters(name string) []string {
	return append(fleet.RegistryFilters(name), wire.FleetFilter(name, wire.KindAck), wire.FleetFilter(name, wire.KindCmd))
}

// URL is where the page is, for who is at this computer.
func (s *Server) URL() string {
	at := s.web.Addr().String()
	if host, port, err := net.SplitHostPort(at); err == nil && net.ParseIP(host).IsUnspecified() {
		at = net.JoinHostPort("localhost", port) // no browser goes to 0.0.0.0 or [::] everywhere
	}
	return "http://" + at + "/"
}

// Run serves until ctx ends. A broker that is not there, or is lost, is told of on the page.
func (s *Server) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.remote.Run(ctx) })
	g.Go(func() error { return s.serve(ctx) })
	g.Go(func() error {
		s.history.keep(ctx, s.remote.Registry())
		return nil
	})
	g.Go(func() error {
		s.settle(ctx)
		return nil
	})
	return g.Wait()
}

// settle waits until the picture of the fleet is complete for once.
func (s *Server) settle(ctx context.Context) {
	for ctx.Err() == nil {
		if _, err := s.remote.Connection(ctx, 0); err != nil {
			return // ctx has ended
		}
		if _, err := s.remote.List(ctx); err == nil {
			s.link.settle()
			return
		}
	}
}

// serve answers requests until ctx ends.
func (s *Server) serve(ctx context.Context) error {
	if err := blob.Serve(ctx, s.web, s.handler()); err != nil {
		return fmt.Errorf("page: %w", err)
	}
	return nil
}

// narrow is a listener whose connections have the kernel keep little of what their readers
// do not take: it would be old.
type narrow struct{ net.Listener }

// ahead is how much, in bytes.
const ahead = 64 << 10

// Accept implements net.Listener.
func (n narrow) Accept() (net.Conn, error) {
	c, err := n.Listener.Accept()
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetWriteBuffer(ahead)
	}
	return c, err
}
