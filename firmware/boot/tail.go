package boot

import (
	"io"
	"sync"

	"github.com/limber-edge/limber/firmware/slot"
)

// A tail passes on what a program writes to stderr, and holds the last slot.MaxTail of it.
type tail struct {
	mu   sync.Mutex
	last []byte // up to twice slot.MaxTail
}

// follow passes on until there is no more, whatever becomes of it there.
func (t *tail) follow(from io.Reader, to io.Writer) {
	b := make([]byte, 4<<10)
	for {
		n, err := from.Read(b)
		if n > 0 {
			t.hold(b[:n])
			to.Write(b[:n])
		}
		if err != nil {
			return
		}
	}
}

func (t *tail) hold(b []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.last = append(t.last, b...)
	if len(t.last) > 2*slot.MaxTail {
		t.last = append(t.last[:0], t.last[len(t.last)-slot.MaxTail:]...)
	}
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.last[max(0, len(t.last)-slot.MaxTail):])
}
