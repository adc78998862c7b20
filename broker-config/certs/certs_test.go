package certs_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	brokerconfig "github.com/limber-edge/limber/broker-config"
	"github.com/limber-edge/limber/broker-config/certs"
)

// request is for a folder, with a broker on this machine.
func request(dir string, devices ...string) certs.Request {
	return certs.Request{Dir: dir, Server: []string{"localhost", "127.0.0.1"}, Days: 30,
		Names: map[brokerconfig.Role][]string{brokerconfig.Device: devices}}
}

func mustMake(tb testing.TB, r certs.Request) []certs.Made {
	tb.Helper()
	if err := r.Validate(); err != nil {
		tb.Fatal(err)
	}
	made, err := certs.Make(r, time.Now())
	if err != nil {
		tb.Fatal(err)
	}
	return made
}

func mustRead(tb testing.TB, path string) []byte {
	tb.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

func mustCert(tb testing.TB, path string) *x509.Certificate {
	tb.Helper()
	block, rest := pem.Decode(mustRead(tb, path))
	if block == nil || block.Type != "CERTIFICATE" || len(rest) > 0 {
		tb.Fatalf("%s: got %+v, want one certificate", path, block)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		tb.Fatal(err)
	}
	return cert
}

func TestACertificateIsForWhatItsNameSays(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "certs")
	now := time.Now()
	mustMake(t, request(dir, "cam-1"))
	ca := mustCert(t, filepath.Join(dir, "ca.crt"))
	if !ca.IsCA || !ca.MaxPathLenZero || ca.KeyUsage != x509.KeyUsageCertSign|x509.KeyUsageCRLSign {
		t.Errorf("authority: got %v, %v, %b", ca.IsCA, ca.MaxPathLenZero, ca.KeyUsage)
	}
	roots := x509.NewCertPool()
	roots.AddCert(ca)
	for _, tt := range []struct {
		file, name string
		usage      x509.ExtKeyUsage
		other      x509.ExtKeyUsage
	}{
		{"server", "localhost", x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		{"cam-1", "cam-1", x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	} {
		c := mustCert(t, filepath.Join(dir, tt.file+".crt"))
		for usage, want := range map[x509.ExtKeyUsage]bool{tt.usage: true, tt.other: false} {
			_, err := c.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{usage}})
			if (err == nil) != want {
				t.Errorf("%s, usage %d: got %v, want it good: %v", tt.file, usage, err, want)
			}
		}
		key, ok := c.PublicKey.(*ecdsa.PublicKey)
		if c.Subject.CommonName != tt.name || !ok || key.Curve != elliptic.P256() || c.SerialNumber.BitLen() < 64 || c.IsCA {
			t.Errorf("%s: got %v, %v, serial number %v", tt.file, c.Subject, c.PublicKeyAlgorithm, c.SerialNumber)
		}
		if before, after := now.Sub(c.NotBefore), c.NotAfter.Sub(now); before < 59*time.Minute || before > 61*time.Minute ||
			after < 29*24*time.Hour || after > 31*24*time.Hour {
			t.Errorf("%s: good from %v to %v", tt.file, c.NotBefore, c.NotAfter)
		}
		if _, err := tls.LoadX509KeyPair(filepath.Join(dir, tt.file+".crt"), filepath.Join(dir, tt.file+".key")); err != nil {
			t.Errorf("%s: %v", tt.file, err)
		}
	}
	for _, host := range []string{"localhost", "127.0.0.1"} {
		if err := mustCert(t, filepath.Join(dir, "server.crt")).VerifyHostname(host); err != nil {
			t.Error(err)
		}
	}
}

