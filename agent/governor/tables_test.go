package governor

import (
	"reflect"
	"runtime"
	"sync"
	"testing"
)

func TestGovernorsThatShareTablesDecideAsAlone(t *testing.T) {
	var shared Tables
	var devices sync.WaitGroup
	for seed := range uint64(4) {
		alone := newDevice(mustShare(t, nil), ms(10), ms(48))
		among := newDevice(mustShare(t, &shared), ms(10), ms(48))
		devices.Go(func() {
			for _, slower := range []float64{1, 40, 3} { // 40: its profiles are scaled, which must not show in others
				alone.load(slower)
				among.load(slower)
				if want, got := busy(t, alone, seed, 300), busy(t, among, seed, 300); !reflect.DeepEqual(got, want) {
					t.Errorf("seed %d, %v times slower: a governor with shared tables decides otherwise", seed, slower)
				}
			}
		})
	}
	devices.Wait()
}

func mustShare(tb testing.TB, tables *Tables) *Governor {
	tb.Helper()
	g, err := New(six(), Mode{}, tables)
	if err != nil {
		tb.Fatal(err)
	}
	for j, m := range g.members {
		if err := g.SetBatch(j, 3*m.Latency); err != nil {
			tb.Fatal(err)
		}
	}
	return g
}

func TestASecondGovernorCostsATenthWithSharedTables(t *testing.T) {
	var shared Tables
	alone := heapOf(t, func() *Governor { return mustShare(t, nil) })
	first := mustShare(t, &shared)
	second := heapOf(t, func() *Governor { return mustShare(t, &shared) })
	t.Logf("a governor of six members takes %d bytes, another with its tables %d", alone, second)
	if second > alone/10 {
		t.Errorf("got %d bytes with shared tables, %d without; want a tenth", second, alone)
	}
	runtime.KeepAlive(first)
}

// heapOf is what a governor takes, the mean of several.
func heapOf(t *testing.T, made func() *Governor) uint64 {
	t.Helper()
	const n = 32
	var kept [n]*Governor
	before := heap()
	for i := range kept {
		kept[i] = made()
	}
	after := heap()
	runtime.KeepAlive(kept)
	return (after - before) / n
}

func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC() // what the first one let go
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func TestTablesThatNoGovernorUsesAreForgotten(t *testing.T) {
	var shared Tables
	mustShare(t, &shared)
	runtime.GC()
	shared.of(1)
	if n := len(shared.made); n != 1 {
		t.Errorf("got %d tables kept, want the last one", n)
	}
}
