package brokercheck

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/wire"
	brokerconfig "github.com/limber-edge/limber/broker-config"
	"github.com/limber-edge/limber/broker-config/brokertest"
	"github.com/limber-edge/limber/broker-config/certs"
	"github.com/limber-edge/limber/broker-config/devbroker"
	"github.com/limber-edge/limber/broker-config/natstest"
)

// mustCheck does all checks and returns what they found by their names.
func mustCheck(tb testing.TB, cfg Config) map[string]Result {
	tb.Helper()
	began := time.Now()
	found := map[string]Result{}
	err := Run(tb.Context(), cfg, func(string) {}, func(r Result) { found[r.Check] = r })
	if err != nil {
		tb.Fatal(err)
	}
	if got, want := slices.Sorted(maps.Keys(found)), slices.Sorted(slices.Values(Names())); !slices.Equal(got, want) {
		tb.Fatalf("checked %v, want %v", got, want)
	}
	if took := time.Since(began); took > time.Minute {
		tb.Errorf("the checks took %v, want at most a minute", took)
	}
	return found
}

// as is the config of a broker that believes in names: those of an operator and of a
// device, which may be empty.
func as(address, operator, device string) Config {
	url := mqtt.URLs{address}
	return Config{Name: device,
		Operator: mqtt.Broker{URL: url, User: operator}, Device: mqtt.Broker{URL: url, User: device}}
}

// shippedMosquitto is the one of the files that are shipped, with certificates.
func shippedMosquitto(tb testing.TB) Config {
	dir := filepath.Join(tb.TempDir(), "certs")
	names := map[brokerconfig.Role][]string{brokerconfig.Operator: {wire.Operator}, brokerconfig.Device: {"cam-1"}}
	request := certs.Request{Dir: dir, Server: []string{"127.0.0.1"}, Names: names, Days: 1}
	if _, err := certs.Make(request, time.Now()); err != nil {
		tb.Fatal(err)
	}
	url := mqtt.URLs{"mqtts://" + brokertest.StartShipped(tb, dir, "").Addr}
	holder := func(name string) mqtt.Broker {
		file := filepath.Join(dir, name)
		return mqtt.Broker{URL: url, CAFile: filepath.Join(dir, "ca.crt"), CertFile: file + ".crt", KeyFile: file + ".key"}
	}
	return Config{Operator: holder(wire.Operator), Device: holder("cam-1"), Name: "cam-1"}
}

// envBroker makes the test's program the embedded broker: its library has a data race
// over retained messages.
const envBroker = "LIMBER_TEST_BROKER"

