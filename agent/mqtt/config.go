package mqtt

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Config describes a Link. Default gives every limit its value; Broker,
// ClientID and what the owner subscribes to are left to fill in.
type Config struct {
	// tcp:// or mqtt:// plain; tls://, ssl:// or mqtts:// encrypted; without scheme plain. The port
	// defaults to 1883 or 8883. ws:// plain and wss:// encrypted are MQTT over WebSocket: port 80 or 443,
	// and a path. Several have commas between them; see Link.Run for their turns
	Broker   string
	ClientID string // names the session at the broker: the device's id
	User     string // a user in the URL counts when this is empty
	Password string

	// Dial opens a connection to host:port over the network "tcp"; nil: that of a
	// net.Dialer. Where the broker's scheme asks for TLS, it is spoken over it. It
	// must return when ctx ends.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)

	// PEM; empty: the system's roots. Files are read anew for every connection, so a renewed certificate needs no restart
	CAFile   string
	CertFile string // PEM of the client's certificate; needs KeyFile
	KeyFile  string

	KeepAlive      time.Duration // silence after which the connection is probed; whole seconds
	PingTimeout    time.Duration // further silence after which it is given up
	ConnectTimeout time.Duration // for dialling; for the CONNACK and for the SUBACK, each, while nothing else comes
	WriteTimeout   time.Duration // without a byte taken by the broker
	BackoffMin     time.Duration // ceiling of the first pause between attempts
	BackoffMax     time.Duration // ceiling of any pause but those after a row of hang-ups: 30s, or RivalPause
	RetryDenied    time.Duration // between requests for a refused subscription
	RivalPause     time.Duration // at least, where another client has the same id; see ErrRival

	MaxPayload int // bytes; the payload of a larger message is discarded as it arrives
	MaxPacket  int // bytes of remaining length; more closes the connection, the first time

	CleanSession  bool // true: the broker forgets this client with the connection
	Subscriptions []Subscription
	// filters that a session may hold from before and that are not wanted any more
	Former []string
	// nil: no will; connSeq counts attempts from 1, so no two connections share one
	Will func(connSeq uint64) Message
	// Own says whether a message that the broker keeps at the will's topic may be of
	// this client, and so not of another one with its id; see ErrRival. It is called
	// by the link's reader. nil: it is not looked for
	Own func(payload []byte) bool
	// Slow is told, once for each connection, that the broker takes long to
	// acknowledge although neither the network nor this process does: the time of a
	// PUBACK, and the kernel's own round trip. It must not block. nil: nobody wants
	// to know
	Slow func(acknowledged, network time.Duration)
}

// Default is a persistent session on the desk's own broker.
func Default() Config {
	return Config{
		Broker:         "tcp://127.0.0.1:1883",
		KeepAlive:      20 * time.Second,
		PingTimeout:    10 * time.Second,
		ConnectTimeout: 10 * time.Second,
		WriteTimeout:   10 * time.Second,
		BackoffMin:     200 * time.Millisecond,
		BackoffMax:     5 * time.Second,
		RetryDenied:    time.Minute,
		RivalPause:     time.Minute,
		MaxPayload:     4 << 20,
		MaxPacket:      16 << 20,
	}
}

