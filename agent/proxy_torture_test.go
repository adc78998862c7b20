//go:build torture

package agent_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent/mqtt"
)

// record is what a device was passed over all its connections and what it acknowledged,
// by the topic.
type record struct {
	tb testing.TB

	mu     sync.Mutex
	passed map[string][]passage
}

// passage is one PUBLISH of QoS 1 to the device.
type passage struct {
	at    time.Time
	node  int
	id    uint16 // of the packet
	dup   bool
	acked bool // the PUBACK came back over the same connection
}

func (p passage) String() string {
	return fmt.Sprintf("%v by node %d as %d, again %v, acknowledged %v", p.at.UTC().Format(time.StampMilli), p.node,
		p.id, p.dup, p.acked)
}

// of tells what there is of a topic, and whether the device ever said that it has it.
func (r *record) of(topic string) (acknowledged bool, all []passage) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range r.passed[topic] {
		acknowledged = acknowledged || p.acked
	}
	return acknowledged, slices.Clone(r.passed[topic])
}

// proxy is between the cables and one node: it ends TLS on both sides, to read what is
// said.
type proxy struct {
	record     *record
	node       int
	addr       string // of the node
	near, far  *tls.Config
	listener   net.Listener
	connection sync.WaitGroup
}

// read has a node's clients pass a proxy, whose address it returns. To the node it is
// the device.
func (r *record) read(tb testing.TB, device mqtt.Broker, node int, addr string) string {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	p := &proxy{record: r, node: node, addr: addr, listener: l, near: serverTLS(tb, device), far: clientTLS(tb, device)}
	p.connection.Go(p.serve)
	tb.Cleanup(func() {
		l.Close()
		p.connection.Wait()
	})
	return l.Addr().String()
}

func certificate(tb testing.TB, cert, key string) []tls.Certificate {
	tb.Helper()
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		tb.Fatal(err)
	}
	return []tls.Certificate{pair}
}

func serverTLS(tb testing.TB, device mqtt.Broker) *tls.Config {
	tb.Helper()
	dir := filepath.Dir(device.CAFile)
	return &tls.Config{Certificates: certificate(tb, filepath.Join(dir, "server.crt"), filepath.Join(dir, "server.key"))}
}

func clientTLS(tb testing.TB, device mqtt.Broker) *tls.Config {
	tb.Helper()
	ca, err := os.ReadFile(device.CAFile)
	if err != nil {
		tb.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	return &tls.Config{Certificates: certificate(tb, device.CertFile, device.KeyFile), RootCAs: roots,
		ServerName: "localhost"}
}

func (p *proxy) serve() {
	for {
		near, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.connection.Go(func() { p.join(near) })
	}
}

func (p *proxy) join(near net.Conn) {
	defer near.Close()
	raw, err := net.Dial("tcp", p.addr)
	if err != nil {
		return
	}
	defer raw.Close()
	c := &tapped{proxy: p, passed: map[uint16]string{}}
	device, node := tls.Server(near, p.near), tls.Client(raw, p.far)
	var both sync.WaitGroup
	both.Go(func() {
		err := copyPackets(node, device, c.said)
		if err != io.EOF {
			raw.(*net.TCPConn).SetLinger(0) // as the device's end did: a reset
		}
		raw.Close()
	})
	both.Go(func() {
		copyPackets(device, node, c.heard)
		near.Close()
	})
	both.Wait()
}

// tapped is one connection.
type tapped struct {
	*proxy
	mu     sync.Mutex
	passed map[uint16]string // topics, by the packet's id
}

// The types of packets that are looked at.
const (
	typePublish = 3
	typePuback  = 4
)

// heard enters what the device is passed.
func (c *tapped) heard(kind byte, body []byte) {
	if kind>>4 != typePublish || kind>>1&3 == 0 {
		return
	}
	n := 2 + int(binary.BigEndian.Uint16(body))
	topic, id := string(body[2:n]), binary.BigEndian.Uint16(body[n:])
	c.mu.Lock()
	c.passed[id] = topic
	c.mu.Unlock()
	r := c.record
	r.mu.Lock()
	defer r.mu.Unlock()
	r.passed[topic] = append(r.passed[topic], passage{at: time.Now(), node: c.node, id: id, dup: kind&8 != 0})
}

// said enters what the device acknowledges.
func (c *tapped) said(kind byte, body []byte) {
	if kind>>4 != typePuback {
		return
	}
	id := binary.BigEndian.Uint16(body)
	c.mu.Lock()
	topic := c.passed[id]
	c.mu.Unlock()
	r := c.record
	if topic == "" {
		r.tb.Errorf("the device acknowledges a packet %d that it was not passed over this connection", id)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	all := r.passed[topic]
	all[len(all)-1].acked = true
}

// copyPackets passes on whole packets, once they were looked at.
func copyPackets(to io.Writer, from io.Reader, look func(kind byte, body []byte)) error {
	in := bufio.NewReader(from)
	for {
		kind, err := in.ReadByte()
		if err != nil {
			return err
		}
		length, err := binary.ReadUvarint(in) // MQTT's is the same, of up to four bytes
		if err != nil {
			return err
		}
		var packet bytes.Buffer
		packet.WriteByte(kind)
		packet.Write(binary.AppendUvarint(nil, length))
		head := packet.Len()
		if _, err := io.CopyN(&packet, in, int64(length)); err != nil {
			return err
		}
		look(kind, packet.Bytes()[head:])
		if _, err := to.Write(packet.Bytes()); err != nil {
			return err
		}
	}
}
