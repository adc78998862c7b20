package devbroker_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/wire"
	brokerconfig "github.com/limber-edge/limber/broker-config"
	"github.com/limber-edge/limber/broker-config/brokertest"
	"github.com/limber-edge/limber/broker-config/certs"
	"github.com/limber-edge/limber/broker-config/devbroker"
)

// way is what a device may do with topics of a kind.
type way int

const (
	up   way = 1 << iota // it publishes them
	down                 // it is sent them
	all                  // so are groups
)

// ways says what there is of each kind of topic.
var ways = map[wire.Kind]way{
	wire.KindState: up | down, // of a rival that has its id
	wire.KindCaps:  up, wire.KindReported: up, wire.KindResult: up, wire.KindAck: up, wire.KindTelemetry: up,
	wire.KindEvent: up, wire.KindSync: up, wire.KindFetch: up,
	wire.KindDesired: down | all, wire.KindJob: down | all, wire.KindCmd: down | all,
	wire.KindFrame: down, wire.KindSynced: down, wire.KindBlob: down,
	wire.KindLabels: 0, wire.KindRollout: 0, // between operators
}

// The users of the table. cam-1 is the device that it looks at; bob looks on by lines of
// his own, alice steers, and house is a Home Assistant by lines of its own.
var users = []string{"cam-1", "cam-2", "viewer", "bob", "homeassistant", "house", "operator", "alice"}

// mustCerts makes the certificates of a fleet with these users.
func mustCerts(tb testing.TB) (dir string) {
	tb.Helper()
	dir = tb.TempDir()
	names := map[brokerconfig.Role][]string{brokerconfig.Device: {"cam-1", "cam-2", "gone"},
		brokerconfig.Viewer: {"viewer", "bob"}, brokerconfig.Operator: {"operator", "alice"},
		brokerconfig.HomeAssistant: {"homeassistant", "house"}}
	_, err := certs.Make(certs.Request{Dir: dir, Server: []string{"127.0.0.1"}, Names: names, Days: 1}, time.Now())
	if err != nil {
		tb.Fatal(err)
	}
	return dir
}

// mustServeCerts runs an embedded broker with the certificates of a folder.
func mustServeCerts(tb testing.TB, dir string) *devbroker.Broker {
	tb.Helper()
	cfg := devbroker.Config{WebSocket: "127.0.0.1:0"}
	var err error
	if cfg.TLS, err = certs.Server(dir); err == nil {
		cfg.ACL, err = certs.AccessList(dir)
	}
	if err != nil {
		tb.Fatal(err)
	}
	return mustRunBroker(tb, cfg)
}

// certBrokers calls f with each broker that knows the fleet by its certificates.
func certBrokers(t *testing.T, f func(t *testing.T, addr, dir string)) {
	dir := mustCerts(t)
	brokersOf(t, dir, func(t *testing.T, addr string) { f(t, addr, dir) })
}

// brokersOf is certBrokers with certificates that are there.
func brokersOf(t *testing.T, dir string, f func(t *testing.T, addr string)) {
	t.Run("mosquitto", func(t *testing.T) {
		t.Parallel()
		f(t, brokertest.StartShipped(t, dir, filepath.Join(dir, "acl")).Addr)
	})
	t.Run("devbroker", func(t *testing.T) {
		t.Parallel()
		f(t, mustServeCerts(t, dir).Addr())
	})
}

// user is a connection of one of the users, which keeps what it is sent.
type user struct {
	*mqtt.Link
	connected chan struct{} // once
	lost      chan error    // of the first attempt

	mu     sync.Mutex
	denied []string
	got    []string      // "topic payload"
	more   chan struct{} // closed and made anew with each
}

func (u *user) Connected(uint64, bool) {
	if u.Counts().Denied == 0 {
		u.tellConnected()
	}
}

// tellConnected may be called again: a machine that stalls loses a connection.
func (u *user) tellConnected() {
	select {
	case u.connected <- struct{}{}:
	default:
	}
}

func (u *user) Denied(filters []string) {
	if u.denied == nil {
		u.denied = filters
		u.tellConnected()
	}
}

func (u *user) Lost(err error) {
	select {
	case u.lost <- err:
	default:
	}
}

func (u *user) Receive(m mqtt.Message, ack func()) {
	ack()
	u.mu.Lock()
	defer u.mu.Unlock()
	u.got = append(u.got, m.Topic+" "+string(m.Payload))
	close(u.more)
	u.more = make(chan struct{})
}