func TestMain(m *testing.M) {
	natstest.Main()
	if addr := os.Getenv(envChecked); addr != "" {
		checkUntilKilled(addr)
		return
	}
	if os.Getenv(envBroker) == "" {
		m.Run()
		return
	}
	b, err := devbroker.New(devbroker.Config{Listen: "127.0.0.1:0"}, slog.New(slog.DiscardHandler))
	if err == nil {
		fmt.Println(b.Addr())
		err = b.Run(context.Background())
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

func embedded(tb testing.TB) Config {
	var addr string
	if _, err := fmt.Fscanln(mustSelf(tb, envBroker+"=1").stdout, &addr); err != nil {
		tb.Fatalf("the embedded broker did not start: %v", err)
	}
	return as(addr, "", "cam-1")
}

// process is the test's program started again, until it or the test ends.
type process struct {
	*exec.Cmd
	stdout io.Reader
}

// mustSelf starts it with one more variable in its environment.
func mustSelf(tb testing.TB, variable string) *process {
	tb.Helper()
	exe, err := os.Executable()
	if err != nil {
		tb.Fatal(err)
	}
	p := &process{Cmd: exec.Command(exe)}
	p.Env = append(os.Environ(), variable)
	if p.stdout, err = p.StdoutPipe(); err == nil {
		err = p.Start()
	}
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(p.kill)
	return p
}

func (p *process) kill() {
	p.Process.Kill()
	p.Wait() // reports the kill
}

// columns are the brokers of the README's table.
func columns() map[string]func(testing.TB) Config {
	return map[string]func(testing.TB) Config{
		"mosquitto":       shippedMosquitto,
		"`limber broker`": embedded,
		"NATS 2.15":       natsCluster,
		"aedes 1.2.0":     func(tb testing.TB) Config { return as(startAedes(tb), "", "") },
	}
}

// TestTheTableOfBrokersIsWhatTheChecksFind runs them and reads the README.
func TestTheTableOfBrokersIsWhatTheChecksFind(t *testing.T) {
	t.Parallel()
	table := mustReadTable(t)
	for broker, start := range columns() {
		t.Run(broker, func(t *testing.T) {
			t.Parallel()
			column, ok := table[broker]
			if !ok {
				t.Fatalf("the README's table has no column %s", broker)
			}
			for check, r := range mustCheck(t, start(t)) {
				if got := cell(r); column[check] != got {
					t.Errorf("%s: the README says %q, want %q (%s)", check, column[check], got, r.Got)
				}
			}
		})
	}
}

// cell is what the table says of a result.
func cell(r Result) string {
	switch {
	case r.Got == Skipped:
		return "skipped"
	case r.OK:
		return "yes"
	}
	return "no: " + r.Got
}

// mustReadTable returns the table's cells by the names of brokers and of checks.
func mustReadTable(tb testing.TB) map[string]map[string]string {
	tb.Helper()
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		tb.Fatal(err)
	}
	const begins = "| check | mosquitto |"
	_, rest, ok := strings.Cut(string(text), "\n"+begins)
	if !ok {
		tb.Fatal("the README has no table that begins with " + begins)
	}
	lines := strings.Split(begins+rest, "\n")
	brokers := cells(lines[0])[1:]
	table := map[string]map[string]string{}
	for _, b := range brokers {
		table[b] = map[string]string{}
	}
	for _, line := range lines[2:] {
		row := cells(line)
		if len(row) != len(brokers)+1 {
			break
		}
		for i, b := range brokers {
			table[b][strings.Trim(row[0], "`")] = row[i+1]
		}
	}
	return table
}

// cells are those of a table's line.
func cells(line string) (cells []string) {
	for c := range strings.SplitSeq(strings.Trim(line, "|"), "|") {
		cells = append(cells, strings.TrimSpace(c))
	}
	return cells
}

// TestN20_AMosquittoAsItComesIsToldWhatToSet also stands for what else a mosquitto
// without a configuration lacks.
func TestN20_AMosquittoAsItComesIsToldWhatToSet(t *testing.T) {
	t.Parallel()
	m := brokertest.StartMosquitto(t, "allow_anonymous true", "set_tcp_nodelay false")
	found := mustCheck(t, as(m.Addr, "", "cam-1"))
	remedies := map[string]string{"latency": "set_tcp_nodelay", "inflight": "max_inflight_messages",
		"denied_subscribe": "access list", "denied_publish": "access list"}
	for check, r := range found {
		remedy, fails := remedies[check]
		switch {
		case fails && (r.OK || !strings.Contains(r.Remedy, remedy)):
			t.Errorf("%s: got %+v, want a remedy with %q", check, r, remedy)
		case !fails && (!r.OK || r.Remedy != ""):
			t.Errorf("%s: got %+v, want it to hold", check, r)
		}
	}
	if got, want := found["inflight"].Got, "20 unacknowledged at once"; got != want {
		t.Errorf("inflight: got %q, want %q", got, want)
	}
}

// retained are the topics that the broker retains below the fleet of the checks.
func retained(tb testing.TB, cfg Config) (topics []string) {
	tb.Helper()
	c, err := probe{cfg}.open(tb.Context(), "test", subscribed(everything))
	if err != nil {
		tb.Fatal(err)
	}
	defer c.close()
	messages, err := c.pending(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	for _, m := range messages {
		topics = append(topics, m.Topic)
	}
	return topics
}

func TestNothingStaysRetainedWhereverTheChecksAreInterrupted(t *testing.T) {
	t.Parallel()
	cfg := as(brokertest.StartMosquitto(t).Addr, "", "")
	for _, at := range []string{"retain", "retain_clear", "will", "session"} {
		ctx, interrupt := context.WithCancel(t.Context())
		err := Run(ctx, cfg, func(name string) {
			if name == at {
				time.AfterFunc(3*time.Millisecond, interrupt)
			}
		}, func(Result) {})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("interrupted in %s: got %v, want %v", at, err, context.Canceled)
		}
		if left := retained(t, cfg); len(left) > 0 {
			t.Errorf("interrupted in %s: %v is retained", at, left)
		}
	}
}

// envChecked makes the test's program check a broker.
const envChecked = "LIMBER_TEST_CHECKED"

// checkUntilKilled says which check begins.
func checkUntilKilled(addr string) {
	Run(context.Background(), as(addr, "", ""), func(name string) { fmt.Println(name) }, func(Result) {})
}

func TestNothingStaysRetainedWhereverTheChecksAreKilled(t *testing.T) {
	t.Parallel()
	m := brokertest.StartMosquitto(t)
	cfg := as(m.Addr, "", "")
	for i, at := range []string{"retain", "retain", "retain", "retain_clear", "retain_clear", "will", "will", "session"} {
		c := mustSelf(t, envChecked+"="+m.Addr)
		for lines := bufio.NewScanner(c.stdout); lines.Scan() && lines.Text() != at; {
		}
		<-time.After(time.Duration(i) * time.Millisecond)
		c.kill()
		late := time.Now().Add(5 * time.Second) // until the broker has seen the end of each connection
		for len(retained(t, cfg)) > 0 {
			if time.Now().After(late) {
				t.Fatalf("killed in %s: %v is retained", at, retained(t, cfg))
			}
		}
	}
}

// TestWhatAKilledRunRetainedIsClearedByTheNext has it stand there as after a kill:
// nobody cleared it.
func TestWhatAKilledRunRetainedIsClearedByTheNext(t *testing.T) {
	t.Parallel()
	cfg := as(brokertest.StartMosquitto(t).Addr, "", "")
	c, err := probe{cfg}.open(t.Context(), "killed")
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	for i := range 50 {
		if err := c.retain(t.Context(), topic(fmt.Sprintf("cam-%d", i), "state"), "lost"); err != nil {
			t.Fatal(err)
		}
	}
	other := "limber/v1/plant/cam-1/state"
	if err := c.retain(t.Context(), other, "online"); err != nil {
		t.Fatal(err)
	}
	mustCheck(t, cfg)
	if left := retained(t, cfg); len(left) > 0 {
		t.Errorf("%v is retained", left)
	}
	if err := (probe{cfg}).retains(t.Context(), other, "online"); err != nil {
		t.Errorf("what another fleet retains: %v", err)
	}
}

func TestAUserWhoMayNotReadIsToldToComeAsTheOperator(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]Config{"embedded": embedded(t), "mosquitto": shippedMosquitto(t)} {
		cfg.Operator = cfg.Device
		err := Run(t.Context(), cfg, func(string) {}, func(r Result) { t.Errorf("%s: checked %s", name, r.Check) })
		if err == nil || !strings.Contains(err.Error(), "as the operator") {
			t.Errorf("%s: got %v, want to be told to come as the operator", name, err)
		}
	}
}

func TestACheckIsGivenUpAtItsLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := check{name: "slow", remedy: "hurry", limit: 4 * time.Second,
			run: func(ctx context.Context, _ probe) (string, error) {
				<-ctx.Done()
				return "", fmt.Errorf("asked: %w", ctx.Err())
			}}
		began := time.Now()
		got := c.do(t.Context(), probe{})
		if want := (Result{Check: "slow", Got: "nothing within 4s", Remedy: "hurry"}); got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
		if took := time.Since(began); took != c.limit {
			t.Errorf("it took %v, want %v", took, c.limit)
		}
		late, cancel := context.WithTimeout(t.Context(), 0)
		defer cancel()
		if got := c.do(late, probe{}); got.OK || got.Got != "no time left" {
			t.Errorf("after the limit of all: got %+v", got)
		}
	})
	if all := limit + lastSweep; all > time.Minute {
		t.Errorf("all checks may take %v, want less than a minute", all)
	}
}

func TestWhatNeedsADeviceIsSkippedWithoutOne(t *testing.T) {
	for _, c := range checks() {
		if !c.device {
			continue
		}
		if r := c.do(t.Context(), probe{}); !r.OK || r.Got != Skipped || r.Remedy == "" {
			t.Errorf("%s: got %+v, want it skipped, with how not to", c.name, r)
		}
	}
}

// mustCertify writes a certificate of a common name and returns its file.
func mustCertify(tb testing.TB, name string) string {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		tb.Fatal(err)
	}
	path := filepath.Join(tb.TempDir(), "device.crt")
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		tb.Fatal(err)
	}
	return path
}

func TestADeviceIsNamedByItsCertificateOrItsUser(t *testing.T) {
	none := filepath.Join(t.TempDir(), "none")
	if err := os.WriteFile(none, []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name   string
		broker mqtt.Broker
		want   string
		ok     bool
	}{
		{"neither", mqtt.Broker{}, "", true},
		{"a user", mqtt.Broker{User: "cam-1"}, "cam-1", true},
		{"a certificate", mqtt.Broker{CertFile: mustCertify(t, "a.b")}, "a.b", true},
		{"a certificate of no device", mqtt.Broker{CertFile: mustCertify(t, "two words")}, "", false},
		{"no certificate", mqtt.Broker{CertFile: none}, "", false},
		{"no file", mqtt.Broker{CertFile: none + ".crt"}, "", false},
	} {
		if got, err := DeviceName(tt.broker); got != tt.want || (err == nil) != tt.ok {
			t.Errorf("%s: got %q, %v; want %q, %v", tt.name, got, err, tt.want, tt.ok)
		}
	}
}