func TestC14_KeysAreClosedToOthers(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0))
	dir := filepath.Join(t.TempDir(), "certs")
	r := request(dir, "cam-1")
	r.Names[brokerconfig.Operator] = []string{"operator", "alice"}
	mustMake(t, r)
	all, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range all {
		info, err := f.Info()
		if err != nil {
			t.Fatal(err)
		}
		want := os.FileMode(0o644)
		if strings.HasSuffix(f.Name(), ".key") {
			want = 0o600
		}
		if info.Mode() != want {
			t.Errorf("%s has mode %o, want %o", f.Name(), info.Mode(), want)
		}
		names = append(names, f.Name())
	}
	want := "acl alice.crt alice.key ca.crt ca.key cam-1.crt cam-1.key operator.crt operator.key server.crt server.key"
	if got := strings.Join(names, " "); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestTheAuthorityIsUsedAgainAndNothingElseIsTouched(t *testing.T) {
	dir := t.TempDir()
	mustMake(t, request(dir, "cam-1"))
	before := map[string]string{}
	for _, name := range []string{"ca.crt", "ca.key", "server.crt", "server.key", "cam-1.crt", "cam-1.key"} {
		before[name] = string(mustRead(t, filepath.Join(dir, name)))
	}
	second := request(dir, "cam-2")
	for _, server := range [][]string{nil, {"127.0.0.1", "localhost"}} {
		second.Server = server
		made := mustMake(t, second)
		if len(made) != 1 || made[0].File != filepath.Join(dir, second.Names[brokerconfig.Device][0]+".crt") {
			t.Errorf("got %+v, want the new one alone", made)
		}
		second.Names[brokerconfig.Device] = []string{"cam-3"}
	}
	for name, want := range before {
		if string(mustRead(t, filepath.Join(dir, name))) != want {
			t.Errorf("%s is another", name)
		}
	}
	ca := mustCert(t, filepath.Join(dir, "ca.crt"))
	if err := mustCert(t, filepath.Join(dir, "cam-3.crt")).CheckSignatureFrom(ca); err != nil {
		t.Error(err)
	}
}

func TestWhatIsThereIsNotMadeAgain(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*certs.Request)
		want   string
	}{
		{"a device", func(r *certs.Request) { r.Names[brokerconfig.Device] = []string{"cam-2", "cam-1"} },
			"cam-1.crt is there: --renew"},
		{"a device as an operator", func(r *certs.Request) { r.Names[brokerconfig.Operator] = []string{"cam-1"} },
			"cam-1.crt is there: --renew"},
		{"a broker of another name", func(r *certs.Request) { r.Server = []string{"broker"} },
			"is for 127.0.0.1,localhost: --renew makes it for broker"},
		{"an operator as a device", func(r *certs.Request) { r.Names[brokerconfig.Device] = []string{"alice"} },
			`device "alice": the access list `},
		{"a viewer as an operator", func(r *certs.Request) { r.Names[brokerconfig.Operator] = []string{"bob"} },
			` says viewer: change its lines`},
		{"more days than the authority has", func(r *certs.Request) { r.Days, r.Names = certs.MaxDays, nil }, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			first := request(dir, "cam-1")
			first.Names[brokerconfig.Operator] = []string{"alice"}
			first.Names[brokerconfig.Viewer] = []string{"bob"}
			mustMake(t, first)
			for _, name := range []string{"alice", "bob"} { // moved to where they are used
				for _, suffix := range []string{".crt", ".key"} {
					if err := os.Remove(filepath.Join(dir, name+suffix)); err != nil {
						t.Fatal(err)
					}
				}
			}
			r := request(dir)
			tt.change(&r)
			_, err := certs.Make(r, time.Now())
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
			if _, err := os.Stat(filepath.Join(dir, "cam-2.crt")); err == nil {
				t.Error("one was made beside one that could not be")
			}
		})
	}
}

