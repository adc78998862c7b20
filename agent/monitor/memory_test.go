package monitor

import "testing"

func TestHeadroomIsThatOfTheNearerLimit(t *testing.T) {
	machine := meminfo(4096000, 1, 2048000, 0) // half is left
	const (
		v1   = "4:memory,cpuset:/edge/limber\n0::/\n"
		v2   = "0::/edge/limber\n"
		none = "9223372036854771712\n"
	)
	for _, tt := range []struct {
		name     string
		files    map[string]string
		headroom string
	}{
		{"the machine's", map[string]string{"proc/meminfo": machine}, "50.00"},
		{"v2: the group's", map[string]string{"proc/meminfo": machine, "proc/self/cgroup": v2,
			"sys/fs/cgroup/edge/limber/memory.max":     "1000\n",
			"sys/fs/cgroup/edge/limber/memory.current": "900\n"}, "10.00"},
		{"v2: pages that nobody uses are room", map[string]string{"proc/meminfo": machine, "proc/self/cgroup": v2,
			"sys/fs/cgroup/edge/limber/memory.max": "1000\n", "sys/fs/cgroup/edge/limber/memory.current": "900\n",
			"sys/fs/cgroup/edge/limber/memory.stat": "anon 5\ninactive_file 250\nactive_file 100\n"}, "35.00"},
		{"v2: where it is slowed down", map[string]string{"proc/meminfo": machine, "proc/self/cgroup": v2,
			"sys/fs/cgroup/edge/limber/memory.max": "1000\n", "sys/fs/cgroup/edge/limber/memory.high": "500\n",
			"sys/fs/cgroup/edge/limber/memory.current": "400\n"}, "20.00"},
		{"v2: no limit", map[string]string{"proc/meminfo": machine, "proc/self/cgroup": v2,
			"sys/fs/cgroup/edge/limber/memory.max":     "max\n",
			"sys/fs/cgroup/edge/limber/memory.current": "900\n"}, "50.00"},
		{"v2: a group around it", map[string]string{"proc/meminfo": machine, "proc/self/cgroup": v2,
			"sys/fs/cgroup/edge/memory.max": "1000\n", "sys/fs/cgroup/edge/memory.current": "950\n",
			"sys/fs/cgroup/edge/limber/memory.max":     "1000\n",
			"sys/fs/cgroup/edge/limber/memory.current": "100\n"}, "5.00"},
		{"v2: in a container", map[string]string{"proc/meminfo": machine, "proc/self/cgroup": "0::/\n",
			"sys/fs/cgroup/memory.max": "1000\n", "sys/fs/cgroup/memory.current": "600\n"}, "40.00"},
		{"v1", map[string]string{"proc/meminfo": machine, "proc/self/cgroup": v1,
			"sys/fs/cgroup/memory/edge/limber/memory.limit_in_bytes": "1000\n",
			"sys/fs/cgroup/memory/edge/limber/memory.usage_in_bytes": "900\n",
			"sys/fs/cgroup/memory/edge/limber/memory.stat":           "inactive_file 800\ntotal_inactive_file 100\n"}, "20.00"},
		{"v1: no limit", map[string]string{"proc/meminfo": machine, "proc/self/cgroup": v1,
			"sys/fs/cgroup/memory/edge/limber/memory.limit_in_bytes": none,
			"sys/fs/cgroup/memory/edge/limber/memory.usage_in_bytes": "900\n"}, "50.00"},
		{"v1: in a container that shows its host's path", map[string]string{"proc/meminfo": machine,
			"proc/self/cgroup":                           "7:memory:/docker/0f3\n",
			"sys/fs/cgroup/memory/memory.limit_in_bytes": "1000\n",
			"sys/fs/cgroup/memory/memory.usage_in_bytes": "700\n"}, "30.00"},
		{"over the limit", map[string]string{"proc/self/cgroup": v2,
			"sys/fs/cgroup/edge/limber/memory.max":     "1000\n",
			"sys/fs/cgroup/edge/limber/memory.current": "1100\n"}, "0.00"},
		{"a path that climbs stays below", map[string]string{"proc/meminfo": machine,
			"proc/self/cgroup": "0::/../../..\n",
			"memory.max":       "1000\n", "memory.current": "999\n"}, "50.00"},
		{"unreadable", map[string]string{"proc/self/cgroup": "x\n0:\n::\n"}, "absent"},
	} {
		fake := mustMachine(t)
		for path, text := range tt.files {
			fake.write(t, path, text)
		}
		m := New(fake.root).Memory()
		if s := fake.sampled(); show(m.Headroom) != tt.headroom || show(s.Headroom) != tt.headroom {
			t.Errorf("%s: got %s %%, in a sample %s; want %s", tt.name, show(m.Headroom), show(s.Headroom), tt.headroom)
		}
	}
}

func TestMemoryTellsWhatIsAvailableAndWhoWaits(t *testing.T) {
	fake := mustMachine(t)
	fake.write(t, "proc/meminfo", meminfo(4096, 1, 2048, 0))
	fake.write(t, "proc/pressure/memory", "some avg10=7.25 avg60=3.00 avg300=1.00 total=42\nfull avg10=1.00 total=0\n")
	if m := New(fake.root).Memory(); show(m.AvailableMiB) != "2.00" || show(m.Stalled) != "7.25" {
		t.Errorf("got %s MiB and %s %%, want 2.00 and 7.25", show(m.AvailableMiB), show(m.Stalled))
	}
}

func TestMemoryInUseIsWhatIsNotAvailable(t *testing.T) {
	for _, tt := range []struct {
		name, meminfo        string // empty: there is none
		used, headroom, room string
	}{
		{"shared pages are in use, though they count as cached",
			meminfo(4096, 512, 1024, 2560) + "Shmem: 2048 kB\n", "75.00", "25.00", "1.00"},
		{"a container to which more is available than it has", meminfo(2048, 512, 4096, 0), "0.00", "100.00", "2.00"},
		{"more cached than there is in all", meminfo(2048, 512, 1024, 4096), "50.00", "50.00", "1.00"},
		{"no meminfo", "", "absent", "absent", "absent"},
		{"a total that is no number", "MemTotal: x kB\nMemAvailable: 1 kB\n", "absent", "absent", "absent"},
		{"cut short", "MemTo", "absent", "absent", "absent"},
	} {
		fake := mustMachine(t)
		if tt.meminfo != "" {
			fake.write(t, "proc/meminfo", tt.meminfo)
		}
		s := fake.sampled()
		if show(s.MemPercent) != tt.used || show(s.Headroom) != tt.headroom || show(s.AvailableMiB) != tt.room {
			t.Errorf("%s: got %s %% in use, %s %% and %s MiB left; want %s, %s, %s", tt.name,
				show(s.MemPercent), show(s.Headroom), show(s.AvailableMiB), tt.used, tt.headroom, tt.room)
		}
	}
}

func BenchmarkReadMemory(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		readMemory("/")
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
