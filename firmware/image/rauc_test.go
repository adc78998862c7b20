package image

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/godbus/dbus/v5"
)

const slotA, slotB = "rootfs.0", "rootfs.1"

func TestABundleIsInstalledStartedAndMarkedGood(t *testing.T) {
	t.Parallel()
	d := mustDevice(t)
	if err := d.Preflight(t.Context()); err != nil {
		t.Fatal(err)
	}
	d.stands(slotA, slotA)
	percents, steps := []int{}, []string{}
	file := d.bundle(d.path("ours"), compatible, "1.4.0", image(1))
	err := d.Install(t.Context(), file, func(percent int, step string) {
		percents, steps = append(percents, percent), append(steps, step)
	})
	if err != nil {
		t.Fatal(err)
	}
	if n := len(percents); n == 0 || percents[n-1] != 100 || steps[n-1] == "" {
		t.Errorf("its progress was %v, %q", percents, steps)
	}
	d.holds("A", "AAAA")
	d.holds("B", image(1))
	if s := d.stands(slotA, slotB); s.Other.Version != "1.4.0" || !s.Other.Good {
		t.Errorf("the other slot is %+v", s.Other)
	}

	d.boot("B")
	d.stands(slotB, slotB)
	if err := d.Confirm(t.Context()); err != nil {
		t.Fatal(err)
	}
	d.boot("B", "B", "B", "B", "B")
	if s := d.stands(slotB, slotB); !s.Running.Good || s.Running.Version != "1.4.0" {
		t.Errorf("it runs %+v", s.Running)
	}

	d.install("1.5.0", image(2))
	d.holds("A", image(2))
	d.holds("B", image(1))
	d.boot("A")
}

func TestABundleThatIsNotForThisDeviceIsRefusedAndNothingIsWritten(t *testing.T) {
	t.Parallel()
	d := mustDevice(t)
	good := d.bundle(d.path("ours"), compatible, "1.4.0", image(1))
	whole, err := os.ReadFile(good)
	if err != nil {
		t.Fatal(err)
	}
	named := func(name string, b []byte) string {
		mustWrite(t, d.path(name), string(b))
		return d.path(name)
	}
	changed := append([]byte(nil), whole...)
	changed[100] ^= 1
	for _, tt := range []struct{ name, file, words string }{
		{"another key", d.bundle(d.key("theirs"), compatible, "1.4.0", image(1)), "signature verification failed"},
		{"another compatible", d.bundle(d.path("ours"), "toaster", "1.4.0", image(1)), `for "toaster"`},
		{"cut short", named("half", whole[:len(whole)/2]), "Signature size"},
		{"without its last byte", named("almost", whole[:len(whole)-1]), "Signature size"},
		{"one bit changed", named("changed", changed), "signature verification failed"},
		{"empty", named("empty", nil), "bundle format"},
		{"not there", d.path("none"), "No such file"},
		{"a URL", "http://127.0.0.1:1/a.raucb", "absolute path"},
		{"relative", "a.raucb", "absolute path"},
	} {
		err := d.Install(t.Context(), tt.file, nil)
		if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), tt.words) {
			t.Errorf("%s: %v", tt.name, err)
		}
		t.Logf("%s: %v", tt.name, err)
	}
	d.holds("B", "BBBB")
	d.stands(slotA, slotA)
	d.boot("A")
}

func TestASlotThatNeverComesUpIsLeftForTheOneBefore(t *testing.T) {
	t.Parallel()
	d := mustDevice(t)
	d.install("1.4.0", image(1))
	d.boot("B", "B", "B", "A")
	if s := d.stands(slotA, slotA); s.Other.Good {
		t.Errorf("the other slot is %+v", s.Other)
	}
	if err := d.Preflight(t.Context()); err != nil {
		t.Errorf("the next image: %v", err)
	}
	d.install("1.5.0", image(2))
	d.boot("B")
}

func TestAnImageIsGivenUpBeforeAndAfterItStarted(t *testing.T) {
	t.Parallel()
	d := mustDevice(t)
	for _, boots := range []string{"", "B"} {
		d.install("1.4.0", image(1))
		if boots != "" {
			d.boot(boots)
		}
		for range 2 { // it may be repeated
			if err := d.Revert(t.Context(), slotA); err != nil {
				t.Fatal(err)
			}
		}
		d.boot("A", "A", "A", "A")
		if s := d.stands(slotA, slotA); s.Other.Good {
			t.Errorf("the other slot is %+v", s.Other)
		}
	}
	for to, words := range map[string]string{slotB: "marked bad", "rootfs.7": "there are the slots"} {
		if err := d.Revert(t.Context(), to); !errors.Is(err, ErrPrecondition) || !strings.Contains(err.Error(), words) {
			t.Errorf("go back to %s: %v", to, err)
		}
	}
	d.stands(slotA, slotA)
}

func TestAnImageThatCannotBeWrittenDoesNotStart(t *testing.T) {
	t.Parallel()
	d := mustDevice(t)
	err := d.Install(t.Context(), d.bundle(d.path("ours"), compatible, "1.4.0", strings.Repeat("x", slotBytes+1)), nil)
	if err == nil || errors.Is(err, ErrRefused) {
		t.Errorf("it ended with %v", err)
	}
	t.Log(err)
	d.stands(slotA, slotA)
	d.boot("A")
}

func TestAnImageStartsNextAlsoWhereRAUCLeavesThatToOthers(t *testing.T) {
	t.Parallel()
	d := mustDevice(t, "activate-installed=false")
	d.install("1.4.0", image(1))
	d.stands(slotA, slotB)
	d.boot("B")
}

