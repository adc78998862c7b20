package blob

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

// single is a listener with one connection.
type single struct {
	net.Listener
	conns chan net.Conn
}

func (s single) Accept() (net.Conn, error) {
	c, ok := <-s.conns
	if !ok {
		return nil, net.ErrClosed
	}
	return c, nil
}

func (s single) Close() error {
	close(s.conns)
	return nil
}

// served answers what is sent over one connection with 300 KiB.
func served(t *testing.T, request string) net.Conn {
	t.Helper()
	here, there := net.Pipe()
	l := single{conns: make(chan net.Conn, 1)}
	l.conns <- reader{there, func() {}}
	s := newServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(make([]byte, 300<<10)))
	}))
	go s.Serve(l)
	t.Cleanup(func() { s.Close(); here.Close() })
	if _, err := io.WriteString(here, request); err != nil {
		t.Fatal(err)
	}
	return here
}

func TestAReaderThatOwesTheBodyOfItsRequestIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := served(t, "GET /a HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n")
		begin := time.Now()
		c.SetReadDeadline(begin.Add(time.Hour))
		_, err := io.Copy(io.Discard, c)
		if took := time.Since(begin); err != nil || took > 2*readTime {
			t.Errorf("got %v after %v, want to be left after %v", err, took, readTime)
		}
	})
}

func TestAReaderThatTakesLongAndNeverStopsGetsAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := served(t, "GET /a HTTP/1.1\r\nHost: a\r\n\r\n")
		answer, err := http.ReadResponse(bufio.NewReaderSize(c, 1<<10), nil)
		if err != nil {
			t.Fatal(err)
		}
		got, begin := 0, time.Now()
		for b := make([]byte, 1<<10); err == nil; time.Sleep(time.Second) {
			var n int
			n, err = answer.Body.Read(b)
			got += n
		}
		if took := time.Since(begin); err != io.EOF || got != 300<<10 || took < 3*readTime {
			t.Errorf("got %d bytes, %v after %v; want all", got, err, took)
		}
	})
}

func TestMoreReadersThanThereMayBeAreSentAway(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	d := newDoor(l, 1)
	accepted := make(chan net.Conn, 3)
	go func() {
		for {
			c, err := d.Accept()
			if err != nil {
				close(accepted)
				return
			}
			accepted <- c
		}
	}()
	dial := func() net.Conn {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	dial()
	first := <-accepted
	if _, err := dial().Read(make([]byte, 1)); err == nil {
		t.Error("a second reader was served, want it sent away")
	}
	first.Close()
	first.Close() // makes no room twice
	dial()
	<-accepted
	if _, err := dial().Read(make([]byte, 1)); err == nil {
		t.Error("a third reader was served, want room for one")
	}
}

func TestAReaderThatTakesNothingIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		here, there := net.Pipe()
		defer there.Close()
		r := reader{here, func() {}}
		go there.Read(make([]byte, 10))
		begin := time.Now()
		n, err := r.Write(make([]byte, 100))
		if n != 10 || !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(begin) != readTime {
			t.Errorf("got %d bytes, %v after %v; want 10 and to be left after %v", n, err, time.Since(begin), readTime)
		}
	})
}
