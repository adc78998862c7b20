package mqtt

import (
	"log/slog"
	"strings"
	"testing"
	"time"
)

func TestBrokerAddresses(t *testing.T) {
	for _, tt := range []struct {
		in, name, addr string
		tls            bool
	}{
		{"localhost", "tcp://localhost:1883", "localhost:1883", false},
		{"10.0.0.1:1884", "tcp://10.0.0.1:1884", "10.0.0.1:1884", false},
		{"mqtt://host", "mqtt://host:1883", "host:1883", false},
		{"mqtts://user:secret@host/", "mqtts://host:8883", "host:8883", true},
		{"tls://[::1]:9", "tls://[::1]:9", "[::1]:9", true},
		{"ws://host", "ws://host:80/", "host:80", false},
		{"ws://host:9001/mqtt", "ws://host:9001/mqtt", "host:9001", false},
		{"wss://user:secret@host/a%20b/mqtt", "wss://host:443/a%20b/mqtt", "host:443", true},
	} {
		got, err := parseBroker(tt.in)
		if err != nil || got.name != tt.name || got.addr != tt.addr || got.tls != tt.tls ||
			(got.path != "") != strings.HasPrefix(tt.in, "ws") {
			t.Errorf("%s: got %+v, %v", tt.in, got, err)
		}
	}
}

func TestAListOfBrokersIsReadInItsOrder(t *testing.T) {
	got, err := parseBrokers("mqtt://a,mqtts://b:1,wss://c/mqtt")
	if err != nil || len(got) != 3 || got[0].addr != "a:1883" || got[1].addr != "b:1" || got[2].addr != "c:443" {
		t.Errorf("got %+v, %v", got, err)
	}
	for _, list := range []string{"", "a,", ",a", "a,http://b", "a,tcp://b/x"} {
		if got, err := parseBrokers(list); err == nil {
			t.Errorf("%q: got %+v, want a complaint", list, got)
		}
	}
}

func TestCredentialsOfTheURLCountUnlessConfigured(t *testing.T) {
	at, err := parseBroker("tcp://url:secret@host")
	if err != nil {
		t.Fatal(err)
	}
	if user, password := (Config{}).credentials(at); user != "url" || password != "secret" {
		t.Errorf("got %s, %s; want the URL's", user, password)
	}
	if user, password := (Config{User: "cfg", Password: "other"}).credentials(at); user != "cfg" || password != "other" {
		t.Errorf("got %s, %s; want the configuration's", user, password)
	}
}

func TestConfigIsJudgedAtOnce(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*Config)
		want   string
	}{
		{"scheme", func(c *Config) { c.Broker = "http://host" }, `scheme "http"`},
		{"path", func(c *Config) { c.Broker = "tcp://host/x" }, "nothing after it"},
		{"second of a list", func(c *Config) { c.Broker = "host,http://other" }, `scheme "http"`},
		{"a port alone", func(c *Config) { c.Broker = "1883" }, "no host; want a URL such as mqtt://host:1883"},
		{"no address", func(c *Config) { c.Broker = "" }, "no host"},
		{"a port too high", func(c *Config) { c.Broker = "mqtt://host:99999" }, "port 99999 is not from 0 to 65535"},
		{"query", func(c *Config) { c.Broker = "ws://host/mqtt?token=secret" }, "no query"},
		{"certificate without TLS for one of a list", func(c *Config) { c.Broker, c.CAFile = "tls://host,ws://host", "ca.crt" }, "ws://host:80/: cert"},
		{"not a URL", func(c *Config) { c.Broker = "tcp://u:secret@ho st" }, "url: not one such as"},
		{"no client id", func(c *Config) { c.ClientID = "" }, "client id"},
		{"password alone", func(c *Config) { c.Password = "p" }, "without a user"},
		{"keep alive", func(c *Config) { c.KeepAlive = 1500 * time.Millisecond }, "keep alive"},
		{"timeout", func(c *Config) { c.WriteTimeout = 0 }, "timeouts"},
		{"reconnect", func(c *Config) { c.BackoffMax = 0 }, "reconnect"},
		{"limits", func(c *Config) { c.MaxPayload = 32 << 20 }, "limits"},
		{"filter", func(c *Config) { c.Subscriptions = []Subscription{{"a/#/b", 1}} }, "not a topic filter"},
		{"QoS", func(c *Config) { c.Subscriptions = []Subscription{{"a", 2}} }, "QoS 2"},
		{"twice", func(c *Config) { c.Subscriptions = []Subscription{{"a", 1}, {"a", 0}} }, "named twice"},
		{"certificate without TLS", func(c *Config) { c.CAFile = "ca.crt" }, "use mqtts://"},
		{"missing CA", func(c *Config) { c.Broker, c.CAFile = "tls://host", "missing.crt" }, "missing.crt"},
		{"key without certificate", func(c *Config) { c.Broker, c.KeyFile = "tls://host", "missing.key" }, "cert_file"},
		{"certificate without key", func(c *Config) { c.Broker, c.CertFile = "tls://host", "some.crt" }, "key_file"},
		{"missing certificate", func(c *Config) { c.Broker, c.CertFile, c.KeyFile = "tls://host", "missing.crt", "k" }, "missing.crt"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg := quick("host")
			tt.change(&cfg)
			_, err := New(cfg, newRecorder(), slog.New(slog.DiscardHandler))
			if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "secret") {
				t.Errorf("got %v, want %q and no secret", err, tt.want)
			}
		})
	}
	if _, err := New(quick("host"), newRecorder(), slog.New(slog.DiscardHandler)); err != nil {
		t.Errorf("the default: %v", err)
	}
}
