package certs

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
)

// Server is what a broker speaks TLS with: it shows the folder's certificate, and takes
// clients with one of the folder's authority alone. The files are read anew for every
// connection, so that a renewed one needs no restart.
func Server(dir string) (*tls.Config, error) {
	if _, err := readServer(dir); err != nil {
		return nil, err
	}
	return &tls.Config{
		MinVersion:         tls.VersionTLS12,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return readServer(dir) },
	}, nil
}

func readServer(dir string) (*tls.Config, error) {
	file := func(name string) string { return filepath.Join(dir, name) }
	own, err := tls.LoadX509KeyPair(file(serverName+".crt"), file(serverName+".key"))
	if err != nil {
		return nil, fmt.Errorf("certificate of the broker: %w", err)
	}
	text, err := os.ReadFile(file(authorityName + ".crt"))
	if err != nil {
		return nil, fmt.Errorf("authority of the clients: %w", err)
	}
	authorities := x509.NewCertPool()
	if !authorities.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("authority of the clients: %s holds no PEM certificate", file(authorityName+".crt"))
	}
	return &tls.Config{
		MinVersion:   tls.VersionTLS12,
		Certificates: []tls.Certificate{own},
		ClientCAs:    authorities,
		ClientAuth:   tls.RequireAndVerifyClientCert,
	}, nil
}
