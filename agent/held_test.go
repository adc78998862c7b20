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
	Own        int // bytes of resident memory that are no file's (RssAnon), after a collection
	Mapped     int // bytes of it that are files' (RssFile, RssShmem): the program and the stores
	Goroutines int
	Files      int // open
}

// least is what both hold at least, one by one.
func (h held) least(o held) held {
	return held{min(h.Heap, o.Heap), min(h.Own, o.Own), min(h.Mapped, o.Mapped), min(h.Goroutines, o.Goroutines),
		min(h.Files, o.Files)}
}

// String has the memory in MB.
func (h held) String() string {
	mb := func(bytes int) float64 { return float64(bytes) / 1e6 }
	return fmt.Sprintf("heap %.2f MB, resident %.2f MB (its own %.2f, files' %.2f), %d goroutines, %d files", mb(h.Heap),
		mb(h.Own+h.Mapped), mb(h.Own), mb(h.Mapped), h.Goroutines, h.Files)
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
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		p.tb.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		var kib int
		key, value, _ := strings.Cut(line, ":")
		fmt.Sscan(value, &kib) // what is no number is of another key
		switch key {
		case "RssAnon":
			h.Own = kib << 10
		case "RssFile", "RssShmem": // the second where a file is in memory itself
			h.Mapped += kib << 10
		}
	}
	return h
}
