package check

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"time"

	"github.com/limber-edge/limber/agent/mqtt"
)

// soon is when a certificate should have been renewed.
const soon = 30 * 24 * time.Hour

// Certificate reads the device's certificate and those of the authorities it trusts.
type Certificate struct {
	Broker mqtt.Broker
	Device string
}

// Run implements Check.
func (c Certificate) Run(context.Context) Finding {
	const check = "certificate"
	renew := "renew it: limber broker certs --renew --device " + c.Device + ", and bring it here"
	if c.Broker.CAFile != "" {
		last, err := newest(c.Broker.CAFile)
		if err != nil {
			return failsBy(check, Error, "put the PEM of the broker's authority there: broker.ca_file", err)
		} else if f, bad := judge("the authority of "+c.Broker.CAFile, last, renew); bad {
			return f
		}
	}
	if c.Broker.CertFile == "" {
		return holds(check, Error, "none is configured")
	}
	if _, err := tls.LoadX509KeyPair(c.Broker.CertFile, c.Broker.KeyFile); err != nil {
		return failsBy(check, Error, "make a pair: limber broker certs --device "+c.Device,
			fmt.Errorf("%s and %s: %w", c.Broker.CertFile, c.Broker.KeyFile, err))
	}
	cert, err := leaf(c.Broker.CertFile)
	if err != nil {
		return failsBy(check, Error, renew, err)
	}
	if f, bad := judge(c.Broker.CertFile, cert, renew); bad {
		return f
	}
	if name := cert.Subject.CommonName; name != c.Device {
		return fails(check, Warning, "make one for this device, or name the device as the certificate does",
			"%s is of %q, the device is called %s: a broker that goes by the certificate lets it do nothing",
			c.Broker.CertFile, name, c.Device)
	}
	return holds(check, Error, "%s is good for %d more days", c.Broker.CertFile, days(cert.NotAfter))
}

// judge complains about a certificate that is not valid now, or not for long.
func judge(what string, cert *x509.Certificate, renew string) (f Finding, bad bool) {
	const check = "certificate"
	now, until := time.Now(), cert.NotAfter.UTC().Format(time.DateOnly)
	switch {
	case now.After(cert.NotAfter):
		return fails(check, Error, renew, "%s expired on %s, %d days ago", what, until, -days(cert.NotAfter)), true
	case now.Before(cert.NotBefore):
		return fails(check, Error, setClock, "%s is not valid before %s", what,
			cert.NotBefore.UTC().Format(time.RFC3339)), true
	case now.Add(soon).After(cert.NotAfter):
		return fails(check, Warning, renew, "%s expires on %s, in %d days", what, until, days(cert.NotAfter)), true
	}
	return f, false
}

// days are the whole days from now to t.
func days(t time.Time) int { return int(time.Until(t) / (24 * time.Hour)) }

// leaf is the first certificate of a file.
func leaf(path string) (*x509.Certificate, error) {
	all, err := readCertificates(path)
	if err != nil {
		return nil, err
	}
	return all[0], nil
}

// newest is that of a file which is good for longest: a bundle may hold an old one still.
func newest(path string) (*x509.Certificate, error) {
	all, err := readCertificates(path)
	if err != nil {
		return nil, err
	}
	last := all[0]
	for _, c := range all {
		if c.NotAfter.After(last.NotAfter) {
			last = c
		}
	}
	return last, nil
}

// readCertificates are those of a PEM file, at least one.
func readCertificates(path string) (all []*x509.Certificate, err error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if all, err = parseCertificates(text); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	} else if len(all) == 0 {
		return nil, fmt.Errorf("%s holds no certificate in PEM", path)
	}
	return all, nil
}

func parseCertificates(text []byte) (all []*x509.Certificate, err error) {
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		all = append(all, c)
	}
	return all, nil
}