// until returns what came before something, without it.
func (u *user) until(t *testing.T, last string) (got []string) {
	t.Helper()
	for expired := time.After(patience); ; {
		u.mu.Lock()
		got, more := u.got, u.more
		u.mu.Unlock()
		if at := slices.Index(got, last); at >= 0 {
			return got[:at]
		}
		select {
		case <-more:
		case <-expired:
			t.Fatalf("%q did not come", last)
		}
	}
}

func linkOf(addr, dir, name string) mqtt.Config {
	cfg := mqtt.Default()
	cfg.Broker, cfg.ClientID, cfg.CleanSession = "mqtts://"+addr, name+"-"+rand.Text()[:6], true
	cfg.CAFile = filepath.Join(dir, "ca.crt")
	cfg.CertFile, cfg.KeyFile = filepath.Join(dir, name+".crt"), filepath.Join(dir, name+".key")
	return cfg
}

// mustUser returns a user that is subscribed to filters, so far as it is let.
func mustUser(t *testing.T, cfg mqtt.Config, filters ...string) *user {
	t.Helper()
	u, err := tryUser(t, cfg, filters...)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// tryUser is mustUser for one that may be refused.
func tryUser(t *testing.T, cfg mqtt.Config, filters ...string) (*user, error) {
	t.Helper()
	u := &user{connected: make(chan struct{}, 1), lost: make(chan error, 1), more: make(chan struct{})}
	for _, f := range filters {
		cfg.Subscriptions = append(cfg.Subscriptions, mqtt.Subscription{Filter: f, QoS: 1})
	}
	var err error
	if u.Link, err = mqtt.New(cfg, u, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- u.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	select {
	case <-u.connected:
		return u, nil
	case err := <-u.lost:
		return nil, fmt.Errorf("%s was not connected: %w", cfg.ClientID, err)
	case <-time.After(patience):
		return nil, fmt.Errorf("%s was not connected", cfg.ClientID)
	}
}

func (u *user) mustPublish(t *testing.T, topic, payload string) {
	t.Helper()
	u.mustSend(t, mqtt.Message{Topic: topic, Payload: []byte(payload), QoS: 1})
}

func (u *user) mustSend(t *testing.T, m mqtt.Message) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := u.Publish(ctx, m); err != nil {
		t.Fatalf("publish to %s: %v", m.Topic, err)
	}
}

// topicOf is a topic of a kind.
func topicOf(to string, kind wire.Kind) string {
	filter := wire.Address{Fleet: "yard", Device: to}.Filter(kind)
	if kind == wire.KindCmd || kind == wire.KindAck {
		return strings.Replace(filter, "#", "mode/1", 1)
	}
	return strings.Replace(filter, "#", "1", 1)
}

// cell is a row of the table: a topic, and who may do what with it.
type cell struct {
	topic              string
	publishers, sentTo []string
}

// table is made of the kinds that there are.
func table(t *testing.T) (cells []cell) {
	for _, kind := range wire.Kinds() {
		w, ok := ways[kind]
		if !ok {
			t.Errorf("nothing is said of who may do what with %s", kind)
		}
		own := cell{topicOf("cam-1", kind), []string{"operator", "alice"}, []string{"operator", "alice", "viewer", "bob"}}
		group := own
		group.topic = topicOf(wire.Everybody, kind)
		if shown(kind) {
			own.sentTo = append(slices.Clone(own.sentTo), "homeassistant", "house")
		}
		if w&up > 0 {
			own.publishers = append(slices.Clone(own.publishers), "cam-1")
		}
		if w&down > 0 {
			own.sentTo = append(slices.Clone(own.sentTo), "cam-1")
		}
		if w&all > 0 {
			group.sentTo = append(slices.Clone(group.sentTo), "cam-1", "cam-2")
		}
		cells = append(cells, own, group)
	}
	steerers := []string{"operator", "alice"}
	houses := []string{"homeassistant", "house"}
	cells = append(cells,
		cell{"homeassistant/device/limber-yard-cam-1/config", steerers, append(slices.Clone(steerers), houses...)},
		cell{"homeassistant/status", append(slices.Clone(houses), steerers...), append(slices.Clone(steerers), houses...)},
		cell{"limber-ha/yard/cam-1/mode/set", append(slices.Clone(houses), steerers...), steerers},
		cell{"limber-ha/yard/cam-1/goal/set", steerers, steerers},
		cell{"limber/v1/yard/homeassistant/state", steerers, []string{"operator", "alice", "viewer", "bob", "house"}})
	return append(cells, cell{"limber/v1/yard/cam-1/unheard", steerers, []string{"operator", "alice", "viewer", "bob"}},
		cell{"limber/v1/yard/viewer/state", steerers, // no device can be there
			[]string{"operator", "alice", "bob", "homeassistant", "house"}},
		cell{"other", nil, nil}, cell{"$SYS/broker/mine", nil, steerers})
}

// shown tells whether entities of Home Assistant read topics of a kind.
func shown(kind wire.Kind) bool {
	return slices.Contains([]wire.Kind{wire.KindState, wire.KindCaps, wire.KindReported, wire.KindTelemetry}, kind)
}

// TestC15_BothBrokersGiveEachUserTheSameRights has every user publish to every topic:
// what each is then sent of them is what both may do, the one to publish, the other to
// subscribe.
func TestC15_BothBrokersGiveEachUserTheSameRights(t *testing.T) {
	t.Parallel()
	cells := table(t)
	for _, tt := range []struct {
		name    string
		filters func(user string) []string
		wide    bool // they match more than they name, of which a user may read some
	}{
		{"each topic", func(string) []string { return topics(cells, "") }, false},
		{"each topic, shared", func(user string) []string { return topics(cells, "$share/"+user+"/") }, false},
		{"whatever there is", func(string) []string {
			return []string{"#", "limber/#", "+/v1/yard/cam-1/#", "$SYS/broker/#"}
		}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			certBrokers(t, func(t *testing.T, addr, dir string) {
				connected := map[string]*user{}
				for _, name := range users {
					connected[name] = mustUser(t, linkOf(addr, dir, name), append(tt.filters(name), markOf(name))...)
				}
				for _, name := range users {
					for _, c := range cells {
						connected[name].mustPublish(t, c.topic, name)
					}
					connected[name].mustPublish(t, "other", "last") // those before have been handed on by its PUBACK
				}
				for _, name := range users {
					connected["operator"].mustPublish(t, markOf(name), name)
				}
				for _, name := range users {
					for _, c := range cells {
						checkCell(t, c, name, connected[name], connected[name].until(t, markOf(name)+" "+name), tt.wide)
					}
				}
			})
		})
	}
}

