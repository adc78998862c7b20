package power_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
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

// set sets a mode.
func set(tb testing.TB, b board, c power.Change) (now string, err error) {
	tb.Helper()
	return mustSetter(tb, b).Set(tb.Context(), c)
}

func TestSetOnAJetson(t *testing.T) {
	for _, tt := range []struct {
		name, mode string
		make       func(b board)
		says       []string
		is         error
		reason     string
		current    string
	}{
		{"it obeys", "MODE_15W", func(board) {}, nil, nil, "", "MODE_15W"},
		{"it has this one already", "MODE_20W_6CORE", func(board) {}, nil, nil, "", "MODE_20W_6CORE"},
		{"it leaves a child behind", "MODE_15W",
			func(b board) { b.nvpmodel("sleep 5 & printf 'pmode:0000' > ROOT/var/lib/nvpmodel/status") }, nil, nil, "", "MODE_15W"},
		{"it wants a reboot", "MODE_10W_2CORE", func(board) {}, []string{"power mode MODE_10W_2CORE: it takes a reboot",
			"--at-reboot leaves it", "--allow-reboot"}, power.ErrReboot, "needs_reboot", "MODE_20W_6CORE"},
		{"it fails", "MODE_15W", func(b board) { b.write("fake/fails") },
			[]string{"exit status 255", "NVPM ERROR: failed to set power mode!"}, nil, "internal", "MODE_20W_6CORE"},
		{"it lies", "MODE_15W", func(b board) { b.nvpmodel("exit 0") }, []string{"without an error, but MODE_20W_6CORE is in force"},
			nil, "internal", "MODE_20W_6CORE"},
		{"no such mode", "clock-50", func(board) {}, []string{"clock-50", "there are MODE_15W, MODE_15W_4CORE, "},
			power.ErrUnknown, "invalid", "MODE_20W_6CORE"},
		{"it is missing", "MODE_15W", func(b board) { b.remove("usr/sbin/nvpmodel") },
			[]string{"no such file", "install NVIDIA's package"}, power.ErrUnsupported, "unsupported", "MODE_20W_6CORE"},
		{"it prints for ever", "MODE_15W", func(b board) { b.nvpmodel("[ $1 = -q ] || yes | head -c 100000000; exit 3") },
			[]string{"exit status 3"}, nil, "internal", "MODE_20W_6CORE"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := mustFake(t, "xavier-nx")
			tt.make(b)
			now, err := set(t, b, power.Change{Mode: tt.mode})
			if (err == nil) != (tt.says == nil) || tt.is != nil && !errors.Is(err, tt.is) {
				t.Fatalf("got %v", err)
			}
			for _, s := range tt.says {
				if !strings.Contains(err.Error(), s) {
					t.Errorf("got %v, want it to say %q", err, s)
				}
			}
			if err != nil && power.Reason(err) != tt.reason {
				t.Errorf("got the reason %s, want %s", power.Reason(err), tt.reason)
			}
			if m := power.New(b.root).Modes(); m.Current != tt.current || now != tt.current {
				t.Errorf("%s is in force, and %s was returned; want %s", m.Current, now, tt.current)
			}
		})
	}
}

func TestAModeThatNvpmodelSaysIsInForceIsNotSetAgain(t *testing.T) {
	b := mustFake(t, "xavier-nx")
	p := power.New(b.root)
	s, _ := p.Setter(power.Permission{SetMode: true})
	p.Ask(t.Context())
	if now, err := s.Set(t.Context(), power.Change{Mode: "MODE_20W_6CORE"}); err != nil || now != "MODE_20W_6CORE" {
		t.Errorf("got %s, %v", now, err)
	}
	if got := b.read("fake/log"); got != "-q\n" {
		t.Errorf("nvpmodel was told %q, want only asked", got)
	}
}

// TestAModeThatWaitsForTheNextStartIsSetNowWhereThatIsAsked: its status file names it already.
func TestAModeThatWaitsForTheNextStartIsSetNowWhereThatIsAsked(t *testing.T) {
	b := mustFake(t, "xavier-nx")
	p := power.New(b.root)
	s, _ := p.Setter(power.Permission{SetMode: true})
	s.Set(t.Context(), power.Change{Mode: "MODE_15W", AtReboot: true})
	p.Rest()
	now, err := s.Set(t.Context(), power.Change{Mode: "MODE_15W"})
	if err != nil || now != "MODE_15W" || p.Modes().Current != now || b.read("fake/live") != "0\n" {
		t.Errorf("got %s, %v, %s in force and %s", now, err, p.Modes().Current, b.read("fake/live"))
	}
}

// The shell leaves a child behind that holds its output.
func TestAHangingToolIsKilledWhenTimeIsOver(t *testing.T) {
	b := mustFake(t, "xavier-nx")
	b.nvpmodel("sleep 600; true")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	began := time.Now()
	_, err := mustSetter(t, b).Set(ctx, power.Change{Mode: "MODE_15W"})
	if took := time.Since(began); !errors.Is(err, context.DeadlineExceeded) || power.Reason(err) != "expired" ||
		!strings.Contains(err.Error(), "MODE_15W: nvpmodel did not end in time") || took > 4*time.Second {
		t.Errorf("got %v after %v, want that it was killed at once", err, took)
	}
}

func TestTheToolGetsNothingOfTheEnvironment(t *testing.T) {
	t.Setenv("LIMBER_SECRET", "x")
	b := mustFake(t, "xavier-nx")
	if _, err := set(t, b, power.Change{Mode: "MODE_15W"}); err != nil {
		t.Fatal(err)
	}
	if got := b.read("fake/log"); got != "-m 0\n-q\n" {
		t.Errorf("got %q, want what it was told and nothing of the environment", got)
	}
}

