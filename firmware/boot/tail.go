package boot

import (
	"io"
	"sync"
)

// maxTail is how much of what a program writes to stderr is held, in bytes.
const maxTail = 16 << 10

// A tail passes on what a program writes to stderr, and holds the last of it.
type tail struct {
	mu   sync.Mutex
	last []byte // up to twice maxTail
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
	if len(t.last) > 2*maxTail {
		t.last = append(t.last[:0], t.last[len(t.last)-maxTail:]...)
	}
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.last[max(0, len(t.last)-maxTail):])
}