// check judges the whole configuration at once.
func (c Config) check() ([]target, error) {
	targets, err := parseBrokers(c.Broker)
	errs := []error{err}
	complain := func(bad bool, format string, args ...any) {
		if bad {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	complain(!validText(c.ClientID) || c.ClientID == "" && !c.CleanSession, "client id %q: a persistent session needs "+
		"a name of valid UTF-8", c.ClientID)
	complain(c.Password != "" && c.User == "", "password: given without a user")
	complain(c.KeepAlive < time.Second || c.KeepAlive > 65535*time.Second || c.KeepAlive%time.Second != 0,
		"keep alive: %v is not a number of seconds from 1 to 65535", c.KeepAlive)
	complain(c.PingTimeout <= 0 || c.ConnectTimeout <= 0 || c.WriteTimeout <= 0 || c.RetryDenied <= 0 || c.RivalPause <= 0,
		"timeouts: must be greater than zero")
	complain(c.BackoffMin <= 0 || c.BackoffMax < c.BackoffMin, "reconnect: pauses from %v to %v are not a range above "+
		"zero", c.BackoffMin, c.BackoffMax)
	complain(c.MaxPayload < 1 || c.MaxPacket < c.MaxPayload || c.MaxPacket > maxRemaining,
		"limits: need 1 <= max payload (%d) <= max packet (%d) <= %d", c.MaxPayload, c.MaxPacket, maxRemaining)
	seen := make(map[string]bool)
	for _, s := range c.Subscriptions {
		complain(!ValidFilter(s.Filter), "subscribe to %q: not a topic filter", s.Filter)
		complain(s.QoS > 1, "subscribe to %s: QoS %d, want 0 or 1", s.Filter, s.QoS)
		complain(seen[s.Filter], "subscribe to %s: named twice", s.Filter)
		seen[s.Filter] = true
	}
	for _, t := range targets {
		errs = append(errs, c.checkTLS(t))
	}
	return targets, errors.Join(errs...)
}

func (c Config) checkTLS(t target) error {
	if !t.tls {
		if c.CAFile != "" || c.CertFile != "" || c.KeyFile != "" {
			return fmt.Errorf("url %s: certificates are given but the connection is plain, use mqtts:// or wss://", t.name)
		}
		return nil
	}
	_, err := c.loadTLS(t)
	return err
}

// loadTLS reads the certificates as they are now.
func (c Config) loadTLS(t target) (*tls.Config, error) {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: t.host}
	if c.CAFile != "" {
		pem, err := os.ReadFile(c.CAFile)
		if err != nil {
			return nil, fmt.Errorf("read the broker's CA: %w", err)
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("read the broker's CA: %s holds no PEM certificate", c.CAFile)
		}
	}
	if (c.CertFile == "") != (c.KeyFile == "") {
		return nil, errors.New("client certificate: both a certificate (cert_file) and its key (key_file) are needed")
	}
	if c.CertFile != "" {
		pair, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("read the client certificate: %w", err)
		}
		cfg.Certificates = []tls.Certificate{pair}
	}
	return cfg, nil
}

// target is where a broker listens.
type target struct {
	name           string // for people: scheme, address and path, no password
	host, addr     string // name to verify; host:port to dial
	tls            bool
	path           string // of a WebSocket, begins with a slash; empty: MQTT itself
	user, password string
}

// parseBrokers reads addresses with commas between them.
func parseBrokers(s string) ([]target, error) {
	var targets []target
	var errs []error
	for _, part := range strings.Split(s, ",") {
		t, err := parseBroker(part)
		errs = append(errs, err)
		targets = append(targets, t)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return targets, nil
}

// schemes are the ways to a broker, with the port each has by default.
func schemes(name string) (port string, tls, websocket, ok bool) {
	switch name {
	case "tcp", "mqtt":
		return "1883", false, false, true
	case "ssl", "tls", "mqtts":
		return "8883", true, false, true
	case "ws":
		return "80", false, true, true
	case "wss":
		return "443", true, true, true
	}
	return "", false, false, false
}

func parseBroker(s string) (target, error) {
	if !strings.Contains(s, "://") {
		s = "tcp://" + s
	}
	u, err := url.Parse(s)
	if err != nil {
		return target{}, errors.New("url: not one such as mqtt://host:1883") // url.Parse would print a password
	}
	port, tls, websocket, ok := schemes(u.Scheme)
	if u.Port() != "" {
		port = u.Port()
	}
	_, badPort := strconv.ParseUint(port, 10, 16)
	switch {
	case !ok:
		return target{}, fmt.Errorf("url: scheme %q, want mqtt, mqtts, ws or wss", u.Scheme)
	case strings.Trim(u.Hostname(), "0123456789") == "":
		return target{}, errors.New("url: no host; want a URL such as mqtt://host:1883")
	case badPort != nil:
		return target{}, fmt.Errorf("url: port %s is not from 0 to 65535", port)
	case u.RawQuery != "" || u.Fragment != "":
		return target{}, fmt.Errorf("url: want %s://host:port and no query", u.Scheme)
	case !websocket && strings.Trim(u.Path, "/") != "":
		return target{}, fmt.Errorf("url: want %s://host:port and nothing after it", u.Scheme)
	}
	t := target{host: u.Hostname(), addr: net.JoinHostPort(u.Hostname(), port), tls: tls, user: u.User.Username()}
	t.name = u.Scheme + "://" + t.addr
	if websocket {
		t.path = "/" + strings.TrimPrefix(u.EscapedPath(), "/")
		t.name += t.path
	}
	t.password, _ = u.User.Password()
	return t, nil
}

// credentials are the configuration's, or else the URL's.
func (c Config) credentials(t target) (user, password string) {
	if c.User != "" {
		return c.User, c.Password
	}
	return t.user, t.password
}

// validText says whether s may stand in an MQTT string field.
func validText(s string) bool {
	return len(s) <= 65535 && utf8.ValidString(s) && !strings.Contains(s, "\x00")
}