func TestAChangeLeftToTheNextStartIsKeptByTheStatusFile(t *testing.T) {
	for _, tt := range []struct{ board, mode, was, status string }{
		{"xavier-nx", "MODE_10W_2CORE", "MODE_20W_6CORE", "pmode:0003 fmode:quiet\n"},
		{"orin-nano", "gate-night.2", "25W", "pmode:0012"}, // it was never set: no status
		{"agx-orin", "MAXN", "MODE_30W", "pmode:0000"},
		{"nano", "MAXN", "MAXN", "pmode:0000\n"},
	} {
		b := mustFake(t, tt.board)
		p := power.New(b.root)
		s, _ := p.Setter(power.Permission{SetMode: true})
		now, err := s.Set(t.Context(), power.Change{Mode: tt.mode, AtReboot: true})
		if err != nil || now != tt.was || p.Modes().Current != tt.was {
			t.Errorf("%s: got %s, %v and %s in force; want %s", tt.board, now, err, p.Modes().Current, tt.was)
		}
		if got := b.read("var/lib/nvpmodel/status"); got != tt.status {
			t.Errorf("%s: got %q, want %q", tt.board, got, tt.status)
		}
		if differs := p.Ask(t.Context()); differs != "" || p.Modes().Current != tt.was {
			t.Errorf("%s: asked while it waits: got %q, %s", tt.board, differs, p.Modes().Current)
		}
		b.starts()
		if m := power.New(b.root).Modes(); m.Current != tt.mode {
			t.Errorf("%s: after a start got %s, want %s", tt.board, m.Current, tt.mode)
		}
	}
	pc := mustFake(t, "pc")
	if _, err := set(t, pc, power.Change{Mode: "clock-50", AtReboot: true}); !errors.Is(err, power.ErrUnsupported) {
		t.Errorf("a PC: got %v, want ErrUnsupported", err)
	}
}

func TestABoardIsRebootedWithPermissionAndOnlyWhereTheModeTakesIt(t *testing.T) {
	allowed := power.Permission{SetMode: true, Reboot: true}
	for _, tt := range []struct {
		name     string
		mode     string
		may      power.Permission
		is       error
		now      string
		rebooted bool
	}{
		{"it takes one", "7W", allowed, nil, "25W", true},
		{"it takes none", "15W", allowed, nil, "15W", false},
		{"it was not allowed", "7W", power.Permission{SetMode: true}, power.ErrForbidden, "25W", false},
	} {
		b := mustFake(t, "orin-nano")
		p := power.New(b.root)
		s, _ := p.Setter(tt.may)
		now, err := s.Set(t.Context(), power.Change{Mode: tt.mode, AllowReboot: true})
		if !errors.Is(err, tt.is) || now != tt.now || p.Modes().Current != tt.now || b.has("fake/rebooted") != tt.rebooted {
			t.Errorf("%s: got %s, %v, %s in force, rebooted %t; want %s, %v, %t", tt.name, now, err, p.Modes().Current,
				b.has("fake/rebooted"), tt.now, tt.is, tt.rebooted)
		}
	}
}

func TestChangesAreTenSecondsApart(t *testing.T) {
	b := mustFake(t, "pc")
	synctest.Test(t, func(t *testing.T) {
		s := mustSetter(t, b)
		try := func(mode string, want error) {
			t.Helper()
			if _, err := s.Set(t.Context(), power.Change{Mode: mode}); !errors.Is(err, want) {
				t.Errorf("%s: got %v, want %v", mode, err, want)
			}
		}
		try("clock-50", nil)
		try("clock-50", nil) // it is in force: nothing changes
		try("clock-75", power.ErrBusy)
		time.Sleep(10*time.Second - 1)
		try("clock-75", power.ErrBusy)
		time.Sleep(time.Nanosecond)
		try("clock-75", nil)
	})
}

func TestAMinuteHasSixTries(t *testing.T) {
	b := mustFake(t, "xavier-nx")
	b.write("fake/fails")
	s := mustSetter(t, b)
	for i := range 8 {
		_, err := s.Set(t.Context(), power.Change{Mode: "MODE_15W"})
		if busy := errors.Is(err, power.ErrBusy); err == nil || busy != (i >= 6) || busy && power.Reason(err) != "busy" {
			t.Errorf("try %d: got %v", i+1, err)
		}
	}
}

func TestSetOnPlainLinuxLimitsEveryClock(t *testing.T) {
	b := mustBoard(t)
	b.cpu(0, 1, 2000000, 2000000)
	b.cpu(1, 1, 1500000, 1500000)
	synctest.Test(t, func(t *testing.T) {
		s := mustSetter(t, b)
		for _, mode := range []string{"clock-50", "clock-75", "clock-100"} {
			if now, err := s.Set(t.Context(), power.Change{Mode: mode}); err != nil || now != mode {
				t.Errorf("got %s, %v; want %s", now, err, mode)
			}
			if m := power.New(b.root).Modes(); m.Current != mode {
				t.Errorf("%s is in force, want %s", m.Current, mode)
			}
			time.Sleep(time.Minute)
		}
		if got := b.read("sys/devices/system/cpu/cpu1/cpufreq/scaling_max_freq"); got != "1500000" {
			t.Errorf("got %s, want 1500000 kHz", got)
		}
		if _, err := s.Set(t.Context(), power.Change{Mode: "clock-10"}); !errors.Is(err, power.ErrUnknown) {
			t.Errorf("got %v, want ErrUnknown", err)
		}
		b.remove("sys/devices/system/cpu")
		if _, err := s.Set(t.Context(), power.Change{Mode: "clock-50"}); !errors.Is(err, power.ErrUnknown) {
			t.Errorf("nothing to scale: got %v, want ErrUnknown", err)
		}
	})
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
