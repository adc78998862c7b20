package certs

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"slices"
	"time"

	brokerconfig "github.com/limber-edge/limber/broker-config"
	"github.com/limber-edge/limber/store"
)

// slow is how far behind a clock may be that is to take a new certificate for good.
const slow = time.Hour

// maxCommonName is the length limit of a common name, in characters (RFC 5280, A.1).
const maxCommonName = 64

// pair is a certificate with its key.
type pair struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey // nil: it is elsewhere
}

// leaf is a certificate to be made.
type leaf struct {
	name  string // of the files, and the common name of a client
	role  brokerconfig.Role
	hosts []string // of a server
	joins bool     // it is a node of a cluster
	what  string
	there *pair // the one before; nil: none
}

// readPair reads name.crt and name.key. Its error is fs.ErrNotExist where there is no
// certificate; a key that is not there is an error only if it is needed.
func readPair(name string, needKey bool) (*pair, error) {
	block, err := readPEM(name + ".crt")
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(block)
	if err != nil {
		return nil, fmt.Errorf("%s.crt: %w", name, err)
	}
	key, err := readKey(name + ".key")
	switch {
	case errors.Is(err, fs.ErrNotExist) && !needKey:
		return &pair{cert: cert}, nil
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%s.key is not there, but %[1]s.crt is", name)
	case err != nil:
		return nil, err
	case !key.PublicKey.Equal(cert.PublicKey):
		return nil, fmt.Errorf("%s.crt is not of the key in %[1]s.key: remove both to have them made anew", name)
	}
	return &pair{cert, key}, nil
}

// maxPEM bounds a file that is read, in bytes.
const maxPEM = 1 << 16

// readPEM returns the first block of a file.
func readPEM(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err == nil && info.Size() > maxPEM {
		err = fmt.Errorf("%s has %d bytes, more than %d", path, info.Size(), maxPEM)
	}
	if err != nil {
		return nil, err
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, fmt.Errorf("%s holds no PEM", path)
	}
	return block.Bytes, nil
}

func readKey(path string) (*ecdsa.PrivateKey, error) {
	block, err := readPEM(path)
	if err != nil {
		return nil, err
	}
	key, err := x509.ParsePKCS8PrivateKey(block)
	if err != nil {
		return nil, fmt.Errorf("%s: not a key in PKCS #8", path) // the library's error may quote it
	}
	ec, ok := key.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("%s: not an ECDSA key", path)
	}
	return ec, nil
}

// joins tells whether it is the certificate of a node of a cluster.
func (p *pair) joins() bool {
	return p != nil && slices.Contains(p.cert.ExtKeyUsage, x509.ExtKeyUsageClientAuth)
}

// hosts are the names and addresses that the certificate is for.
func (p *pair) hosts() []string {
	hosts := slices.Clone(p.cert.DNSNames)
	for _, ip := range p.cert.IPAddresses {
		hosts = append(hosts, ip.String())
	}
	slices.Sort(hosts)
	return hosts
}

// hostsOf are names and addresses as a certificate has them.
func hostsOf(asked []string) []string {
	names, ips := split(asked)
	return (&pair{cert: &x509.Certificate{DNSNames: names, IPAddresses: ips}}).hosts()
}

func split(hosts []string) (names []string, ips []net.IP) {
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			ips = append(ips, ip)
		} else {
			names = append(names, h)
		}
	}
	return names, ips
}

// writeAuthority makes the authority, of the key that is there if a call was cut off
// behind it.
func (m *maker) writeAuthority() error {
	key, err := m.newKey(authorityName)
	if err != nil {
		return err
	}
	cert := m.template("Limber fleet authority", 2*MaxDays)
	cert.IsCA, cert.BasicConstraintsValid, cert.MaxPathLenZero = true, true, true
	cert.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	m.authority = &pair{cert, key}
	signed, err := m.sign(authorityName, "authority", cert, key.Public())
	m.authority = &pair{signed, key}
	return err
}

// writeLeaf makes a certificate, for the key of the one before if there was one.
func (m *maker) writeLeaf(l leaf) error {
	cert := m.template(l.name, m.Days)
	cert.KeyUsage = x509.KeyUsageDigitalSignature
	cert.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	if l.name == serverName {
		cert.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
		cert.DNSNames, cert.IPAddresses = split(l.hosts)
		if cert.Subject.CommonName = l.hosts[0]; len(l.hosts[0]) > maxCommonName || l.joins {
			cert.Subject.CommonName = "" // only clients look at it that look at the other names first
		}
		if l.joins {
			cert.ExtKeyUsage = append(cert.ExtKeyUsage, x509.ExtKeyUsageClientAuth)
		}
	}
	var public crypto.PublicKey
	if l.there != nil {
		public = l.there.cert.PublicKey
	} else {
		key, err := m.newKey(l.name)
		if err != nil {
			return err
		}
		public = key.Public()
	}
	_, err := m.sign(l.name, l.what, cert, public)
	return err
}

func (m *maker) template(name string, days int) *x509.Certificate {
	return &x509.Certificate{
		Subject:   pkix.Name{CommonName: name},
		NotBefore: m.now.Add(-slow),
		NotAfter:  m.now.AddDate(0, 0, days),
	}
}

// newKey writes a key, unless there is one without a certificate.
func (m *maker) newKey(name string) (*ecdsa.PrivateKey, error) {
	path := m.file(name + ".key")
	key, err := readKey(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return key, err
	}
	if key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return nil, fmt.Errorf("make %s: %w", path, err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("make %s: %w", path, err)
	}
	return key, store.WriteSecret(path, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

// sign writes a certificate by the authority, with a serial number of 20 random bytes.
func (m *maker) sign(name, what string, cert *x509.Certificate, public crypto.PublicKey) (*x509.Certificate, error) {
	path := m.file(name + ".crt")
	der, err := x509.CreateCertificate(rand.Reader, cert, m.authority.cert, public, m.authority.key)
	if err != nil {
		return nil, fmt.Errorf("make %s: %w", path, err)
	}
	signed, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("make %s: %w", path, err)
	}
	if err := store.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})); err != nil {
		return nil, err
	}
	m.made = append(m.made, Made{File: path, What: what, Until: signed.NotAfter})
	return signed, nil
}
