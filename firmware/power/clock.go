package power

import "path/filepath"

// gpu is the share of the GPU's time, in percent. The driver of a Jetson gives
// tenths of a percent, and JetPack by JetPack another place for it.
func (b *Board) gpu() *float64 {
	for _, path := range b.glob("sys/devices/gpu.0/load", "sys/devices/platform/*gpu*/load",
		"sys/devices/platform/bus@0/*gpu*/load", "sys/class/devfreq/*gpu*/device/load") {
		if v, ok := number(path); ok && v >= 0 && v <= 1000 {
			v /= 10
			return &v
		}
	}
	return nil
}

// clock is the mean share of the full clock over the processors, in percent,
// and whether one of them is kept from it.
func (b *Board) clock() (percent *float64, capped *bool) {
	var sum float64
	var n int
	held := false
	for _, dir := range b.glob(cpufreq) {
		full, ok := number(filepath.Join(dir, "cpuinfo_max_freq"))
		if !ok || full <= 0 {
			continue
		}
		if limit, ok := number(filepath.Join(dir, "scaling_max_freq")); ok {
			held = held || limit < full
			capped = &held
		}
		if now, ok := number(filepath.Join(dir, "scaling_cur_freq")); ok && now >= 0 {
			sum += min(1, now/full) // a turbo clock may be over what is called full
			n++
		}
	}
	if n > 0 {
		mean := 100 * sum / float64(n)
		percent = &mean
	}
	return percent, capped
}

// cpufreq is the folder of each processor that is on and has a clock to scale,
// in kHz.
const cpufreq = "sys/devices/system/cpu/cpu[0-9]*/cpufreq"
