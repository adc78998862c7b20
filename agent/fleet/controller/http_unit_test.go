package controller

import (
	"errors"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

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
