package mqtt

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// overPipes makes cfg reach a broker of the test's own script without a network,
// and returns what was asked for.
func overPipes(cfg *Config, script func(evilConn)) (dialled *[]string) {
	dialled = new([]string)
	cfg.Dial = func(_ context.Context, network, address string) (net.Conn, error) {
		*dialled = append(*dialled, network+" "+address)
		ours, theirs := net.Pipe()
		go func() {
			defer theirs.Close()
			script(evilConn{theirs, bufio.NewReader(theirs)})
		}()
		return ours, nil
	}
	return dialled
}

func TestALinkOverAnInjectedConnectionComesBackAfterACutAndASilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := quick("mqtt://broker.invalid")
		cut, silent := make(chan bool), make(chan bool)
		dialled := overPipes(&cfg, func(c evilConn) {
			c.accept()
			select {
			case <-cut:
			case <-silent:
				c.drain() // hears, and answers nothing
			}
		})
		_, h, stop := mustRun(t, cfg)
		<-h.connected
		cut <- true
		<-h.lost
		<-h.connected
		began := time.Now()
		silent <- true
		<-h.lost
		if took, most := time.Since(began), cfg.KeepAlive+cfg.PingTimeout; took > most {
			t.Errorf("a silent broker was given up after %v, want at most %v", took, most)
		}
		<-h.connected
		if want := slices.Repeat([]string{"tcp broker.invalid:1883"}, 3); !slices.Equal(*dialled, want) {
			t.Errorf("dialled %q, want %q", *dialled, want)
		}
		close(cut)
		stop()
	})
}

func TestAMessageIsDeliveredOverAnInjectedConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := quick("mqtt://broker.invalid")
		overPipes(&cfg, func(c evilConn) {
			c.accept()
			_, publish := c.hear()
			id := publish[2+len("state") : 4+len("state")]
			<-time.After(time.Second) // a slow link
			c.say("\x40\x02" + string(id))
			c.drain()
		})
		l, h, stop := mustRun(t, cfg)
		<-h.connected
		began := time.Now()
		if err := l.Publish(t.Context(), Message{Topic: "state", Payload: []byte("online"), QoS: 1}); err != nil {
			t.Errorf("publish: %v", err)
		}
		if took := time.Since(began); took != time.Second {
			t.Errorf("acknowledged after %v, want the second of the link", took)
		}
		stop()
	})
}

func TestWhatDialGivesIsEncryptedWhereTheSchemeAsks(t *testing.T) {
	a := newAuthority(t)
	a.issue("server", nil)
	pair, err := tls.LoadX509KeyPair(a.file("server.crt"), a.file("server.key"))
	if err != nil {
		t.Fatal(err)
	}
	cfg := quick("mqtts://127.0.0.1")
	cfg.CAFile = a.file("ca.crt")
	overPipes(&cfg, func(c evilConn) {
		c = secured(c, &tls.Config{Certificates: []tls.Certificate{pair}})
		c.accept()
		c.drain()
	})
	_, h, _ := mustRun(t, cfg)
	await(t, h.connected)
}

func TestWhyDialFailedIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		away := errors.New("the modem is off")
		cfg := quick("mqtt://broker.invalid")
		cfg.Dial = func(context.Context, string, string) (net.Conn, error) { return nil, away }
		_, h, stop := mustRun(t, cfg)
		if err := <-h.lost; !errors.Is(err, away) {
			t.Errorf("got %v, want %v", err, away)
		}
		stop()
	})
}
