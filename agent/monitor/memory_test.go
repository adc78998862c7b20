package monitor

import "testing"

func TestHeadroomIsThatOfTheNearerLimit(t *testing.T) {
	const (
		machine = "MemTotal: 4096000 kB\nMemFree: 1 kB\nMemAvailable: 2048000 kB\nBuffers: 0 kB\nCached: 0 kB\n" // half is left
		v1      = "4:memory,cpuset:/edge/limber\n0::/\n"
		v2      = "0::/edge/limber\n"
		none    = "9223372036854771712\n"
	)
	for _, tt := range []struct {
		name     string
		files    map[string]string
		headroom string
	}{
		{"the machine's", map[string]string{"proc/meminfo": machine}, "50.00"},
		{"v2: the group's", map[string]string{"proc/meminfo": machine, "proc/self/cgroup": v2,
			"sys/fs/cgroup/edge/limber/memory.max": "1000\n", "sys/fs/cgroup/edge/limber/memory.current": "900\n"}, "10.00"},
		{"v2: pages that nobody uses are room", map[string]string{"proc/meminfo": machine, "proc/self/cgroup": v2,
			"sys/fs/cgroup/edge/limber/memory.max": "1000\n", "sys/fs/cgroup/edge/limber/memory.current": "900\n",
			"sys/fs/cgroup/edge/limber/memory.stat": "anon 5\ninactive_file 250\nactive_file 100\n"}, "35.00"},
		{"v2: where it is slowed down", map[string]string{"proc/meminfo": machine, "proc/self/cgroup": v2,
			"sys/fs/cgroup/edge/limber/memory.max": "1000\n", "sys/fs/cgroup/edge/limber/memory.high": "500\n",
			"sys/fs/cgroup/edge/limber/memory.current": "400\n"}, "20.00"},
		{"v2: no limit", map[string]string{"proc/meminfo": machine, "proc/self/cgroup": v2,
			"sys/fs/cgroup/edge/limber/memory.max": "max\n", "sys/fs/cgroup/edge/limber/memory.current": "900\n"}, "50.00"},
		{"v2: a group around it", map[string]string{"proc/meminfo": machine, "proc/self/cgroup": v2,
			"sys/fs/cgroup/edge/memory.max": "1000\n", "sys/fs/cgroup/edge/memory.current": "950\n",
			"sys/fs/cgroup/edge/limber/memory.max": "1000\n", "sys/fs/cgroup/edge/limber/memory.current": "100\n"}, "5.00"},
		{"v2: in a container", map[string]string{"proc/meminfo": machine, "proc/self/cgroup": "0::/\n",
			"sys/fs/cgroup/memory.max": "1000\n", "sys/fs/cgroup/memory.current": "600\n"}, "40.00"},
		{"v1", map[string]string{"proc/meminfo": machine, "proc/self/cgroup": v1,
			"sys/fs/cgroup/memory/edge/limber/memory.limit_in_bytes": "1000\n", "sys/fs/cgroup/memory/edge/limber/memory.usage_in_bytes": "900\n",
			"sys/fs/cgroup/memory/edge/limber/memory.stat": "inactive_file 800\ntotal_inactive_file 100\n"}, "20.00"},
		{"v1: no limit", map[string]string{"proc/meminfo": machine, "proc/self/cgroup": v1,
			"sys/fs/cgroup/memory/edge/limber/memory.limit_in_bytes": none, "sys/fs/cgroup/memory/edge/limber/memory.usage_in_bytes": "900\n"}, "50.00"},
		{"v1: in a container that shows its host's path", map[string]string{"proc/meminfo": machine, "proc/self/cgroup": "7:memory:/docker/0f3\n",
			"sys/fs/cgroup/memory/memory.limit_in_bytes": "1000\n", "sys/fs/cgroup/memory/memory.usage_in_bytes": "700\n"}, "30.00"},
		{"over the limit", map[string]string{"proc/self/cgroup": v2,
			"sys/fs/cgroup/edge/limber/memory.max": "1000\n", "sys/fs/cgroup/edge/limber/memory.current": "1100\n"}, "0.00"},
		{"a path that climbs stays below", map[string]string{"proc/meminfo": machine, "proc/self/cgroup": "0::/../../..\n",
			"memory.max": "1000\n", "memory.current": "999\n"}, "50.00"},
		{"unreadable", map[string]string{"proc/self/cgroup": "x\n0:\n::\n"}, "absent"},
	} {
		fake := mustMachine(t)
		for path, text := range tt.files {
			fake.write(t, path, text)
		}
		m := ReadMemory(fake.root)
		if s := New(fake.root).Sample(); show(m.Headroom) != tt.headroom || show(s.Headroom) != tt.headroom {
			t.Errorf("%s: got %s %%, in a sample %s; want %s", tt.name, show(m.Headroom), show(s.Headroom), tt.headroom)
		}
	}
}

func TestMemoryTellsWhatIsAvailableAndWhoWaits(t *testing.T) {
	fake := mustMachine(t)
	fake.write(t, "proc/meminfo", "MemTotal: 4096 kB\nMemFree: 1 kB\nMemAvailable: 2048 kB\nBuffers: 0 kB\nCached: 0 kB\n")
	fake.write(t, "proc/pressure/memory", "some avg10=7.25 avg60=3.00 avg300=1.00 total=42\nfull avg10=1.00 avg60=0.00 avg300=0.00 total=0\n")
	if m := ReadMemory(fake.root); show(m.AvailableMiB) != "2.00" || show(m.Stalled) != "7.25" {
		t.Errorf("got %s MiB and %s %%, want 2.00 and 7.25", show(m.AvailableMiB), show(m.Stalled))
	}
}

func BenchmarkReadMemory(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		ReadMemory("/")
	}
}

func FuzzGroups(f *testing.F) {
	f.Add("4:memory:/a/b\n0::/\n", "inactive_file 12\n")
	f.Add("0::/../..\n", "inactive_file -1\ninactive_file x\n")
	f.Add("9:name=systemd:/a\n4:cpu,memory:\n", "inactive_file  \n")
	f.Fuzz(func(t *testing.T, groups, stat string) {
		if _, group, ok := memoryGroup(groups); ok && (group == "" || group[0] != '/') {
			t.Errorf("%q: got group %q", groups, group)
		}
		if n := statField(stat, "inactive_file"); !(n >= 0) {
			t.Errorf("%q: got %v bytes", stat, n)
		}
	})
}
