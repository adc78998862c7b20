// Package devbroker is the broker for a desk: embedded, in memory, obeying the
// access list that a mosquitto in the field would.
//
// Whom it believes depends on where it listens, and is fixed for its lifetime:
//
//	no users given   loopback only; no name is the operator, who may also use the
//	                 topics of cameras, and a name is that device
//	users given      any address; everybody needs a name and its password,
//	                 and a session is only given back to the name it is of
//	TLS given        likewise, with a certificate whose common name is the name
//
// The rule that makes it correct: every topic a client touches passes the
// access list, its last will and each single delivery included. A publish that
// is not allowed is acknowledged and dropped, as mosquitto does, for a device
// that repeats it for ever would be worse; a subscription is refused in the
// SUBACK.
//
// Sessions and retained messages live as long as the process; what is published
// while a session passes from one connection to the next is not lost. A client
// that sends nonsense is disconnected, and no other client notices.
package devbroker

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"syscall"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/listeners"

	brokerconfig "github.com/limber-edge/limber/broker-config"
)

// sysInterval is how often $SYS is renewed, in seconds; each renewal stops the
// world for a moment.
const sysInterval = 10

// Config describes a Broker; the zero value is the desk's.
type Config struct {
	Listen    string            // host:port; empty: 127.0.0.1:1883
	WebSocket string            // host:port for MQTT over WebSocket; empty: none
	Users     map[string]string // name to password; these or TLS are needed to listen beyond loopback
	TLS       *tls.Config       // which must verify a certificate of each client; nil: nothing is encrypted
	ACL       *brokerconfig.ACL // nil: brokerconfig.DefaultACL, or DeskACL for a desk
	MaxPacket int               // bytes a client may send in one packet; 0: 16 MiB
}

// open tells whether whoever comes is believed.
func (c Config) open() bool { return len(c.Users) == 0 && c.TLS == nil }

// Broker is a listening broker.
type Broker struct {
	server    *mochi.Server
	listeners []listeners.Listener // for MQTT itself, and then for WebSockets
	log       *slog.Logger
}

// New binds the address. Clients wait in the system's queue until Run.
func New(cfg Config, log *slog.Logger) (*Broker, error) {
	if cfg.Listen == "" {
		cfg.Listen = "127.0.0.1:1883"
	}
	if cfg.MaxPacket == 0 {
		cfg.MaxPacket = 16 << 20
	}
	if cfg.ACL == nil {
		shipped := brokerconfig.DefaultACL
		if cfg.open() {
			shipped = brokerconfig.DeskACL
		}
		acl, err := shipped()
		if err != nil {
			return nil, err
		}
		cfg.ACL = acl
	}
	b := &Broker{server: newServer(cfg), log: log}
	if err := b.listen(cfg); err != nil {
		return nil, err
	}
	if err := b.attach(newDoor(cfg, b.server.Clients.Get, log)); err != nil {
		b.unlisten()
		return nil, err
	}
	return b, nil
}

// listen binds the addresses.
func (b *Broker) listen(cfg Config) error {
	bound, err := bind(cfg.Listen, cfg)
	if err != nil {
		return err
	}
	b.listeners = append(b.listeners, newListener("tcp", bound, b.log))
	if cfg.WebSocket == "" {
		return nil
	}
	if bound, err = bind(cfg.WebSocket, cfg); err != nil {
		b.unlisten()
		return err
	}
	b.listeners = append(b.listeners, newWebListener(bound, cfg.MaxPacket, b.log))
	return nil
}

// unlisten gives the addresses back.
func (b *Broker) unlisten() {
	for _, l := range b.listeners {
		l.Close(func(string) {})
	}
}

// bind listens, and only where the clients can be believed.
func bind(address string, cfg Config) (net.Listener, error) {
	bound, err := net.Listen("tcp", address)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("%w: another broker may run there; stop it or choose another address", err)
	} else if err != nil {
		return nil, err
	}
	if addr := bound.Addr().(*net.TCPAddr); cfg.open() && !addr.IP.IsLoopback() {
		bound.Close()
		return nil, fmt.Errorf("listen on %s: everybody in reach would be an operator; listen on 127.0.0.1, give "+
			"certificates or users, or run mosquitto with the files in broker-config", addr)
	}
	if cfg.TLS != nil {
		bound = tls.NewListener(bound, cfg.TLS)
	}
	return bound, nil
}

func newServer(cfg Config) *mochi.Server {
	limits := mochi.NewDefaultServerCapabilities()
	limits.MaximumPacketSize = uint32(cfg.MaxPacket)
	limits.MaximumMessageExpiryInterval = 0 // it would delete retained messages after a day
	return mochi.New(&mochi.Options{
		Capabilities:           limits,
		Logger:                 slog.New(slog.DiscardHandler), // it logs payloads; the door logs instead
		SysTopicResendInterval: sysInterval,
	})
}

func (b *Broker) attach(d *door) error {
	errs := []error{b.server.AddHook(d, nil)}
	for _, l := range b.listeners {
		errs = append(errs, b.server.AddListener(l))
	}
	return errors.Join(errs...)
}

// Addr is the address that New bound.
func (b *Broker) Addr() string { return b.listeners[0].Address() }

// WebSocketAddr is the address that New bound for WebSockets, or empty.
func (b *Broker) WebSocketAddr() string {
	if len(b.listeners) < 2 {
		return ""
	}
	return b.listeners[1].Address()
}

// Run serves until ctx ends, then closes every connection and the listener. It
// may be called once.
func (b *Broker) Run(ctx context.Context) error {
	if err := b.server.Serve(); err != nil {
		return fmt.Errorf("serve on %s: %w", b.Addr(), err)
	}
	b.log.Info("broker listening", "broker", b.Addr())
	if web := b.WebSocketAddr(); web != "" {
		b.log.Info("broker listening for websockets", "broker", web)
	}
	<-ctx.Done()
	return b.server.Close()
}
