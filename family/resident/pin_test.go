package resident_test

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/limber-edge/limber/family/ort"
	"github.com/limber-edge/limber/family/ort/orttest"
	"github.com/limber-edge/limber/family/resident"
)

// lockedKiB is how much memory of this process the kernel may not take.
func lockedKiB(t *testing.T) int {
	t.Helper()
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Skipf("locked memory is not told here: %v", err)
	}
	for line := range strings.Lines(string(b)) {
		if value, ok := strings.CutPrefix(line, "VmLck:"); ok {
			n, err := strconv.Atoi(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(value), "kB")))
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Skip("locked memory is not told here")
	return 0
}

func TestR2_APinnedMembersWeightsStayInMemoryUntilTheyAreReleased(t *testing.T) {
	rt, f, cache := orttest.Open(t), mustStock(t), t.TempDir()
	s := resident.New(rt, &f.Family, f, cache, ort.DefaultOptions(), nil)
	session := mustSession(t, s, 0)
	weights, err := os.Stat(filepath.Join(mustOnly(t, cache), "model.onnx"+ort.WeightsSuffix))
	if err != nil {
		t.Fatal(err)
	}
	before := lockedKiB(t)
	release, err := s.Pin(0)
	if err != nil {
		t.Skipf("this process may not lock memory: %v", err)
	}
	if got := lockedKiB(t) - before; got < int(weights.Size()>>10) {
		t.Errorf("%d KiB more are locked, want the %d of the weights", got, weights.Size()>>10)
	}
	if err := session.Run(make([]float32, len(f.Classes)), make([]float32,
		3*f.Members[0].Arch.R*f.Members[0].Arch.R)); err != nil {
		t.Error(err)
	}
	if err := release(); err != nil || lockedKiB(t) != before {
		t.Errorf("released: %v, %d KiB are locked, want %d", err, lockedKiB(t), before)
	}
}

func TestPinOfAMemberThatCannotBeBuiltSaysWhy(t *testing.T) {
	rt, f := orttest.Open(t), mustStock(t)
	s := resident.New(rt, &f.Family, f, filepath.Join(t.TempDir(), "none"), ort.DefaultOptions(), nil)
	if _, err := s.Pin(0); err == nil || !strings.Contains(err.Error(), f.Members[0].Name) {
		t.Errorf("got %v, want the member named", err)
	}
}
