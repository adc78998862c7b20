package check_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent/check"
	"github.com/limber-edge/limber/agent/config"
	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/wire"
	brokerconfig "github.com/limber-edge/limber/broker-config"
	"github.com/limber-edge/limber/broker-config/brokertest"
	"github.com/limber-edge/limber/broker-config/certs"
)

// mustCertificates makes those of a broker of this machine, an operator and devices, good
// for so many days from a moment on; the authority is good for twice as many.
func mustCertificates(tb testing.TB, from time.Time, days int, devices ...string) (dir string) {
	tb.Helper()
	dir = filepath.Join(tb.TempDir(), "certs")
	_, err := certs.Make(certs.Request{Dir: dir, Server: []string{"127.0.0.1"}, Days: days,
		Names: map[brokerconfig.Role][]string{brokerconfig.Device: devices, brokerconfig.Operator: {wire.Operator}}}, from)
	if err != nil {
		tb.Fatal(err)
	}
	return dir
}

// device is the configuration of one that shows a certificate.
func device(tb testing.TB, addr, dir, name string) config.Config {
	cfg := config.Default()
	cfg.Device, cfg.State = name, tb.TempDir()
	cfg.Broker.URL = mqtt.URLs{"mqtts://" + addr}
	cfg.Broker.CAFile = filepath.Join(dir, "ca.crt")
	cfg.Broker.CertFile, cfg.Broker.KeyFile = filepath.Join(dir, name+".crt"), filepath.Join(dir, name+".key")
	return cfg
}

