package mqtt

import (
	"fmt"
	"strings"
)

// Broker is what a configuration says of the broker and of who comes to it. Devices
// and operators share it.
type Broker struct {
	URL          URLs   `toml:"url"`
	User         string `toml:"user"`
	PasswordFile string `toml:"password_file"` // first line of the file
	CAFile       string `toml:"ca_file"`       // PEM; empty: the system's
	CertFile     string `toml:"cert_file"`     // PEM, of this client
	KeyFile      string `toml:"key_file"`      // PEM
}

// URLs are brokers that are tried in turn: mqtt://host:port, mqtts://host:port,
// ws://host:port/path or wss://host:port/path. Text has commas between them. A
// *URLs is a flag's value.
type URLs []string

// UnmarshalText takes every text; what is no address is complained about by New.
func (u *URLs) UnmarshalText(text []byte) error { return u.Set(string(text)) }

// MarshalText is the text that UnmarshalText takes.
func (u URLs) MarshalText() ([]byte, error) { return []byte(u.String()), nil }

// Set takes every text, as does UnmarshalText.
func (u *URLs) Set(text string) error {
	*u = nil
	for _, part := range strings.Split(text, ",") {
		*u = append(*u, strings.TrimSpace(part))
	}
	return nil
}

func (u URLs) String() string { return strings.Join(u, ",") }

// Redacted are the same with stars for passwords.
func (u URLs) Redacted() URLs {
	shown := make(URLs, len(u))
	for i, part := range u {
		shown[i] = redacted(part)
	}
	return shown
}

func redacted(broker string) string {
	begin := 0
	if i := strings.Index(broker, "://"); i >= 0 {
		begin = i + len("://")
	}
	authority, _, _ := strings.Cut(broker[begin:], "/")
	at := strings.LastIndexByte(authority, '@')
	user, _, secret := strings.Cut(authority[:max(at, 0)], ":")
	if !secret {
		return broker
	}
	return broker[:begin] + user + ":***" + broker[begin+at:]
}

// Type is the word for it in the help of a flag.
func (u URLs) Type() string { return "string" }

// DefaultBroker is the one that `limber broker` starts on this machine.
func DefaultBroker() Broker { return Broker{URL: URLs{"mqtt://127.0.0.1:1883"}} }

// Config is Default for a connection to the broker under the given client id. It
// reads the password.
func (b Broker) Config(clientID string) (Config, error) {
	c := Default()
	c.Broker, c.ClientID, c.User = b.URL.String(), clientID, b.User
	c.CAFile, c.CertFile, c.KeyFile = b.CAFile, b.CertFile, b.KeyFile
	if b.PasswordFile != "" {
		var err error
		if c.Password, err = FirstLine(b.PasswordFile); err != nil {
			return Config{}, fmt.Errorf("broker.password_file: %w", err)
		}
	}
	return c, nil
}
