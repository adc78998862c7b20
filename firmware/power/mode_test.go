package power_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/limber-edge/limber/firmware/power"
)

const orinConf = `# FORMAT:
# < PARAM TYPE=PARAM_TYPE NAME=PARAM_NAME >
< PARAM TYPE=FILE NAME=CPU_ONLINE >
CORE_0 /sys/devices/system/cpu/cpu0/online

# < POWER_MODEL ID=9 NAME=EXAMPLE >
< POWER_MODEL ID=0 NAME=MAXN >
CPU_ONLINE CORE_0 1
CPU_A78_0 MAX_FREQ -1
<POWER_MODEL ID=1 NAME=MODE_15W>
CPU_A78_0 MAX_FREQ 1113600
  < POWER_MODEL ID=2 NAME=MODE_30W >
< POWER_MODEL ID=2 NAME=TWICE >
< POWER_MODEL ID=x NAME=NO_NUMBER >
< POWER_MODEL ID=4 NAME=a/b >
< FAN_CONFIG DEFAULT=quiet >
# mandatory section to configure the default power mode
< PM_CONFIG DEFAULT=2 >
`

func (b board) jetson() {
	b.write("etc/nvpmodel.conf", orinConf)
	b.cpu(0, 1000000, 1113600, 2201600)
}

// nvpmodel puts a stand-in for NVIDIA's tool on the board.
func (b board) nvpmodel(script string) {
	b.tb.Helper()
	b.write("usr/sbin/nvpmodel", "#!/bin/sh\n"+strings.ReplaceAll(script, "ROOT", b.root))
}

func TestModesAreThoseOfTheBoard(t *testing.T) {
	jetson, clock := []string{"MAXN", "MODE_15W", "MODE_30W"}, []string{"clock-100", "clock-75", "clock-50"}
	for _, tt := range []struct {
		name    string
		make    func(board)
		modes   []string
		current string
	}{
		{"Jetson, as nvpmodel left it", func(b board) { b.jetson(); b.write("var/lib/nvpmodel/status", "pmode:0001") },
			jetson, "MODE_15W"},
		{"Jetson, with a fan's mode", func(b board) {
			b.jetson()
			b.write("var/lib/nvpmodel/status",
				"pmode:0000 fmode:quiet")
		}, jetson, "MAXN"},
		{"Jetson, never set", func(b board) { b.jetson() }, jetson, "MODE_30W"},
		{"Jetson, damaged status", func(b board) { b.jetson(); b.write("var/lib/nvpmodel/status", "pmode:") }, jetson, ""},
		{"Jetson, a mode that is no more", func(b board) { b.jetson(); b.write("var/lib/nvpmodel/status", "pmode:0007") },
			jetson, ""},
		{"a configuration without modes", func(b board) { b.write("etc/nvpmodel.conf", "#"); b.cpu(0, 1, 2000000, 2000000) },
			clock, "clock-100"},
		{"plain Linux at half", func(b board) { b.cpu(0, 1, 1000000, 2000000); b.cpu(1, 1, 1020000, 2000000) }, clock,
			"clock-50"},
		{"plain Linux, processors differ", func(b board) { b.cpu(0, 1, 1000000, 2000000); b.cpu(1, 1, 2000000, 2000000) },
			clock, ""},
		{"plain Linux, another limit", func(b board) { b.cpu(0, 1, 1300000, 2000000) }, clock, ""},
		{"no clock to scale", func(board) {}, nil, ""},
	} {
		b := mustBoard(t)
		tt.make(b)
		if m := power.New(b.root).Modes(); !slices.Equal(m.Names, tt.modes) || m.Current != tt.current {
			t.Errorf("%s: got %v in %q, want %v in %q", tt.name, m.Names, m.Current, tt.modes, tt.current)
		}
	}
	b := mustBoard(t)
	b.cpu(0, 1, 1, 2)
	if m := power.New(b.root).Modes(); m.Governor != "schedutil" {
		t.Errorf("got governor %q, want schedutil", m.Governor)
	}
}

