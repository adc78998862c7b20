package load

import (
	"os"
	"strings"
	"testing"
)

// TestMain makes the test binary the program that a hog is.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "hog" {
		if err := Burden(Kind(os.Args[2]), os.Stdin); err != nil {
			panic(err)
		}
		return
	}
	os.Setenv("GORACE", "atexit_sleep_ms=0") // a hog would sleep for a second before it ends
	os.Exit(m.Run())
}

func TestHogsLiveAsLongAsTheyAreWanted(t *testing.T) {
	var h Hogs
	for _, n := range []int{2, 3, 1, 0} {
		if err := h.Set(CPU, n); err != nil || len(h.running) != n {
			t.Fatalf("Set(%d): %v, %d run", n, err, len(h.running))
		}
		for _, c := range h.running {
			if c.cmd.ProcessState != nil {
				t.Errorf("a hog ended by itself: %v", c.cmd.ProcessState)
			}
		}
	}
}

func TestEveryKindOfHogEndsWithItsInput(t *testing.T) {
	for _, kind := range Kinds() {
		if kind == Low {
			continue // it would lower the priority of this process
		}
		if err := Burden(kind, strings.NewReader("")); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
	}
	err := Burden("gpu", strings.NewReader(""))
	if err == nil || !strings.Contains(err.Error(), `"gpu" is none of [cpu memory low]`) {
		t.Errorf("got %v, want the kinds there are", err)
	}
}
