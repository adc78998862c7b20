package power

import (
	"fmt"
	"path/filepath"
	"strings"
)

// rail is one channel of a power monitor.
type rail struct {
	name  string
	watts *float64 // nil: it cannot be read now
}

// channels an INA3221 has.
const channels = 3

// rails are the channels in use of every INA3221: through hwmon, as JetPack 5
// and later have it, else through the industrial I/O driver of JetPack 4.
func (b *Board) rails() (rails []rail) {
	for _, name := range b.glob("sys/class/hwmon/hwmon*/name") {
		if chip, ok := text(name); ok && chip == "ina3221" {
			rails = append(rails, hwmonRails(filepath.Dir(name))...)
		}
	}
	if len(rails) > 0 {
		return rails
	}
	for _, dir := range b.glob("sys/bus/i2c/drivers/ina3221*/*/iio:device*") {
		rails = append(rails, iioRails(dir)...)
	}
	return rails
}

// hwmonRails are those of one chip: millivolts times milliamperes.
func hwmonRails(dir string) (rails []rail) {
	for ch := 1; ch <= channels; ch++ {
		file := func(format string) string { return filepath.Join(dir, fmt.Sprintf(format, ch)) }
		name, ok := text(file("in%d_label"))
		if !ok || unused(name) {
			continue
		}
		if on, ok := number(file("in%d_enable")); ok && on == 0 {
			continue
		}
		r := rail{name: name}
		mv, ok1 := number(file("in%d_input"))
		ma, ok2 := number(file("curr%d_input"))
		if ok1 && ok2 {
			r.watts = positive(mv * ma / 1e6)
		}
		rails = append(rails, r)
	}
	return rails
}

// iioRails are those of one chip: milliwatts.
func iioRails(dir string) (rails []rail) {
	for ch := range channels {
		name, ok := text(filepath.Join(dir, fmt.Sprintf("rail_name_%d", ch)))
		if !ok || unused(name) {
			continue
		}
		r := rail{name: name}
		if mw, ok := number(filepath.Join(dir, fmt.Sprintf("in_power%d_input", ch))); ok {
			r.watts = positive(mw / 1e3)
		}
		rails = append(rails, r)
	}
	return rails
}

// unused tells whether a channel is connected to nothing.
func unused(name string) bool { return name == "" || strings.EqualFold(name, "NC") }

// positive is v without the few milliwatts under zero that an idle channel
// shows.
func positive(v float64) *float64 {
	v = max(0, v)
	return &v
}

// readable are the rails that have a value, by name.
func readable(rails []rail) map[string]float64 {
	var watts map[string]float64
	for _, r := range rails {
		if r.watts == nil {
			continue
		}
		if watts == nil {
			watts = make(map[string]float64, len(rails))
		}
		watts[r.name] = *r.watts
	}
	return watts
}

// inputs are the rails through which everything else of a module flows, by
// preference: Orin NX and Nano, Xavier NX, TX2 and TX1; Nano; others.
var inputs = [...]string{"VDD_IN", "POM_5V_IN", "VDD_TOTAL"}

// total is the power of the module. An input rail is all of it. The AGX modules
// have none: there it is the sum of the rails but for those that another one
// feeds. With a term that cannot be read now, there is no total.
func total(rails []rail) *float64 {
	for _, input := range inputs {
		for _, r := range rails {
			if strings.EqualFold(r.name, input) {
				return r.watts
			}
		}
	}
	sum := 0.0
	for _, r := range rails {
		if fed(r.name, rails) {
			continue
		}
		if r.watts == nil {
			return nil
		}
		sum += *r.watts
	}
	return &sum
}

// fed tells whether a rail's power is part of that of another one, or none of
// the module's. AGX Orin makes its memory's supply from VIN_SYS_5V0; AGX Xavier,
// whose names differ, makes it from the input. CVB_ names are of the carrier
// board.
func fed(name string, rails []rail) bool {
	if strings.HasPrefix(name, "CVB_") {
		return true
	}
	if name != "VDDQ_VDD2_1V8AO" {
		return false
	}
	for _, r := range rails {
		if r.name == "VIN_SYS_5V0" {
			return true
		}
	}
	return false
}