func TestARenewedCertificateIsForTheSameKey(t *testing.T) {
	dir := t.TempDir()
	mustMake(t, request(dir, "cam-1"))
	file := func(name string) string { return filepath.Join(dir, name) }
	old, key := mustCert(t, file("cam-1.crt")), mustRead(t, file("cam-1.key"))
	for _, where := range []string{"here", "elsewhere"} {
		if where == "elsewhere" {
			if err := os.Remove(file("cam-1.key")); err != nil {
				t.Fatal(err)
			}
		}
		r := request(dir, "cam-1")
		r.Days, r.Renew, r.Server = 60, true, []string{"broker"}
		mustMake(t, r)
		renewed := mustCert(t, file("cam-1.crt"))
		if !renewed.PublicKey.(*ecdsa.PublicKey).Equal(old.PublicKey) || renewed.SerialNumber.Cmp(old.SerialNumber) == 0 ||
			!renewed.NotAfter.After(old.NotAfter) {
			t.Errorf("key %s: got %v until %v, want the same key for longer", where, renewed.SerialNumber, renewed.NotAfter)
		}
	}
	if _, err := tls.X509KeyPair(mustRead(t, file("cam-1.crt")), key); err != nil {
		t.Error(err)
	}
	if got := mustCert(t, file("server.crt")).DNSNames; !slices.Equal(got, []string{"broker"}) {
		t.Errorf("the broker's is for %v, want the new name", got)
	}
}

// A call writes a key before its certificate, and each file whole.
func TestACallThatWasCutOffIsGoneOnWith(t *testing.T) {
	for _, cut := range [][]string{
		{"ca.crt", "server.crt", "server.key", "cam-1.crt", "cam-1.key"},
		{"server.crt", "cam-1.crt", "cam-1.key"},
		{"cam-1.crt"},
	} {
		dir := t.TempDir()
		mustMake(t, request(dir, "cam-1"))
		for _, name := range cut {
			if err := os.Remove(filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
		}
		key := mustRead(t, filepath.Join(dir, "ca.key"))
		mustMake(t, request(dir, "cam-1"))
		if string(mustRead(t, filepath.Join(dir, "ca.key"))) != string(key) {
			t.Errorf("without %v: the authority's key is another", cut)
		}
		for _, name := range []string{"ca", "server", "cam-1"} {
			if _, err := tls.LoadX509KeyPair(filepath.Join(dir, name+".crt"), filepath.Join(dir, name+".key")); err != nil {
				t.Errorf("without %v: %s: %v", cut, name, err)
			}
		}
	}
}

func TestAFolderThatCannotBeUsedIsLeftAsItIs(t *testing.T) {
	other := t.TempDir()
	mustMake(t, request(other, "cam-1"))
	for _, tt := range []struct {
		name, file string
		content    []byte // nil: removed
		want       string
	}{
		{"the authority's key is away", "ca.key", nil, "ca.key is not there, but"},
		{"the authority's key is another's", "ca.key", mustRead(t, filepath.Join(other, "ca.key")), "not of the key in"},
		{"the authority is no PEM", "ca.crt", []byte("x"), "holds no PEM"},
		{"the authority is huge", "ca.crt", make([]byte, 1<<17), "more than 65536"},
		{"a key is another's", "cam-1.key", mustRead(t, filepath.Join(other, "cam-1.key")), "not of the key in"},
		{"a key is a certificate", "cam-1.key", mustRead(t, filepath.Join(other, "cam-1.crt")), "not a key in PKCS #8"},
		{"the list is none", "acl", []byte("allow all\n"), "acl: access list, line 1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			mustMake(t, request(dir, "cam-1"))
			path := filepath.Join(dir, tt.file)
			err := os.Remove(path)
			if tt.content != nil {
				err = os.WriteFile(path, tt.content, 0o600)
			} else if err != nil {
				t.Fatal(err)
			}
			r := request(dir, "cam-1", "cam-2")
			r.Renew = true
			if _, err = certs.Make(r, time.Now()); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
			if _, err := os.Stat(filepath.Join(dir, "cam-2.key")); err == nil {
				t.Error("a key was written")
			}
		})
	}
}

