package mqtt

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/limber-edge/limber/broker-config/brokertest"
)

// authority signs certificates and keeps them in one folder.
type authority struct {
	tb   testing.TB
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(tb testing.TB) *authority {
	tb.Helper()
	a := &authority{tb: tb, dir: tb.TempDir()}
	a.issue("ca", nil)
	return a
}

// issue writes name.crt and name.key; change may spoil the certificate.
func (a *authority) issue(name string, change func(*x509.Certificate)) {
	a.tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	a.must(err)
	c := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: name == "ca", BasicConstraintsValid: true, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	if change != nil {
		change(c)
	}
	if name == "ca" {
		a.cert, a.key = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, a.cert, &key.PublicKey, a.key)
	a.must(err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	a.must(err)
	a.write(name+".crt", "CERTIFICATE", der)
	a.write(name+".key", "PRIVATE KEY", private)
}

func (a *authority) write(file, kind string, der []byte) {
	a.tb.Helper()
	a.must(os.WriteFile(a.file(file), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
}

func (a *authority) file(name string) string { return filepath.Join(a.dir, name) }

func (a *authority) must(err error) {
	a.tb.Helper()
	if err != nil {
		a.tb.Fatal(err)
	}
}

// login makes cfg show the certificate of name.
func (a *authority) login(cfg Config, name string) Config {
	cfg.Broker = "tls://" + cfg.Broker
	cfg.CAFile, cfg.CertFile, cfg.KeyFile = a.file("ca.crt"), a.file(name+".crt"), a.file(name+".key")
	return cfg
}

func TestC15_ShippedMosquittoKnowsADeviceByItsCertificate(t *testing.T) {
	a := newAuthority(t)
	for _, name := range []string{"server", "cam-1", "operator"} {
		a.issue(name, nil)
	}
	m := brokertest.StartShipped(t, a.dir, "")
	watching := a.login(quick(m.Addr), "operator")
	watching.ClientID, watching.Subscriptions = "watch", []Subscription{{"limber/#", 1}}
	_, seen, _ := mustRun(t, watching)
	await(t, seen.connected)
	l, h, _ := mustRun(t, a.login(device(m.Addr), "cam-1"))
	await(t, h.connected)
	mustPublish(t, l, "limber/v1/demo/cam-2/state", "online", false)
	mustPublish(t, l, "limber/v1/demo/cam-1/state", "online", false)
	if got := await(t, seen.received); got.Topic != "limber/v1/demo/cam-1/state" {
		t.Errorf("first came %s, want only the device's own", got.Topic)
	}
}

func TestN17_BadCertificatesAreRefusedWithAReason(t *testing.T) {
	for _, tt := range []struct {
		name, want string
		spoil      func(*x509.Certificate)
		foreign    bool
	}{
		{"N17 expired", "expired", func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }, false},
		{"N17 wrong host", "127.0.0.1", func(c *x509.Certificate) { c.IPAddresses = []net.IP{net.IPv4(10, 0, 0, 1)} }, false},
		{"N17 unknown CA", "unknown authority", nil, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := newAuthority(t)
			a.issue("server", tt.spoil)
			a.issue("cam-1", nil)
			broker := a
			if tt.foreign {
				broker = newAuthority(t)
				broker.issue("server", nil)
			}
			addr := tlsBroker(t, broker, &tls.Config{})
			_, h, _ := mustRun(t, a.login(device(addr), "cam-1"))
			if err := await(t, h.lost); !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

func TestN17_RenewedCertificateIsUsedWithoutARestart(t *testing.T) {
	a := newAuthority(t)
	a.issue("server", nil)
	a.issue("cam-1", nil)
	other := newAuthority(t) // signs the broker's next certificate
	other.issue("server", nil)
	addr := tlsBroker(t, other, &tls.Config{})
	_, h, _ := mustRun(t, a.login(device(addr), "cam-1"))
	await(t, h.lost)
	ca, err := os.ReadFile(other.file("ca.crt"))
	a.must(err)
	a.must(os.WriteFile(a.file("ca.crt"), ca, 0o600))
	await(t, h.connected)
}

func TestN18_OldTLSAndPlainTextAreRefused(t *testing.T) {
	a := newAuthority(t)
	a.issue("server", nil)
	a.issue("cam-1", nil)
	for name, addr := range map[string]string{
		"N18 TLS 1.1":    tlsBroker(t, a, &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}),
		"N18 plain text": evilBroker(t, func(c evilConn) { c.accept(); c.drain() }),
	} {
		t.Run(name, func(t *testing.T) {
			cfg := a.login(device(addr), "cam-1")
			cfg.ConnectTimeout = time.Second
			l, h, _ := mustRun(t, cfg)
			if err := await(t, h.lost); !strings.Contains(err.Error(), "TLS with") {
				t.Errorf("got %v, want TLS refused", err)
			}
			if n := l.Counts().Connections; n != 0 {
				t.Errorf("%d connections", n)
			}
		})
	}
}

// tlsBroker grants whatever it is asked, over TLS.
func tlsBroker(t *testing.T, a *authority, cfg *tls.Config) string {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(a.file("server.crt"), a.file("server.key"))
	a.must(err)
	cfg.Certificates = []tls.Certificate{pair}
	return evilBroker(t, func(c evilConn) {
		c = secured(c, cfg)
		c.accept()
		c.drain()
	})
}
