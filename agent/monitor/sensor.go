package monitor

import (
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// temperatures are what the sensors say that can be read, those of hwmon and the
// thermal zones: a Jetson has zones, and a disk or a wireless card beside them is
// hwmon alone. A zone that the kernel shows as hwmon, too, with its dashes made
// underscores, keeps that name and is there once.
func temperatures(root string) map[string]float64 {
	var t thermometer
	for _, input := range hwmonInputs(root) {
		t.read(hwmonName(input), input)
	}
	for _, zone := range zones(root) {
		t.read(sysText(filepath.Join(zone, "type")), filepath.Join(zone, "temp"))
	}
	return t.temps
}

// A thermometer gathers sensors by name.
type thermometer struct {
	temps map[string]float64 // °C; of sensors of one name, the hottest
	names map[string]string  // with underscores for dashes → as it was seen first
}

// read notes what the sensor says whose file of thousandths is given, if it has a
// name and says anything.
func (t *thermometer) read(name, path string) {
	celsius, ok := celsius(path)
	if name == "" || !ok {
		return
	}
	if t.temps == nil {
		t.temps, t.names = map[string]float64{}, map[string]string{}
	}
	plain := strings.ReplaceAll(name, "-", "_")
	if _, seen := t.names[plain]; !seen {
		t.names[plain] = name
	}
	name = t.names[plain]
	if hottest, seen := t.temps[name]; !seen || celsius > hottest {
		t.temps[name] = tenth(celsius)
	}
}

// hwmonInputs are the files of hwmon's temperatures. Drivers that are old keep
// them with the device.
func hwmonInputs(root string) (inputs []string) {
	chips, _ := filepath.Glob(filepath.Join(root, "sys/class/hwmon/hwmon*")) // the patterns are well formed
	for _, chip := range chips {
		own, _ := filepath.Glob(filepath.Join(chip, "temp*_input"))
		if len(own) == 0 {
			own, _ = filepath.Glob(filepath.Join(chip, "device/temp*_input"))
		}
		inputs = append(inputs, own...)
	}
	return inputs
}

// hwmonName is the name of the chip with the label of its sensor, as in
// coretemp_core_0.
func hwmonName(input string) string {
	name := sysText(filepath.Join(filepath.Dir(input), "name"))
	label := sysText(strings.TrimSuffix(input, "_input") + "_label")
	if name == "" || label == "" {
		return name
	}
	return name + "_" + strings.ReplaceAll(strings.ToLower(label), " ", "_")
}

// zones are the folders of the thermal zones.
func zones(root string) []string {
	folders, _ := filepath.Glob(filepath.Join(root, "sys/class/thermal/thermal_zone*"))
	return folders
}

// celsius reads a sensor's file of thousandths. One that is off has no temperature:
// on Jetsons it says -256 °C, or that it is to be read again.
func celsius(path string) (float64, bool) {
	t, ok := milli(path)
	const off = -0.256 // a driver that forgets the thousandths
	return t, ok && t >= -60 && t <= 200 && t != off
}

// milli reads a file of thousandths.
func milli(path string) (float64, bool) {
	n, err := strconv.ParseInt(sysText(path), 10, 64)
	return float64(n) / 1000, err == nil
}

// sysText is the text of a small file of sysfs, or "" if there is none at this
// moment. A sensor that is off may answer EAGAIN, as those of accelerators do that
// an Orin Nano does not have; os.ReadFile would then wait for it for ever.
func sysText(path string) string {
	fd, err := again(func() (int, error) {
		return syscall.Open(path, syscall.O_RDONLY|syscall.O_NONBLOCK|syscall.O_CLOEXEC, 0)
	})
	if err != nil {
		return ""
	}
	defer syscall.Close(fd)
	var text [128]byte
	n, err := again(func() (int, error) { return syscall.Read(fd, text[:]) })
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text[:n]))
}

// again calls until no signal interrupts.
func again(call func() (int, error)) (n int, err error) {
	for {
		if n, err = call(); err != syscall.EINTR {
			return n, err
		}
	}
}
