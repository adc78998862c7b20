package image

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"
)

const (
	compatible = "limber-test-board"
	slotBytes  = 1 << 20
)

// device is one with RAUC, two slots and a boot loader, all of its own.
type device struct {
	*RAUC
	tb   testing.TB
	dir  string
	env  []string
	stop func() // the service
}

// mustDevice starts a device in slot A, with lines for RAUC's configuration. But for its
// folder, what it takes is gone when this process is, whatever ends it.
func mustDevice(tb testing.TB, system ...string) *device {
	tb.Helper()
	for _, program := range []string{"rauc", "dbus-daemon", "mksquashfs"} {
		if _, err := exec.LookPath(program); err != nil {
			tb.Skipf("no %s: install Debian's rauc, dbus-daemon and squashfs-tools", program)
		}
	}
	if os.Geteuid() != 0 {
		tb.Skip("RAUC mounts bundles, for which it wants root")
	}
	dir, err := os.MkdirTemp("", "rauc") // a socket's path must be short
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { os.RemoveAll(dir) })
	backend, err := filepath.Abs("testdata/bootloader")
	if err != nil {
		tb.Fatal(err)
	}
	d := &device{tb: tb, dir: dir, stop: func() {}}
	ours, a, b := d.key("ours")+".crt", d.mustLoop("A"), d.mustLoop("B")
	mustWrite(tb, d.path("system.conf"), fmt.Sprintf(`[system]
compatible=%s
bootloader=custom
mountprefix=%s
statusfile=%s
%s

[handlers]
bootloader-custom-backend=%s

[keyring]
path=%s

[slot.rootfs.0]
device=%s
type=raw
bootname=A

[slot.rootfs.1]
device=%s
type=raw
bootname=B
`, compatible, d.path("mnt"), d.path("status"), strings.Join(system, "\n"), backend, ours, a, b))
	bus := d.mustBus()
	d.env = append(os.Environ(), "DBUS_SYSTEM_BUS_ADDRESS="+bus, "BOOT_STATE="+d.path("boot"))
	d.RAUC = NewRAUC(bus, d.path("root"))
	d.boot("A")
	return d
}

func (d *device) path(name string) string { return filepath.Join(d.dir, name) }

func mustWrite(tb testing.TB, name, text string) {
	tb.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		tb.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o755); err != nil {
		tb.Fatal(err)
	}
}

// mustLoop makes a block device of a file full of the slot's name. The kernel dissolves it
// when it is closed, and so also when this process is killed.
func (d *device) mustLoop(name string) string {
	d.tb.Helper()
	file, err := os.OpenFile(d.path(name), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		d.tb.Fatal(err)
	}
	defer file.Close()
	if _, err := file.Write(bytes.Repeat([]byte(name), slotBytes)); err != nil {
		d.tb.Fatal(err)
	}
	control, err := os.Open("/dev/loop-control")
	if err != nil {
		d.tb.Skipf("no loop devices on this machine: %v", err)
	}
	defer control.Close()
	config := unix.LoopConfig{Fd: uint32(file.Fd()), Info: unix.LoopInfo64{Flags: unix.LO_FLAGS_AUTOCLEAR}}
	for range 10 { // another process may take the free one first
		n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			d.tb.Skipf("no free loop device on this machine: %v", err)
		}
		loop, err := os.OpenFile(fmt.Sprintf("/dev/loop%d", n), os.O_RDWR, 0)
		if err != nil {
			d.tb.Skipf("no loop devices on this machine: %v", err)
		}
		if err = unix.IoctlLoopConfigure(int(loop.Fd()), &config); err == nil {
			d.tb.Cleanup(func() { loop.Close() })
			return loop.Name()
		}
		loop.Close()
		if err != unix.EBUSY {
			d.tb.Skipf("loop devices are refused on this machine: %v", err)
		}
	}
	d.tb.Fatal("no loop device could be had")
	return ""
}

// start runs a program until stop or the end of the test, and not longer than this process.
// Its mounts are its own, and go with it.
func (d *device) start(stdout *os.File, program string, args ...string) (stop func()) {
	d.tb.Helper()
	var stderr bytes.Buffer
	cmd := exec.Command(program, args...)
	cmd.Env, cmd.Stdout, cmd.Stderr = d.env, stdout, &stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Unshareflags: syscall.CLONE_NEWNS, Setpgid: true}
	if err := cmd.Start(); err != nil {
		d.tb.Fatal(err)
	}
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		cmd.Wait()
		if d.tb.Failed() {
			d.tb.Logf("%s: %s", program, stderr.String())
		}
	}
	d.tb.Cleanup(stop)
	return stop
}

// mustBus starts a bus on which everybody may do everything.
func (d *device) mustBus() (address string) {
	d.tb.Helper()
	mustWrite(d.tb, d.path("bus.conf"), `<busconfig>
<listen>unix:path=`+d.path("bus")+`</listen><auth>EXTERNAL</auth>
<policy context="default"><allow send_destination="*"/><allow receive_sender="*"/><allow own="*"/></policy>
</busconfig>`)
	r, w, err := os.Pipe()
	if err != nil {
		d.tb.Fatal(err)
	}
	defer r.Close()
	d.start(w, "dbus-daemon", "--nofork", "--print-address", "--config-file="+d.path("bus.conf"))
	w.Close()
	address, err = bufio.NewReader(r).ReadString('\n') // it listens
	if err != nil {
		d.tb.Fatalf("dbus-daemon: %v", err)
	}
	address, _, _ = strings.Cut(strings.TrimSpace(address), ",")
	return address
}