func TestAnInstallationThatIsNotWaitedForKeepsOthersOut(t *testing.T) {
	t.Parallel()
	d := mustDevice(t)
	ctx, cancel := context.WithCancel(t.Context())
	result, release := d.held(ctx)
	cancel()
	if err := <-result; !errors.Is(err, context.Canceled) {
		t.Errorf("it ended with %v", err)
	}
	if err := d.Preflight(t.Context()); !errors.Is(err, ErrBusy) {
		t.Errorf("another one: %v", err)
	}
	release()
	err := d.Preflight(t.Context())
	for errors.Is(err, ErrBusy) {
		err = d.Preflight(t.Context())
	}
	if err != nil {
		t.Error(err)
	}
	d.stands(slotA, slotB)
}

func TestAnInstallationWhoseServiceEndsIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	d := mustDevice(t)
	result, _ := d.held(t.Context())
	d.stop()
	if err := <-result; err == nil || !strings.Contains(err.Error(), "service ended") {
		t.Errorf("it ended with %v", err)
	}
	d.boot("A")
	d.install("1.4.0", image(1))
	d.boot("B")
}

func TestADeviceThatCouldNotComeBackIsRefused(t *testing.T) {
	t.Parallel()
	d := mustDevice(t)
	ask := func(want error, words string) {
		t.Helper()
		if err := d.Preflight(t.Context()); !errors.Is(err, want) || !strings.Contains(err.Error(), words) {
			t.Errorf("%v", err)
		}
	}
	d.stop()
	d.serve("elsewhere")
	ask(ErrPrecondition, "rauc.slot=")
	d.stop()
	d.serve("B") // which the boot loader calls bad
	ask(ErrPrecondition, "marked bad")
	d.stop()
	ask(ErrUnsupported, "rauc-service")
	d.bus = "unix:path=" + d.path("none")
	ask(ErrUnsupported, "no D-Bus")
}

func TestABusThatSaysNothingIsNotWaitedForLongerThanAsked(t *testing.T) {
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "bus"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		if conn, err := l.Accept(); err == nil {
			cancel()
			io.Copy(io.Discard, conn)
		}
	}()
	if err := NewRAUC("unix:path="+l.Addr().String(), t.TempDir()).Confirm(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("it ended with %v", err)
	}
}

func TestOnlyTwoSlotsOfOneClassAreAPair(t *testing.T) {
	slot := func(name, class, state, bootname string) slotStatus {
		return slotStatus{name, map[string]dbus.Variant{"class": dbus.MakeVariant(class), "state": dbus.MakeVariant(state),
			"bootname": dbus.MakeVariant(bootname)}}
	}
	a, b := slot("rootfs.0", "rootfs", "booted", "A"), slot("rootfs.1", "rootfs", "inactive", "B")
	apps := slot("appfs.1", "appfs", "inactive", "")
	rescue, third := slot("rescue.0", "rescue", "inactive", "R"), slot("rootfs.2", "rootfs", "inactive", "C")
	s, err := pair([]slotStatus{apps, b, a, rescue})
	if err != nil || s.Running.Name != slotA || s.Other.Name != slotB {
		t.Errorf("%+v, %v", s, err)
	}
	for name, all := range map[string][]slotStatus{
		"none": nil, "one": {a, apps}, "another class": {a, rescue}, "three": {a, b, third}, "none that runs": {b, rescue},
		"without a boot name": {a, slot("rootfs.1", "rootfs", "inactive", "")},
		"of another type":     {{"rootfs.0", map[string]dbus.Variant{"state": dbus.MakeVariant(1)}}},
	} {
		if s, err := pair(all); !errors.Is(err, ErrPrecondition) {
			t.Errorf("%s: %+v, %v", name, s, err)
		}
	}
}

func TestOnlyTheServiceSaysThatAnInstallationEnded(t *testing.T) {
	i := &installer{}
	told := 0
	progress := func(int, string) { told++ }
	good := []any{raucFace, map[string]dbus.Variant{"Progress": dbus.MakeVariant([]any{int32(7), "copying", int32(1)})}}
	for _, tt := range []struct {
		signal dbus.Signal
		ended  bool
		told   int
	}{
		{dbus.Signal{Sender: ":1.1", Name: raucFace + ".Completed", Body: []any{int32(0)}}, true, 0},
		{dbus.Signal{Sender: ":1.2", Name: raucFace + ".Completed", Body: []any{int32(0)}}, false, 0},
		{dbus.Signal{Sender: ":1.2", Name: busName + ".NameOwnerChanged", Body: []any{raucName, ":1.1", ""}}, false, 0},
		{dbus.Signal{Sender: busName, Name: busName + ".NameOwnerChanged", Body: []any{"another", "", ""}}, false, 0},
		{dbus.Signal{Sender: busName, Name: busName + ".NameOwnerChanged"}, false, 0},
		{dbus.Signal{Sender: ":1.1", Name: properties + ".PropertiesChanged", Body: good}, false, 1},
		{dbus.Signal{Sender: ":1.2", Name: properties + ".PropertiesChanged", Body: good}, false, 0},
		{dbus.Signal{Sender: ":1.1", Name: properties + ".PropertiesChanged", Body: []any{raucFace}}, false, 0},
		{dbus.Signal{Sender: ":1.1", Name: properties + ".PropertiesChanged", Body: []any{raucFace, 7}}, false, 0},
		{dbus.Signal{Sender: ":1.1", Name: properties + ".PropertiesChanged",
			Body: []any{raucFace, map[string]dbus.Variant{"Progress": dbus.MakeVariant("7")}}}, false, 0},
	} {
		told = 0
		ended, err := i.read(t.Context(), &tt.signal, ":1.1", progress)
		if ended != tt.ended || err != nil || told != tt.told {
			t.Errorf("%+v: ended %v, %v, told %d times", tt.signal, ended, err, told)
		}
	}
}
