package mqtt_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/limber-edge/limber/agent/mqtt"
)

func TestThePasswordIsTheFirstLineOfItsFile(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte("secret\na remark\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	b := mqtt.DefaultBroker()
	b.User, b.PasswordFile = "anna", file
	c, err := b.Config("desk")
	if err != nil || c.Broker != b.URL.String() || c.ClientID != "desk" || c.User != "anna" || c.Password != "secret" {
		t.Errorf("got %+v, %v; want the user anna with the password secret", c, err)
	}
	for path, want := range map[string]string{file + ".none": "open " + file + ".none",
		"/dev/zero": "/dev/zero has more than 4096 bytes"} {
		b.PasswordFile = path
		if _, err := b.Config("desk"); err == nil || !strings.Contains(err.Error(), "broker.password_file: "+want) {
			t.Errorf("got %v, want the key and %s", err, want)
		}
	}
}

func TestAListOfBrokersIsATextWithCommas(t *testing.T) {
	t.Parallel()
	var u mqtt.URLs
	if err := u.UnmarshalText([]byte("mqtt://a, wss://b/mqtt ,c")); err != nil || !slices.Equal(u, mqtt.URLs{"mqtt://a", "wss://b/mqtt", "c"}) {
		t.Errorf("got %q, %v", u, err)
	}
	if text, err := u.MarshalText(); err != nil || string(text) != "mqtt://a,wss://b/mqtt,c" {
		t.Errorf("got %s, %v", text, err)
	}
}

func TestAPasswordInAnAddressIsNotShown(t *testing.T) {
	t.Parallel()
	for broker, want := range map[string]string{
		"mqtt://host:1883":                      "mqtt://host:1883",
		"host:1883":                             "host:1883",
		"mqtt://anna@host":                      "mqtt://anna@host",
		"mqtt://anna:secret@host:1883":          "mqtt://anna:***@host:1883",
		"anna:secret@host":                      "anna:***@host",
		"wss://anna:se:cr@et@host/mqtt@home":    "wss://anna:***@host/mqtt@home",
		"ws://host:80/a@b":                      "ws://host:80/a@b",
		"mqtt://:secret@host,mqtt://b:also@two": "mqtt://:***@host,mqtt://b:***@two",
	} {
		var u mqtt.URLs
		u.Set(broker)
		if got := u.Redacted().String(); got != want {
			t.Errorf("%s: got %s, want %s", broker, got, want)
		}
	}
}
