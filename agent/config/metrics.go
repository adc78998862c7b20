package config

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"github.com/limber-edge/limber/agent/mqtt"
)

// Metrics is where Prometheus reads the device; package metrics serves it.
type Metrics struct {
	Listen    string `toml:"listen"`     // host:port; empty: nowhere
	TokenFile string `toml:"token_file"` // its first line is what a reader must know; may be absent on loopback only
}

// tokenLeast is how many characters a token has, so that nobody finds it by trying.
const tokenLeast = 16

// Token is what a reader must know, as its file has it now; empty where nobody must
// know anything.
func (m Metrics) Token() (string, error) {
	if m.TokenFile == "" {
		return "", nil
	}
	info, err := os.Stat(m.TokenFile)
	if err == nil && !info.Mode().IsRegular() { // it is read again and again
		return "", fmt.Errorf("%s is no regular file: wants one whose first line is the token", m.TokenFile)
	}
	line, err := mqtt.FirstLine(m.TokenFile)
	if err != nil {
		return "", err
	}
	token := strings.TrimSpace(line)
	if len(token) < tokenLeast {
		return "", fmt.Errorf("%s: its first line has %d characters, less than %d; `openssl rand -hex 32` makes one",
			m.TokenFile, len(token), tokenLeast)
	}
	return token, nil
}

// Address is where others than this machine read the device, HOST:PORT, as far as its
// owner said: without the host where it listens at all addresses of the device, and empty
// where it listens for this machine only or the port is whichever is free.
func (m Metrics) Address() string {
	host, port, err := net.SplitHostPort(m.Listen)
	if n, bad := strconv.ParseUint(port, 10, 16); err != nil || bad != nil || n == 0 || loopback(host) {
		return ""
	}
	if ip, err := netip.ParseAddr(host); err == nil && ip.IsUnspecified() {
		host = ""
	}
	return net.JoinHostPort(host, port)
}

// validate names what others could reach without a token.
func (m Metrics) validate() error {
	if m.Listen == "" {
		return nil
	}
	host, port, err := net.SplitHostPort(m.Listen)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		return fmt.Errorf("metrics.listen: %q is not HOST:PORT, such as 127.0.0.1:9464", m.Listen)
	}
	if m.TokenFile == "" && !loopback(host) {
		return fmt.Errorf("metrics.listen: %s is for others as well; set metrics.token_file to a file whose first "+
			"line they must know", m.Listen)
	}
	if _, err := m.Token(); err != nil {
		return fmt.Errorf("metrics.token_file: %w", err)
	}
	return nil
}

// loopback tells whether an address is this machine's alone. Of names only
// localhost is: what another one means is said elsewhere.
func loopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}