// markOf is a topic that a user may read.
func markOf(name string) string {
	if name == "homeassistant" || name == "house" {
		return "homeassistant/mark"
	}
	return "limber/v1/yard/@all/job/mark"
}

// topics are the filters of the table's topics.
func topics(cells []cell, prefix string) (filters []string) {
	for _, c := range cells {
		filters = append(filters, prefix+c.topic)
	}
	return filters
}

// checkCell compares what came to a user of a topic with the table. Where filters are
// wide the embedded broker has refused those of devices, and mosquitto has not.
func checkCell(t *testing.T, c cell, name string, u *user, got []string, wide bool) {
	t.Helper()
	reads := slices.Contains(c.sentTo, name)
	for _, from := range users {
		want := reads && slices.Contains(c.publishers, from)
		came := slices.Contains(got, c.topic+" "+from)
		if refused := wide && want && len(u.denied) > 1; came != want && !refused {
			t.Errorf("%s, published by %s: %s was sent it: %v, want %v", c.topic, from, name, came, want)
		}
	}
	refused := slices.ContainsFunc(u.denied, func(f string) bool { return strings.HasSuffix(f, c.topic) })
	if !wide && len(u.denied) > 0 && refused == reads { // mosquitto grants each and sends nothing
		t.Errorf("%s: %s may subscribe: %v, want %v", c.topic, name, !refused, reads)
	}
}

func TestC15_BothBrokersKeepWhatIsRetainedByWhoMayPublishAlone(t *testing.T) {
	t.Parallel()
	cells := table(t)
	certBrokers(t, func(t *testing.T, addr, dir string) {
		for _, name := range users {
			u := mustUser(t, linkOf(addr, dir, name))
			for _, c := range cells {
				u.mustSend(t, mqtt.Message{Topic: c.topic, Payload: []byte(name), QoS: 1, Retained: true})
			}
			u.mustPublish(t, "other", "last")
		}
		late := mustUser(t, linkOf(addr, dir, "alice"), topics(cells, "")...)
		late.mustPublish(t, "limber/v1/yard/cam-1/unheard", "mark")
		got := late.until(t, "limber/v1/yard/cam-1/unheard mark")
		for _, c := range cells {
			for _, name := range users {
				newest := len(c.publishers) > 0 && name == slices.MaxFunc(c.publishers, byTurn)
				if slices.Contains(got, c.topic+" "+name) != newest {
					t.Errorf("%s: what %s published is retained: %v, want %v", c.topic, name, !newest, newest)
				}
			}
		}
	})
}

