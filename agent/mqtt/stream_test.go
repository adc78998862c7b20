package mqtt

import (
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// pipe is a stream and the broker's end of it, in a synctest bubble.
func pipe(t *testing.T) (*stream, net.Conn) {
	t.Helper()
	ours, theirs := net.Pipe()
	t.Cleanup(func() { ours.Close(); theirs.Close() })
	return newStream(ours, ours, Default()), theirs
}

func TestN5_SlowPacketIsNotASilentBroker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, broker := pipe(t)
		packet := connack + publishPacket("job/1", 100)
		go func() {
			for i := range packet { // keep alive and ping timeout are 30 s
				if i >= len(connack) {
					<-time.After(29 * time.Second)
				}
				io.WriteString(broker, packet[i:i+1])
			}
		}()
		got := make([]byte, len(packet))
		if _, err := io.ReadFull(s, got); err != nil || string(got) != packet {
			t.Errorf("got %q, %v", got, err)
		}
	})
}

func TestN4_SilenceEndsTheStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, broker := pipe(t)
		go io.WriteString(broker, connack)
		began := time.Now()
		_, err := io.ReadAll(s)
		if took := time.Since(began); took != 30*time.Second {
			t.Errorf("ended after %v, want keep alive and ping timeout, 30s", took)
		}
		if !errors.Is(err, errOver) || !errors.Is(s.cause, os.ErrDeadlineExceeded) {
			t.Errorf("got %v because of %v", err, s.cause)
		}
	})
}

func TestPingBreaksSilenceOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, broker := pipe(t)
		heard := make(chan byte, 10)
		go func() {
			b := make([]byte, 2)
			for {
				if _, err := io.ReadFull(broker, b); err != nil {
					return
				}
				heard <- b[0]
			}
		}()
		<-time.After(9 * time.Second)
		s.ping(10 * time.Second)
		synctest.Wait()
		if len(heard) != 0 {
			t.Error("pinged after 9s of silence, want none before 10s")
		}
		<-time.After(time.Second)
		s.ping(10 * time.Second)
		synctest.Wait()
		if len(heard) != 1 || <-heard != 0xc0 {
			t.Error("no ping after 10s of silence")
		}
	})
}

func TestN16_WriteWithoutProgressIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, broker := pipe(t)
		go io.CopyN(io.Discard, slowly{broker}, 5*writeChunk)
		began := time.Now()
		n, err := s.Write(make([]byte, 20*writeChunk))
		if took := time.Since(began); n != 5*writeChunk || took != 55*time.Second {
			t.Errorf("%d bytes in %v; want those the broker took and 10s more: %d in 55s", n, took, 5*writeChunk)
		}
		if !errors.Is(err, errOver) || !strings.Contains(s.cause.Error(), "write to the broker") {
			t.Errorf("got %v because of %v", err, s.cause)
		}
	})
}

// slowly takes a chunk every nine seconds.
type slowly struct{ io.Reader }

func (s slowly) Read(p []byte) (int, error) {
	<-time.After(9 * time.Second)
	return io.ReadFull(s.Reader, p[:writeChunk])
}
