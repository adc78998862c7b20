package agent_test

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"
)

// held is what a process holds of the machine.
type held struct {
	Heap       int // bytes in use, after a collection
	Goroutines int
	Files      int // open
}

const heldLine = "holds heap=%d goroutines=%d files=%d\n"

// sayHeld tells at each SIGUSR1 what this process holds, until ctx ends.
func sayHeld(ctx context.Context) {
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, syscall.SIGUSR1)
	defer signal.Stop(asked)
	for {
		select {
		case <-asked:
		case <-ctx.Done():
			return
		}
		debug.FreeOSMemory()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		files := -1 // those that cannot be counted, as the limit is reached
		if open, err := os.ReadDir("/proc/self/fd"); err == nil {
			files = len(open) - 1 // but for that folder
		}
		fmt.Fprintf(os.Stderr, heldLine, m.HeapAlloc, runtime.NumGoroutine(), files)
	}
}

// holds asks a device for that.
func (p *process) holds() (h held) {
	p.tb.Helper()
	const key = "holds heap="
	n := strings.Count(p.log.String(), key)
	if err := p.cmd.Process.Signal(syscall.SIGUSR1); err != nil {
		p.tb.Fatal(err)
	}
	p.log.await(p.tb, key, n+1)
	log := p.log.String()
	if _, err := fmt.Sscanf(log[strings.LastIndex(log, key):], heldLine, &h.Heap, &h.Goroutines, &h.Files); err != nil {
		p.tb.Fatalf("what the device holds: %v in %s", err, tail(log))
	}
	return h
}