// byTurn is the order in which users publish.
func byTurn(a, b string) int { return slices.Index(users, a) - slices.Index(users, b) }

// The embedded broker refuses who would leave a will that is not allowed; mosquitto takes
// it and never publishes it.
func TestC15_BothBrokersPublishAWillOnlyForWhoMayPublish(t *testing.T) {
	t.Parallel()
	cells := table(t)
	certBrokers(t, func(t *testing.T, addr, dir string) {
		watch := mustUser(t, linkOf(addr, dir, "alice"), topics(cells, "")...)
		for _, name := range []string{"cam-1", "cam-2", "viewer", "bob", "operator"} {
			for _, c := range cells {
				may := slices.Contains(c.publishers, name)
				if taken := leaveWill(t, linkOf(addr, dir, name), c.topic, name); may && taken {
					watch.until(t, c.topic+" "+name)
				} else if may {
					t.Errorf("%s: %s may not leave a will", c.topic, name)
				}
			}
		}
		last := topicOf("cam-1", wire.KindState)
		leaveWill(t, linkOf(addr, dir, "cam-1"), last, "last")
		for _, got := range watch.until(t, last+" last") {
			topic, name, _ := strings.Cut(got, " ")
			i := slices.IndexFunc(cells, func(c cell) bool { return c.topic == topic })
			if !slices.Contains(cells[i].publishers, name) {
				t.Errorf("got a will of %s on %s", name, topic)
			}
		}
	})
}

// leaveWill connects, and hangs up without a word. It is false where the broker refuses
// the connection.
func leaveWill(t *testing.T, cfg mqtt.Config, topic, payload string) bool {
	t.Helper()
	var carrier net.Conn
	cfg.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, network, address)
		carrier = conn
		return conn, err
	}
	cfg.Will = func(uint64) mqtt.Message { return mqtt.Message{Topic: topic, Payload: []byte(payload), QoS: 1} }
	cfg.BackoffMin, cfg.BackoffMax = time.Hour, time.Hour
	_, err := tryUser(t, cfg)
	if err == nil {
		carrier.Close()
	}
	return err == nil
}

// mustRunBroker runs a broker for the length of the test.
func mustRunBroker(tb testing.TB, cfg devbroker.Config) *devbroker.Broker {
	tb.Helper()
	cfg.Listen = "127.0.0.1:0"
	b, err := devbroker.New(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- b.Run(ctx) }()
	tb.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			tb.Errorf("run: %v", err)
		}
	})
	return b
}

// Who shows no certificate of the fleet's own authority, or says to be somebody else, is
// nobody.
func TestC15_OnlyACertificateOfTheFleetOpensTheDoorAndItsNameCounts(t *testing.T) {
	t.Parallel()
	certBrokers(t, func(t *testing.T, addr, dir string) {
		foreign := mustCerts(t)
		for _, tt := range []struct {
			name   string
			change func(*mqtt.Config)
		}{
			{"no certificate", func(c *mqtt.Config) { c.CertFile, c.KeyFile = "", "" }},
			{"no certificate, but a name", func(c *mqtt.Config) { c.CertFile, c.KeyFile, c.User = "", "", "operator" }},
			{"another fleet's", func(c *mqtt.Config) {
				c.CertFile, c.KeyFile = filepath.Join(foreign, "operator.crt"), filepath.Join(foreign, "operator.key")
			}},
			{"the broker's own", func(c *mqtt.Config) {
				c.CertFile, c.KeyFile = filepath.Join(dir, "server.crt"), filepath.Join(dir, "server.key")
			}},
			{"not encrypted", func(c *mqtt.Config) {
				c.Broker, c.CAFile, c.CertFile, c.KeyFile = "mqtt://"+addr, "", "", ""
			}},
		} {
			cfg := linkOf(addr, dir, "cam-1")
			cfg.ConnectTimeout = time.Second
			tt.change(&cfg)
			if _, err := tryUser(t, cfg); err == nil {
				t.Errorf("%s: was let in", tt.name)
			}
		}
		command, state := topicOf("cam-1", wire.KindCmd), topicOf("cam-1", wire.KindState)
		watch := mustUser(t, linkOf(addr, dir, "operator"), command, state)
		disguised := linkOf(addr, dir, "cam-1")
		disguised.User, disguised.Password = "operator", "x"
		u := mustUser(t, disguised)
		u.mustPublish(t, command, "steer")
		u.mustPublish(t, state, "speak")
		if got := watch.until(t, state+" speak"); len(got) > 0 {
			t.Errorf("a device that says to be the operator sent %q", got)
		}
	})
}

