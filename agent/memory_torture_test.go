//go:build torture

package agent_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent/wire"
)

// group is a control group of the kernel's, below that of the test.
type group struct {
	tb                 testing.TB
	dir                string
	limit, usage, idle string // names of its files, and of a field of memory.stat
}

// mustGroup makes one, whichever version there is, or skips the test and says
// why there can be none.
func mustGroup(tb testing.TB) group {
	tb.Helper()
	b, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		tb.Skipf("no control groups: %v", err)
	}
	g := group{tb: tb}
	for line := range strings.Lines(string(b)) {
		part := strings.SplitN(strings.TrimSpace(line), ":", 3)
		switch {
		case part[1] == "memory":
			g = group{tb, "/sys/fs/cgroup/memory" + part[2], "memory.limit_in_bytes", "memory.usage_in_bytes",
				"total_inactive_file"}
		case part[0] == "0" && g.dir == "":
			g = group{tb, "/sys/fs/cgroup" + part[2], "memory.max", "memory.current", "inactive_file"}
		}
	}
	g.dir = filepath.Join(g.dir, fmt.Sprintf("limber-test-%d", os.Getpid()))
	if err := os.Mkdir(g.dir, 0o755); err != nil {
		tb.Skipf("no control group can be made here: %v", err)
	}
	tb.Cleanup(g.remove)
	if _, err := os.Stat(filepath.Join(g.dir, g.limit)); err != nil {
		tb.Skipf("memory is not counted below the control group of the test: %v", err)
	}
	return g
}

// remove waits until the kernel has seen that nobody is left in the group.
func (g group) remove() {
	for range 100 {
		if os.Remove(g.dir) == nil { // EBUSY until then
			return
		}
		<-time.After(20 * time.Millisecond)
	}
	g.tb.Errorf("control group %s is left", g.dir)
}

// used is how many bytes are in use that the kernel would not take back first.
func (g group) used() int {
	g.tb.Helper()
	n, err := strconv.Atoi(strings.TrimSpace(g.read(g.usage)))
	if err != nil {
		g.tb.Fatal(err)
	}
	for line := range strings.Lines(g.read("memory.stat")) {
		if idle, ok := strings.CutPrefix(strings.TrimSpace(line), g.idle+" "); ok {
			pages, _ := strconv.Atoi(idle) // not a number: none
			return n - pages
		}
	}
	return n
}

func (g group) read(file string) string {
	g.tb.Helper()
	b, err := os.ReadFile(filepath.Join(g.dir, file))
	if err != nil {
		g.tb.Fatal(err)
	}
	return string(b)
}

// allow sets the limit, in bytes.
func (g group) allow(bytes int) {
	g.tb.Helper()
	if err := os.WriteFile(filepath.Join(g.dir, g.limit), []byte(strconv.Itoa(bytes)), 0); err != nil {
		g.tb.Fatal(err)
	}
}

func TestR2_InARealControlGroupMembersGoBeforeTheKernelKills(t *testing.T) {
	t.Parallel()
	g := mustGroup(t)
	addr := serve(t)
	cfg := newRealConfig(t, addr)
	cfg.Mode = "max-accuracy"
	o := operate(t, addr)
	p := launch(t, cfg, envGroup+"="+g.dir)
	o.presence(cfg, wire.Online, 0)
	front := o.front(cfg)
	o.answeredBy(cfg, front[len(front)-1].Name)

	frame := job(t, patient, pngFrame(t, 0))
	ask := func(names []string) {
		for _, id := range names {
			o.publish(self(cfg).Job(id), frame)
			if r := o.result(cfg, id, 1); r.Status != wire.OK {
				t.Errorf("%s: got %+v, want an answer", id, r)
			}
		}
	}
	ask(ids("steady", 300))
	steady := g.used()
	g.allow(steady * 110 / 100)
	o.until(func() bool { return len(o.events(cfg, wire.EventMemory)) > 0 },
		"a member makes room with %d bytes of %d in use", steady, steady*110/100)
	ask(ids("tight", 300))
	g.allow(4 * steady)
	o.until(func() bool {
		e := o.events(cfg, wire.EventMemory)
		return strings.Contains(e[len(e)-1].Detail, "back in use")
	}, "a member comes back")
	for _, e := range o.events(cfg, wire.EventMemory) {
		t.Log(e.TS.Format(time.TimeOnly), e.Detail)
	}
	p.stop()
}