// mustFind runs the checks but those of ONNX Runtime, and returns what they found by their names.
func mustFind(tb testing.TB, cfg config.Config) map[string]check.Finding {
	tb.Helper()
	checks, err := check.All(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	found := map[string]check.Finding{}
	for _, c := range checks {
		switch c.(type) {
		case check.Runtime, check.Providers: // of which a process has one, and tests several
			continue
		}
		f := c.Run(tb.Context())
		if f.OK != (f.Remedy == "") || f.Detail == "" || f.Level != check.Error && f.Level != check.Warning {
			tb.Errorf("got %+v; want a detail, a level, and a remedy exactly where it does not hold", f)
		}
		found[f.Check] = f
	}
	return found
}

// expect compares a finding; want is a part of its detail and of its remedy, which says
// more than its level.
func expect(tb testing.TB, f check.Finding, ok bool, l check.Level, want string) {
	tb.Helper()
	if f.OK != ok || f.Level != l || !strings.Contains(f.Detail+" -> "+f.Remedy, want) {
		tb.Errorf("got %+v; want ok %v, level %s, and %q in it", f, ok, l, want)
	}
}

func TestADeviceOfTheShippedMosquittoHasItsAccess(t *testing.T) {
	dir := mustCertificates(t, time.Now(), 365, "cam-1")
	m := brokertest.StartShipped(t, dir, "")
	found := mustFind(t, device(t, m.Addr, dir, "cam-1"))
	expect(t, found["broker"], true, check.Error, m.Addr+" answers")
	expect(t, found["certificate"], true, check.Error, "good for 364 more days")
	expect(t, found["access"], true, check.Error, "limber/v1/demo/cam-1/state is written and read")
}

func TestAnExpiredCertificateIsAnErrorBeforeTheBrokerRefusesIt(t *testing.T) {
	fresh := mustCertificates(t, time.Now(), 365, "cam-1")
	m := brokertest.StartShipped(t, fresh, "")
	expired := mustCertificates(t, time.Now().AddDate(0, 0, -50), 40, "cam-1")
	cfg := device(t, m.Addr, expired, "cam-1")
	cfg.Broker.CAFile = filepath.Join(fresh, "ca.crt")
	found := mustFind(t, cfg)
	day := time.Now().UTC().AddDate(0, 0, -10).Format(time.DateOnly)
	expect(t, found["certificate"], false, check.Error, "expired on "+day)
	expect(t, found["certificate"], false, check.Error, "limber broker certs --renew --device cam-1")
	expect(t, found["broker"], false, check.Error, m.Addr)
	expect(t, found["access"], false, check.Error, "as for broker")
}

func TestACertificateThatExpiresSoonIsAWarning(t *testing.T) {
	dir := mustCertificates(t, time.Now(), 20, "cam-1")
	expect(t, mustFind(t, device(t, "127.0.0.1:1", dir, "cam-1"))["certificate"], false, check.Warning, "in 19 days")
}

func TestACertificateOfTomorrowIsAboutTheClock(t *testing.T) {
	dir := mustCertificates(t, time.Now().AddDate(0, 0, 2), 365, "cam-1")
	expect(t, mustFind(t, device(t, "127.0.0.1:1", dir, "cam-1"))["certificate"], false, check.Error, "set the clock")
}

func TestADeviceWithTheCertificateOfAnotherIsTold(t *testing.T) {
	t.Parallel()
	dir := mustCertificates(t, time.Now(), 365, "cam-1")
	m := brokertest.StartShipped(t, dir, "")
	cfg := device(t, m.Addr, dir, "cam-1")
	cfg.Device = "cam-2"
	found := mustFind(t, cfg)
	expect(t, found["certificate"], false, check.Warning, `is of "cam-1", the device is called cam-2`)
	expect(t, found["access"], false, check.Error,
		`what "cam-1" publishes to limber/v1/demo/cam-2/state does not come back`)
	expect(t, found["access"], false, check.Error, "make them the same")
}

func TestAnAccessListWithoutDevicesIsAnError(t *testing.T) {
	t.Parallel()
	dir := mustCertificates(t, time.Now(), 365, "cam-1")
	acl := filepath.Join(t.TempDir(), "acl")
	mustWrite(t, acl, "pattern read limber/v1/+/%u/job/#\nuser operator\ntopic readwrite limber/#\n")
	m := brokertest.StartShipped(t, dir, acl)
	found := mustFind(t, device(t, m.Addr, dir, "cam-1"))
	expect(t, found["broker"], true, check.Error, "answers")
	expect(t, found["access"], false, check.Error, "broker-config/mosquitto/acl")
}

func TestOneOfTwoBrokersIsAWarning(t *testing.T) {
	m := brokertest.StartMosquitto(t)
	cfg := config.Default()
	cfg.State, cfg.Broker.URL = t.TempDir(), mqtt.URLs{"mqtt://cam:secret@127.0.0.1:1", "mqtt://" + m.Addr}
	found := mustFind(t, cfg)
	f := found["broker"]
	expect(t, f, false, check.Warning, m.Addr+" answers")
	expect(t, found["access"], true, check.Error, "written and read")
	if strings.Contains(f.Detail, "secret") {
		t.Errorf("got %q, with the password", f.Detail)
	}
}

// listener keeps what comes.
type listener struct {
	up    chan bool // whether the broker had a session
	heard chan mqtt.Message
}

func (l listener) Connected(_ uint64, known bool) { l.up <- known }
func (l listener) Denied([]string)                {}
func (l listener) Lost(error)                     {}
func (l listener) Receive(m mqtt.Message, ack func()) {
	ack()
	l.heard <- m
}

// mustLink connects until end is called or the test ends.
func mustLink(tb testing.TB, cfg mqtt.Config) (*mqtt.Link, listener, context.CancelFunc) {
	tb.Helper()
	l := listener{make(chan bool, 16), make(chan mqtt.Message, 16)}
	link, err := mqtt.New(cfg, l, slog.New(slog.DiscardHandler))
	if err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(tb.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		link.Run(ctx)
	}()
	end := func() {
		cancel()
		<-ended
	}
	tb.Cleanup(end)
	return link, l, end
}

func await[T any](tb testing.TB, from <-chan T) T {
	tb.Helper()
	select {
	case v := <-from:
		return v
	case <-time.After(10 * time.Second):
		tb.Fatal("nothing came in 10 s")
		panic("unreachable")
	}
}

func mustPublish(tb testing.TB, l *mqtt.Link, m mqtt.Message) {
	tb.Helper()
	m.QoS = 1
	if err := l.Publish(tb.Context(), m); err != nil {
		tb.Fatal(err)
	}
}

// TestNobodyLearnsAnythingNewFromTheCheckOfAccess looks over the broker's shoulder.
func TestNobodyLearnsAnythingNewFromTheCheckOfAccess(t *testing.T) {
	m := brokertest.StartMosquitto(t)
	cfg := config.Default()
	cfg.State, cfg.Broker.URL = t.TempDir(), mqtt.URLs{"mqtt://" + m.Addr}
	watch := mqtt.Default()
	watch.Broker, watch.ClientID = "tcp://"+m.Addr, "watch"
	watch.Subscriptions = []mqtt.Subscription{{Filter: "#", QoS: 1}}
	link, seen, _ := mustLink(t, watch)
	await(t, seen.up)
	expect(t, mustFind(t, cfg)["access"], true, check.Error, "written and read")
	var s wire.State
	if m := await(t, seen.heard); json.Unmarshal(m.Payload, &s) != nil || s.State != wire.Offline || m.Retained {
		t.Errorf("got %s of a device that never was there, want it offline and not retained", m.Payload)
	}
	state := cfg.Address().State()
	mustPublish(t, link, mqtt.Message{Topic: state, Payload: []byte(`{"schema":1,"state":"online"}`), Retained: true})
	before := await(t, seen.heard)
	expect(t, mustFind(t, cfg)["access"], true, check.Error, "written and read")
	mustPublish(t, link, mqtt.Message{Topic: "end", Payload: []byte("end")})
	if m := await(t, seen.heard); m.Topic != state || string(m.Payload) != string(before.Payload) {
		t.Errorf("got %s %s, want what is retained once more", m.Topic, m.Payload)
	}
	if m := await(t, seen.heard); m.Topic != "end" {
		t.Errorf("got %s %s as well", m.Topic, m.Payload)
	}
}

func TestTheCheckOfAccessFindsTheStateOfADeviceAmongAllThatComesForIt(t *testing.T) {
	m := brokertest.StartMosquitto(t)
	cfg := config.Default()
	cfg.State, cfg.Broker.URL = t.TempDir(), mqtt.URLs{"mqtt://" + m.Addr}
	cfg.Sources = []config.Source{{Name: "gate", Topic: "cam/#"}}
	sender := mqtt.Default()
	sender.Broker, sender.ClientID = "tcp://"+m.Addr, "sender"
	sender.Subscriptions = []mqtt.Subscription{{Filter: cfg.Address().State(), QoS: 1}}
	link, seen, _ := mustLink(t, sender)
	await(t, seen.up)
	for i := range 200 { // far more than a visit keeps
		mustPublish(t, link, mqtt.Message{Topic: fmt.Sprintf("cam/%d", i), Payload: []byte("frame"), Retained: true})
	}
	mustPublish(t, link, mqtt.Message{Topic: cfg.Address().State(), Payload: []byte("online"), Retained: true})
	await(t, seen.heard)
	expect(t, mustFind(t, cfg)["access"], true, check.Error, "written and read")
	if got := await(t, seen.heard); string(got.Payload) != "online" {
		t.Errorf("got %s of a device that is online", got.Payload)
	}
}

// TestWhatWaitsForADeviceOutlastsACheck is with a broker that takes the visitor for the
// device, and with one that does not.
func TestWhatWaitsForADeviceOutlastsACheck(t *testing.T) {
	for _, bound := range []bool{false, true} {
		lines := []string{"allow_anonymous true"}
		if bound {
			lines = append(lines, "use_username_as_clientid true")
		}
		m := brokertest.StartMosquitto(t, lines...)
		cfg := config.Default()
		cfg.State, cfg.Broker.URL, cfg.Broker.User = t.TempDir(), mqtt.URLs{"mqtt://" + m.Addr}, cfg.Device
		own, err := cfg.Link()
		if err != nil {
			t.Fatal(err)
		}
		_, first, end := mustLink(t, own)
		await(t, first.up)
		end()
		sender := mqtt.Default()
		sender.Broker, sender.ClientID, sender.User, sender.CleanSession = "tcp://"+m.Addr, "sender", "sender", true
		link, up, _ := mustLink(t, sender)
		await(t, up.up)
		mustPublish(t, link, mqtt.Message{Topic: cfg.Address().Job("1"), Payload: []byte("frame")})

		want := "written and read"
		if bound {
			want = "not tried"
		}
		if f := mustFind(t, cfg)["access"]; !f.OK || !strings.Contains(f.Detail, want) {
			t.Errorf("bound %v: got %+v, want %q", bound, f, want)
		}
		_, back, _ := mustLink(t, own)
		if !await(t, back.up) {
			t.Errorf("bound %v: the session is gone", bound)
		}
		if got := await(t, back.heard); string(got.Payload) != "frame" {
			t.Errorf("bound %v: got %s, want the frame that waited", bound, got.Payload)
		}
	}
}
