package mqtt

import (
	"fmt"
	"os"
	"strings"
)

// Broker is what a configuration says of the broker and of who comes to it. Devices
// and operators share it.
type Broker struct {
	URL          string `toml:"url"` // mqtt://host:port or mqtts://host:port
	User         string `toml:"user"`
	PasswordFile string `toml:"password_file"` // first line of the file
	CAFile       string `toml:"ca_file"`       // PEM; empty: the system's
	CertFile     string `toml:"cert_file"`     // PEM, of this client
	KeyFile      string `toml:"key_file"`      // PEM
}

// DefaultBroker is the one that `limber broker` starts on this machine.
func DefaultBroker() Broker { return Broker{URL: "mqtt://127.0.0.1:1883"} }

// Config is Default for a connection to the broker under the given client id. It
// reads the password.
func (b Broker) Config(clientID string) (Config, error) {
	c := Default()
	c.Broker, c.ClientID, c.User = b.URL, clientID, b.User
	c.CAFile, c.CertFile, c.KeyFile = b.CAFile, b.CertFile, b.KeyFile
	if b.PasswordFile != "" {
		password, err := os.ReadFile(b.PasswordFile)
		if err != nil {
			return Config{}, fmt.Errorf("broker.password_file: %w", err)
		}
		c.Password, _, _ = strings.Cut(string(password), "\n")
	}
	return c, nil
}