func TestARequestThatCannotBeIsComplainedAbout(t *testing.T) {
	for _, tt := range []struct {
		name string
		role brokerconfig.Role
		want string
	}{
		{"operator", brokerconfig.Device, "who may do more than a device"},
		{"viewer", brokerconfig.Device, "who may do more than a device"},
		{"viewer", brokerconfig.Operator, "the name of another"},
		{"operator", brokerconfig.Viewer, "the name of another"},
		{"homeassistant", brokerconfig.Device, "who may do more than a device"},
		{"homeassistant", brokerconfig.Viewer, "the name of another"},
		{"viewer", brokerconfig.HomeAssistant, "the name of another"},
		{"a/b", brokerconfig.Device, `device: "a/b" is not [A-Za-z0-9_.-]{1,64}`},
		{"@all", brokerconfig.Operator, `operator: "@all" is not`},
		{"", brokerconfig.Viewer, `viewer: "" is not`},
		{strings.Repeat("n", 65), brokerconfig.Device, "is not [A-Za-z0-9_.-]{1,64}"},
		{"server", brokerconfig.Device, "has files of that name"},
		{"ca", brokerconfig.Operator, "has files of that name"},
		{"cam-1", brokerconfig.Operator, `"cam-1" is named twice`},
	} {
		r := request("unused", "cam-1")
		r.Names[tt.role] = append(r.Names[tt.role], tt.name)
		if err := r.Validate(); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s %q: got %v, want %q", tt.role, tt.name, err, tt.want)
		}
	}
	for host, want := range map[string]bool{"broker": true, "broker.example": true, "*.example": true, "::1": true,
		"10.0.0.7": true, "": false, "a b": false, "a..b": false, "-a": false, "mqtts://broker": false, "broker:8883": false,
		strings.Repeat("n", 64): false} {
		r := request("unused")
		r.Server = []string{host}
		if err := r.Validate(); (err == nil) != want {
			t.Errorf("server %q: got %v, want it good: %v", host, err, want)
		}
	}
	r := request("unused")
	r.Server, r.Names = nil, nil
	if err := r.Validate(); err == nil || !strings.Contains(err.Error(), "nothing to make") {
		t.Errorf("nobody: got %v, want that there is nothing to make", err)
	}
	for days, want := range map[int]bool{-1: false, 0: false, 1: true, certs.MaxDays: true, certs.MaxDays + 1: false} {
		r := request("unused")
		if r.Days = days; (r.Validate() == nil) != want {
			t.Errorf("%d days: got %v, want it good: %v", days, r.Validate(), want)
		}
	}
}

func TestADeviceDoesNotBecomeAnOperatorByRenewal(t *testing.T) {
	dir := t.TempDir()
	mustMake(t, request(dir, "cam-1"))
	r := request(dir)
	r.Names, r.Renew = map[brokerconfig.Role][]string{brokerconfig.Operator: {"cam-1"}}, true
	if made, err := certs.Make(r, time.Now()); err == nil || !strings.Contains(err.Error(), "cam-1.crt is that of a device") || len(made) > 0 {
		t.Errorf("got %v, %v; want a complaint and nothing made", made, err)
	}
	if _, err := os.Stat(filepath.Join(dir, "acl")); !os.IsNotExist(err) {
		t.Errorf("the access list: got %v, want none", err)
	}
}