// boot starts the device as often as slots are named, each of them the one that the boot
// loader must choose. Only in the last one does the system come up.
func (d *device) boot(want ...string) {
	d.tb.Helper()
	d.stop()
	for _, want := range want {
		cmd := exec.CommandContext(d.tb.Context(), "testdata/bootloader", "boot")
		cmd.Env = d.env
		out, err := cmd.CombinedOutput()
		if got := strings.TrimSpace(string(out)); err != nil || got != want {
			d.tb.Fatalf("the boot loader starts %q (%v), want %q", got, err, want)
		}
	}
	d.serve(want[len(want)-1])
}

// serve starts RAUC's service as in a slot, and waits until it is on the bus.
func (d *device) serve(slot string) {
	d.tb.Helper()
	conn, err := dbus.Connect(d.bus)
	if err != nil {
		d.tb.Fatal(err)
	}
	defer conn.Close()
	signals := make(chan *dbus.Signal, 16)
	conn.Signal(signals)
	if err := conn.AddMatchSignal(dbus.WithMatchMember("NameOwnerChanged"), dbus.WithMatchArg(0, raucName)); err != nil {
		d.tb.Fatal(err)
	}
	d.stop = d.start(nil, "rauc", "--conf="+d.path("system.conf"), "service", "--override-boot-slot="+slot)
	for late := time.After(30 * time.Second); ; {
		select {
		case s := <-signals:
			if len(s.Body) == 3 && s.Body[0] == raucName && s.Body[2] != "" {
				return
			}
		case <-late:
			d.tb.Fatal("RAUC's service did not start within 30 s")
		}
	}
}

// key is a path with .crt and .key after it.
func (d *device) key(name string) string {
	d.tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		d.tb.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name},
		NotAfter: time.Now().Add(time.Hour), BasicConstraintsValid: true, IsCA: true}
	crt, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		d.tb.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		d.tb.Fatal(err)
	}
	mustWrite(d.tb, d.path(name+".crt"), string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: crt})))
	mustWrite(d.tb, d.path(name+".key"), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})))
	return d.path(name)
}

// bundle makes one of an image, with a signature, and returns its path.
func (d *device) bundle(key, compatible, version, image string) string {
	d.tb.Helper()
	in, err := os.MkdirTemp(d.dir, "in")
	if err != nil {
		d.tb.Fatal(err)
	}
	mustWrite(d.tb, filepath.Join(in, "rootfs.img"), image)
	mustWrite(d.tb, filepath.Join(in, "manifest.raucm"), fmt.Sprintf("[update]\ncompatible=%s\nversion=%s\n\n"+
		"[bundle]\nformat=plain\n\n[image.rootfs]\nfilename=rootfs.img\n", compatible, version))
	out := in + ".raucb"
	cmd := exec.CommandContext(d.tb.Context(), "rauc", "--cert="+key+".crt", "--key="+key+".key", "bundle", in, out)
	if said, err := cmd.CombinedOutput(); err != nil {
		d.tb.Fatalf("rauc bundle: %v\n%s", err, said)
	}
	return out
}

// install brings an image of our own to the slot that does not run.
func (d *device) install(version, image string) {
	d.tb.Helper()
	if err := d.Install(d.tb.Context(), d.bundle(d.path("ours"), compatible, version, image), nil); err != nil {
		d.tb.Fatal(err)
	}
}

// holds fails the test unless a slot begins with a text.
func (d *device) holds(slot, want string) {
	d.tb.Helper()
	b, err := os.ReadFile(d.path(slot))
	if err != nil {
		d.tb.Fatal(err)
	}
	if got := string(b[:min(len(want), len(b))]); got != want {
		d.tb.Errorf("slot %s holds %.20q, want %.20q", slot, got, want)
	}
}

// stands fails the test unless these slots run and start next.
func (d *device) stands(running, next string) Slots {
	d.tb.Helper()
	s, err := d.Active(d.tb.Context())
	if err != nil {
		d.tb.Fatal(err)
	}
	if s.Running.Name != running || s.Next != next {
		d.tb.Fatalf("%s runs and %s is next, want %s and %s", s.Running.Name, s.Next, running, next)
	}
	return s
}

// held is an installation that stands before the slot is written, and what it returned.
// release lets it go on.
func (d *device) held(ctx context.Context) (result chan error, release func()) {
	d.tb.Helper()
	pipe := d.path("boot.hold")
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		d.tb.Fatal(err)
	}
	bundle := d.bundle(d.path("ours"), compatible, "1.4.0", image(1))
	result = make(chan error, 1)
	go func() { result <- d.Install(ctx, bundle, nil) }()
	w, err := os.OpenFile(pipe, os.O_WRONLY, 0) // when the boot loader reads it
	if err != nil {
		d.tb.Fatal(err)
	}
	if err := os.Remove(pipe); err != nil {
		d.tb.Fatal(err)
	}
	d.tb.Cleanup(func() { w.Close() })
	return result, func() { w.Close() }
}

// image is the text of one, which differs by its number.
func image(n int) string { return strings.Repeat(fmt.Sprintf("image %d ", n), 1<<12) }
