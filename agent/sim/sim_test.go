package sim_test

import (
	"os"
	"runtime"
	"runtime/pprof"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent/sim"
)

func TestEveryBirthIsSeenAndAModeToAllIsAnsweredByAll(t *testing.T) {
	n := 50
	if os.Getenv("SIMN") != "" {
		n = 1000
	}
	at := mustBroker(t)
	o := mustOperator(t, at)
	began := time.Now()
	begin(t, config(t, n, at))
	await(t, o, func(s sim.Seen) bool { return s.Online == n })
	t.Logf("%d births seen after %v", n, time.Since(began))
	t.Logf("a mode to all after %v", mode(t, o, n, "max-accuracy"))
	if os.Getenv("SIMN") != "" {
		f, _ := os.Create("/tmp/sim.cpu")
		pprof.StartCPUProfile(f)
		time.Sleep(40 * time.Second)
		pprof.StopCPUProfile()
		f.Close()
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		t.Logf("heap %d KB, stack %d KB, goroutines %d", m.HeapAlloc/1024, m.StackInuse/1024, runtime.NumGoroutine())
		h, _ := os.Create("/tmp/sim.heap")
		pprof.WriteHeapProfile(h)
		h.Close()
		g, _ := os.Create("/tmp/sim.gor")
		pprof.Lookup("goroutine").WriteTo(g, 1)
		g.Close()
	}
}
