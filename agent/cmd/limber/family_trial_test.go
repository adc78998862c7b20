package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/family/familytest"
	"github.com/limber-edge/limber/family/resident"
	"github.com/limber-edge/limber/family/stock"
	"github.com/limber-edge/limber/family/workshop"
)

func TestM11_ADeviceServesWithTheMembersThatAreNoBombs(t *testing.T) {
	good, path, state := familytest.Model(t, "Identity"), filepath.Join(t.TempDir(),
		"theirs.family"), filepath.Join(t.TempDir(), "state")
	input := workshop.Noise(3 * 24 * 24)
	logits, err := newTrial().Try(t.Context(), good, resident.ShapeOf(&family.Member{Input: "x", Output: "y",
		Arch: family.Arch{R: 24}}, 10), input)
	if err != nil {
		t.Fatal(err)
	}
	canary := resident.Canary(input, logits)

	familytest.Foreign(t, path, canary, good, familytest.Bomb(t))
	says(t, 1, "member b: trial: ", "family", "verify", "--family", path)
	says(t, 0, "2 members", "family", "install", "--family", path, "--state", state)
	says(t, 0, "no: member b: trial: ", "agent", "--profile", "--state", state)
	says(t, 0, "", "coldstart", "--state", state) // a device that answers a frame

	familytest.Foreign(t, path, canary, familytest.Bomb(t))
	says(t, 0, "1 members", "family", "install", "--family", path, "--state", state)
	says(t, 1, "no member of family theirs can be used: member a: trial: ", "agent", "--profile", "--state", state)
}

// A device whose every member is a bomb finds that out when it takes its profile.
func TestM11_ADeviceOfBombsAloneStaysUpAndSaysSo(t *testing.T) {
	path, state := filepath.Join(t.TempDir(), "theirs.family"), filepath.Join(t.TempDir(), "state")
	familytest.Foreign(t, path, resident.Canary(workshop.Noise(3*24*24), make([]float32, 10)), familytest.Bomb(t))
	says(t, 0, "1 members", "family", "install", "--family", path, "--state", state)
	d := mustDeskOn(t, state)
	if state := d.awaitPrepared(t); !strings.Contains(state.Detail, "no member of family theirs can be used") ||
		!strings.Contains(state.Detail, "take a smaller model") {
		t.Errorf("got %+v, want the cause and the remedy", state)
	}
	frame, _ := mustFrame(t, 0)
	stdout, stderr, code := d.limber(t, "publish", "--json", frame)
	if !strings.Contains(stdout, `"status":"refused"`) || !strings.Contains(stdout, `"reason":"unsupported"`) {
		t.Errorf("got exit %d, %s%s; want the frame refused: unsupported", code, stdout, stderr)
	}
}

func TestM18_CommandsThatInferExitWith1WithoutARuntime(t *testing.T) {
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	t.Setenv("ONNXRUNTIME_LIB", in("none.so"))
	f, err := stock.Family()
	if err != nil {
		t.Fatal(err)
	}
	mustWrite(t, in("d.json"), f.Describe)
	mustWrite(t, in("m.onnx"), familytest.Model(t, "Identity"))
	for _, args := range [][]string{
		{"family", "import", "--describe", in("d.json"), "--member", "m=" + in("m.onnx") + ":0.5", "--out", in("out.family")},
		{"family", "verify"},
		{"family", "eval"},
		{"family", "export", "--member", "5.8M", "--out", in("m.onnx.out")},
		{"agent", "--profile", "--state", in("state")},
		{"bench", "memory"},
		{"demo"},
	} {
		t.Run(strings.Join(args[:min(2, len(args))], " "), func(t *testing.T) {
			limber(t, args...).complained(t, exitFailed, "ONNX Runtime is not usable", "none.so", "set ONNXRUNTIME_LIB")
		})
	}
	if _, err := os.Stat(in("out.family")); err == nil {
		t.Error("import wrote a family")
	}
}

func TestTheTrialIsNoCommandForPeople(t *testing.T) {
	if help := limber(t, "family", "--help"); strings.Contains(help.stdout, trialCommand) {
		t.Errorf("got %s", help.stdout)
	}
}