func mustSetter(tb testing.TB, b board) *power.Setter {
	tb.Helper()
	s, err := power.New(b.root).Setter(power.Permission{SetMode: true})
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

func TestWithoutPermissionNothingSetsAMode(t *testing.T) {
	if s, err := power.New(t.TempDir()).Setter(power.Permission{}); !errors.Is(err, power.ErrForbidden) || s != nil {
		t.Errorf("got %v, %v; want ErrForbidden", s, err)
	}
}

func TestSetOnAJetson(t *testing.T) {
	const obeys = `printf 'pmode:%04d\n' "$2" > ROOT/var/lib/nvpmodel/status`
	for _, tt := range []struct {
		name, script, mode string
		says               []string
		is                 error
		current            string
	}{
		{"it obeys", obeys, "MAXN", nil, nil, "MAXN"},
		{"it leaves a child behind", "sleep 5 & " + obeys, "MAXN", nil, nil, "MAXN"},
		{"it wants a reboot",
			`echo 'NVPM WARN: Reboot required for changing to this power mode'; read answer; [ "$answer" = yes ] && ` + obeys +
				"; exit 0",
			"MAXN", []string{"MAXN", "takes a reboot", "nvpmodel -m 0"}, power.ErrReboot, "MODE_15W"},
		{"it fails", `echo some; echo 'NVPM ERROR: failed to set power mode!' >&2; exit 3`, "MAXN",
			[]string{"exit status 3", "NVPM ERROR"}, nil, "MODE_15W"},
		{"it lies", "exit 0", "MAXN", []string{"content", "MODE_15W is in force"}, nil, "MODE_15W"},
		{"no such mode", obeys, "clock-50", []string{"clock-50", "there are MAXN, MODE_15W, MODE_30W"}, power.ErrUnknown,
			"MODE_15W"},
		{"it is missing", "", "MAXN", []string{"nvpmodel", "no such file"}, os.ErrNotExist, "MODE_15W"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := mustBoard(t)
			b.jetson()
			b.write("var/lib/nvpmodel/status", "pmode:0001")
			if tt.script != "" {
				b.nvpmodel(tt.script)
			}
			err := mustSetter(t, b).Set(t.Context(), tt.mode)
			if (err == nil) != (tt.says == nil) || tt.is != nil && !errors.Is(err, tt.is) {
				t.Fatalf("got %v", err)
			}
			for _, s := range tt.says {
				if !strings.Contains(err.Error(), s) {
					t.Errorf("got %v, want it to say %q", err, s)
				}
			}
			if m := power.New(b.root).Modes(); m.Current != tt.current {
				t.Errorf("%s is in force, want %s", m.Current, tt.current)
			}
		})
	}
}

// The shell leaves a child behind that holds its output.
func TestAHangingToolIsKilledWhenTimeIsOver(t *testing.T) {
	b := mustBoard(t)
	b.jetson()
	b.nvpmodel("sleep 5; true")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	began := time.Now()
	err := mustSetter(t, b).Set(ctx, "MAXN")
	if took := time.Since(began); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(),
		"MAXN: nvpmodel did not end in time") || took > 4*time.Second {
		t.Errorf("got %v after %v, want that it was killed at once", err, took)
	}
}

func TestSetOnPlainLinuxLimitsEveryClock(t *testing.T) {
	b := mustBoard(t)
	b.cpu(0, 1, 2000000, 2000000)
	b.cpu(1, 1, 1500000, 1500000)
	s := mustSetter(t, b)
	for _, mode := range []string{"clock-50", "clock-75", "clock-100"} {
		if err := s.Set(t.Context(), mode); err != nil {
			t.Error(err)
		}
		if m := power.New(b.root).Modes(); m.Current != mode {
			t.Errorf("%s is in force, want %s", m.Current, mode)
		}
	}
	if got, err := os.ReadFile(filepath.Join(b.root,
		"sys/devices/system/cpu/cpu1/cpufreq/scaling_max_freq")); string(got) != "1500000" {
		t.Errorf("got %s, %v; want 1500000 kHz", got, err)
	}
	if err := s.Set(t.Context(), "clock-10"); !errors.Is(err, power.ErrUnknown) {
		t.Errorf("got %v, want ErrUnknown", err)
	}
	b.remove("sys/devices/system/cpu")
	if err := s.Set(t.Context(), "clock-50"); !errors.Is(err, power.ErrUnknown) {
		t.Errorf("nothing to scale: got %v, want ErrUnknown", err)
	}
}

func FuzzModes(f *testing.F) {
	f.Add(orinConf, "pmode:0002")
	f.Add("< POWER_MODEL ID=0 NAME=A >\n<>\n< >\n<PM_CONFIG DEFAULT=-1>", "pmode:-1")
	f.Add("< POWER_MODEL =0 NAME >", "pmode:99999999999999999999")
	f.Fuzz(func(t *testing.T, conf, status string) {
		b := mustBoard(t)
		b.write("etc/nvpmodel.conf", conf)
		b.write("var/lib/nvpmodel/status", status)
		m := power.New(b.root).Modes()
		if m.Current != "" && !slices.Contains(m.Names, m.Current) {
			t.Errorf("%q is in force, which is none of %q", m.Current, m.Names)
		}
		for _, name := range m.Names {
			if name == "" || strings.ContainsAny(name, "/ \n") {
				t.Errorf("a mode is called %q", name)
			}
		}
	})
}
