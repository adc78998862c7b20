package resident

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/family/ort"
	"github.com/limber-edge/limber/family/ort/orttest"
	"github.com/limber-edge/limber/family/stock"
)

func mustKey(t *testing.T, s *Shelf) string {
	t.Helper()
	key, err := s.key(&s.fam.Members[0])
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestM19_TheCacheKeyChangesWithEverythingThatAModelDependsOn(t *testing.T) {
	rt := orttest.Open(t)
	fresh := func(provider string) *Shelf {
		f, err := stock.Family()
		if err != nil {
			t.Fatal(err)
		}
		return New(rt, &f.Family, f, t.TempDir(), ort.Options{Provider: provider, Threads: 1}, nil)
	}
	other := family.DigestOf([]byte("other"))
	keys := map[string]string{mustKey(t, fresh(ort.CPU)): "nothing"}
	for _, tt := range []struct {
		name   string
		change func(s *Shelf, m *family.Member)
	}{
		{"CPU features", func(s *Shelf, _ *family.Member) { s.cpu = strings.Replace(s.cpu, " ", " avx1024 ", 1) + " sve9" }},
		{"no CPU features", func(s *Shelf, _ *family.Member) { s.cpu = "" }},
		{"runtime version", func(s *Shelf, _ *family.Member) { s.version += ".1" }},
		{"supernet", func(s *Shelf, _ *family.Member) { s.fam.Supernet = other }},
		{"description", func(s *Shelf, _ *family.Member) { s.fam.Describe = append(bytes.Clone(s.fam.Describe), ' ') }},
		{"statistics", func(_ *Shelf, m *family.Member) { m.Stats = other }},
		{"model of a foreign member", func(_ *Shelf, m *family.Member) {
			m.Stats, m.Model = "",
				family.DigestOf([]byte("a"))
		}},
		{"foreign model", func(_ *Shelf, m *family.Member) { m.Stats, m.Model = "", family.DigestOf([]byte("b")) }},
		{"kernel of a block", func(_ *Shelf, m *family.Member) { m.Arch.KS[0]++ }},
		{"resolution", func(_ *Shelf, m *family.Member) { m.Arch.R++ }},
		{"CUDA", func(s *Shelf, _ *family.Member) { s.options = fresh(ort.CUDA).options }},
		{"TensorRT", func(s *Shelf, _ *family.Member) { s.options = fresh(ort.TensorRT).options }},
	} {
		s := fresh(ort.CPU)
		tt.change(s, &s.fam.Members[0])
		key := mustKey(t, s)
		if same, ok := keys[key]; ok {
			t.Errorf("with another %s the key is that of another %s", tt.name, same)
		}
		keys[key] = tt.name
	}
	if again := mustKey(t, fresh(ort.CPU)); keys[again] != "nothing" {
		t.Errorf("got key %s the second time, want the first one's", again)
	}
}

// What the key is made of is what this machine and this library say.
func TestM19_AShelfKnowsTheCPUAndTheRuntimeThatItIsOn(t *testing.T) {
	rt := orttest.Open(t)
	s := New(rt, nil, nil, t.TempDir(), ort.DefaultOptions(), nil)
	if s.version == "" || s.version != rt.Version() {
		t.Errorf("got version %q, want %q", s.version, rt.Version())
	}
	info, err := os.ReadFile("/proc/cpuinfo")
	if err != nil || !bytes.Contains(info, []byte("flags")) && !bytes.Contains(info, []byte("Features")) {
		t.Skipf("this machine does not say what its CPU can do: %v", err)
	}
	if len(strings.Fields(s.cpu)) < 3 || !bytes.Contains(info, []byte(":"+s.cpu)) {
		t.Errorf("got features %q, want a whole line of /proc/cpuinfo", s.cpu)
	}
}

// A state folder may be moved to another device, and the SD card with it.
func TestM19_AnotherCPUBuildsTheCacheAnew(t *testing.T) {
	rt, cache := orttest.Open(t), t.TempDir()
	f, err := stock.Family()
	if err != nil {
		t.Fatal(err)
	}
	one := f.Family
	one.Members = one.Members[:1]
	var keys []string
	for _, cpu := range []string{"fp asimd", "fp asimd sve", "fp asimd sve"} {
		s := New(rt, &one, f, cache, ort.DefaultOptions(), nil)
		s.cpu = cpu
		session, err := s.Session(0)
		if err != nil {
			t.Fatal(err)
		}
		if err := session.Close(); err != nil {
			t.Error(err)
		}
		found, err := filepath.Glob(filepath.Join(cache, "*"))
		if err != nil || len(found) != 1 {
			t.Fatalf("got %v, %v in the cache; want the folder of this CPU alone", found, err)
		}
		keys = append(keys, found[0])
	}
	if keys[1] == keys[0] || keys[2] != keys[1] {
		t.Errorf("got cache folders %v, want another with the other CPU, which stays", keys)
	}
}