// There is no list of certificates that were taken back.
func TestC15_ANameThatIsDeniedEverythingIsHeardByNobody(t *testing.T) {
	t.Parallel()
	dir := mustCerts(t)
	path := filepath.Join(dir, "acl")
	text, err := os.ReadFile(path)
	if err == nil {
		err = os.WriteFile(path, append(text, "\nuser gone\ntopic deny #\n"...), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	own, command, others := topicOf("gone", wire.KindState), topicOf("gone", wire.KindCmd), topicOf("cam-1", wire.KindState)
	brokersOf(t, dir, func(t *testing.T, addr string) {
		watch := mustUser(t, linkOf(addr, dir, "alice"), own, others)
		gone, err := tryUser(t, linkOf(addr, dir, "gone"), command)
		if err != nil {
			t.Fatal(err)
		}
		watch.mustPublish(t, command, "steer")
		gone.mustPublish(t, own, "speak")
		gone.mustPublish(t, "other", "last")
		mustUser(t, linkOf(addr, dir, "cam-1")).mustPublish(t, others, "it")
		if got := watch.until(t, others+" it"); len(got) > 0 {
			t.Errorf("was heard: %q", got)
		}
		gone.mu.Lock()
		defer gone.mu.Unlock()
		if len(gone.got) > 0 {
			t.Errorf("was told: %q", gone.got)
		}
	})
}

// The same rights hold over a WebSocket.
func TestC15_ACertificateSaysWhoComesOverAWebSocket(t *testing.T) {
	t.Parallel()
	dir := mustCerts(t)
	addr := "wss://" + mustServeCerts(t, dir).WebSocketAddr() + "/mqtt"
	login := func(name string) mqtt.Config {
		cfg := linkOf("", dir, name)
		cfg.Broker = addr
		return cfg
	}
	command, state := topicOf("cam-1", wire.KindCmd), topicOf("cam-1", wire.KindState)
	watch := mustUser(t, login("viewer"), command, state)
	device := mustUser(t, login("cam-1"), command, topicOf("cam-2", wire.KindCmd))
	if want := []string{topicOf("cam-2", wire.KindCmd)}; !slices.Equal(device.denied, want) {
		t.Errorf("a device was denied %v, want %v", device.denied, want)
	}
	device.mustPublish(t, command, "steer")
	device.mustPublish(t, state, "speak")
	if got := watch.until(t, state+" speak"); len(got) > 0 {
		t.Errorf("a device sent %q", got)
	}
	nobody := login("cam-1")
	nobody.CertFile, nobody.KeyFile = "", ""
	if _, err := tryUser(t, nobody); err == nil {
		t.Error("nobody was let in")
	}
}

func TestASessionIsOnlyGivenBackToItsCertificate(t *testing.T) {
	t.Parallel()
	dir := mustCerts(t)
	addr := mustServeCerts(t, dir).Addr()
	login := func(name, id string) mqtt.Config {
		cfg := linkOf(addr, dir, name)
		cfg.ClientID, cfg.CleanSession = id, false
		return cfg
	}
	for _, tt := range []struct {
		name, id string
		want     bool
	}{
		{"cam-1", "cam-1", true}, {"cam-2", "cam-1", false}, {"operator", "cam-1", false},
		{"cam-1", "cam-2", true}, // nobody had it yet
		{"cam-2", "cam-2", true}, // and it is its own
		{"cam-1", "cam-2", false},
	} {
		if _, err := tryUser(t, login(tt.name, tt.id)); (err == nil) != tt.want {
			t.Errorf("%s asks for %s: got %v, want it given: %v", tt.name, tt.id, err, tt.want)
		}
	}
}
