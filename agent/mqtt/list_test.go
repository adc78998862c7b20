package mqtt

import (
	"bufio"
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// nodes are brokers of a list, of which some are up.
type nodes struct {
	up      map[string]bool // by address
	dialled []string
	at      []time.Time // of each dial
	cut     chan bool   // ends the connection that stands
}

func (n *nodes) dial(_ context.Context, _, address string) (net.Conn, error) {
	n.dialled, n.at = append(n.dialled, strings.TrimSuffix(address, ":1883")), append(n.at, time.Now())
	if !n.up[address] {
		return nil, errors.New("away")
	}
	ours, theirs := net.Pipe()
	go func() {
		defer theirs.Close()
		c := evilConn{theirs, bufio.NewReader(theirs)}
		c.accept()
		go c.drain()
		<-n.cut
	}()
	return ours, nil
}

func TestTheNextOfAListOfBrokersIsFoundAndAWorkingOneKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &nodes{up: map[string]bool{"c:1883": true}, cut: make(chan bool)}
		cfg := quick("mqtt://a, mqtt://b, mqtt://c")
		cfg.Broker = strings.ReplaceAll(cfg.Broker, " ", "")
		cfg.Dial = n.dial
		began := time.Now()
		_, h, stop := mustRun(t, cfg)
		<-h.connected
		if took := time.Since(began); took > 0 {
			t.Errorf("the third was reached after %v, want no pause within a round", took)
		}
		<-time.After(10 * time.Second)
		n.up["a:1883"] = true
		n.cut <- true
		<-h.connected
		if want := []string{"a", "b", "c", "a"}; !slices.Equal(n.dialled, want) {
			t.Errorf("dialled %q, want %q: the one that works is kept, and the next behind it tried first", n.dialled, want)
		}
		close(n.cut)
		stop()
	})
}

func TestPausesAreBetweenTheRoundsOfAList(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &nodes{}
		cfg := quick("mqtt://a,mqtt://b")
		cfg.BackoffMin, cfg.BackoffMax = time.Second, time.Hour
		cfg.Dial = n.dial
		_, h, stop := mustRun(t, cfg)
		for range 20 {
			<-h.lost
		}
		stop()
		for i := 1; i < 20; i++ {
			if pause := n.at[i].Sub(n.at[i-1]); (pause > 0) != (i%2 == 0) {
				t.Errorf("a pause of %v before attempt %d, want one before each round and none within", pause, i)
			}
		}
	})
}