func TestTheListGetsLinesForThoseItDoesNotKnowAndKeepsTheOthers(t *testing.T) {
	dir := t.TempDir()
	r := request(dir, "cam-1")
	r.Names[brokerconfig.Operator] = []string{"operator"}
	r.Names[brokerconfig.Viewer] = []string{"viewer"}
	r.Names[brokerconfig.HomeAssistant] = []string{"homeassistant"}
	mustMake(t, r)
	path := filepath.Join(dir, "acl")
	if _, err := os.Stat(path); err == nil {
		t.Error("a list was written that is the shipped one")
	}
	r.Names = map[brokerconfig.Role][]string{brokerconfig.Operator: {"alice"}, brokerconfig.Viewer: {"bob"},
		brokerconfig.HomeAssistant: {"house"}}
	mustMake(t, r)
	own := string(mustRead(t, path)) + "\npattern read limber/v1/+/@gate/cmd/#\n"
	if err := os.WriteFile(path, []byte(own), 0o640); err != nil {
		t.Fatal(err)
	}
	r.Names = map[brokerconfig.Role][]string{brokerconfig.Operator: {"carol"}, brokerconfig.Viewer: {"bob"}}
	r.Renew = true
	mustMake(t, r)
	text := string(mustRead(t, path))
	if !strings.HasPrefix(text, own) || strings.Count(text, "user bob") != 1 {
		t.Errorf("got %s\nwant what was there, and the lines of carol", text)
	}
	acl, err := certs.AccessList(dir)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]brokerconfig.Role{"operator": brokerconfig.Operator, "alice": brokerconfig.Operator,
		"carol": brokerconfig.Operator, "viewer": brokerconfig.Viewer, "bob": brokerconfig.Viewer,
		"homeassistant": brokerconfig.HomeAssistant, "house": brokerconfig.HomeAssistant, "cam-1": brokerconfig.Device} {
		if got := acl.Role(name); got != want {
			t.Errorf("%s is a %s, want a %s", name, got, want)
		}
	}
}

func TestAServerShowsTheCertificateThatIsThereNow(t *testing.T) {
	dir := t.TempDir()
	mustMake(t, request(dir, "cam-1"))
	cfg, err := certs.Server(dir)
	if err != nil {
		t.Fatal(err)
	}
	shown := func() *x509.Certificate {
		near, far := net.Pipe()
		go func() {
			server := tls.Server(far, cfg)
			server.Handshake()
			io.Copy(io.Discard, server)
		}()
		defer near.Close()
		pool := x509.NewCertPool()
		pool.AppendCertsFromPEM(mustRead(t, filepath.Join(dir, "ca.crt")))
		own, err := tls.LoadX509KeyPair(filepath.Join(dir, "cam-1.crt"), filepath.Join(dir, "cam-1.key"))
		if err != nil {
			t.Fatal(err)
		}
		c := tls.Client(near, &tls.Config{ServerName: "localhost", RootCAs: pool, Certificates: []tls.Certificate{own}})
		if err := c.Handshake(); err != nil {
			t.Fatal(err)
		}
		return c.ConnectionState().PeerCertificates[0]
	}
	before := shown()
	r := request(dir)
	r.Renew = true
	mustMake(t, r)
	if after := shown(); after.SerialNumber.Cmp(before.SerialNumber) == 0 {
		t.Error("it still shows the one before")
	}
	if _, err := certs.Server(t.TempDir()); err == nil {
		t.Error("a folder without certificates was taken")
	}
}

func TestTheCertificateOfAClusterIsAlsoThatOfAClientWithoutAName(t *testing.T) {
	dir := t.TempDir()
	r := request(dir, "cam-1")
	mustMake(t, r)
	r.Names, r.Cluster = nil, true
	if _, err := certs.Make(r, time.Now()); err == nil || !strings.Contains(err.Error(), "--renew") {
		t.Errorf("one that is there and for no cluster: got %v, want to be told of --renew", err)
	}
	for _, r.Cluster = range []bool{true, false} { // renewed without being told again, it stays one
		r.Renew = true
		mustMake(t, r)
		c := mustCert(t, filepath.Join(dir, "server.crt"))
		want := []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
		if !slices.Equal(c.ExtKeyUsage, want) || c.Subject.CommonName != "" {
			t.Errorf("got usages %v of %q, want %v without a name", c.ExtKeyUsage, c.Subject.CommonName, want)
		}
	}
}
