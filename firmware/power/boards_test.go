package power_test

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/limber-edge/limber/firmware/power"
)

// mustFake is a copy of one of the boards in testdata, with a stand-in for nvpmodel.
func mustFake(tb testing.TB, name string) board {
	tb.Helper()
	b := mustBoard(tb)
	for _, part := range []string{"boards/" + name, "tool"} {
		if err := os.CopyFS(b.root, os.DirFS(filepath.Join("testdata", part))); err != nil {
			tb.Fatal(err)
		}
	}
	return b
}

func (b board) read(path string) string {
	b.tb.Helper()
	text, err := os.ReadFile(filepath.Join(b.root, path))
	if err != nil {
		b.tb.Fatal(err)
	}
	return string(text)
}

func (b board) has(path string) bool {
	_, err := os.Stat(filepath.Join(b.root, path))
	return err == nil
}

// starts does what nvpmodel does at a board's start: it takes the mode of its status file.
func (b board) starts() {
	b.tb.Helper()
	number, _, _ := strings.Cut(strings.TrimPrefix(b.read("var/lib/nvpmodel/status"), "pmode:"), " ")
	number = strings.TrimLeft(strings.TrimSpace(number), "0")
	if number == "" {
		number = "0"
	}
	b.write("fake/live", number)
}

func TestEachFakeBoardIsReadAsABoard(t *testing.T) {
	for _, tt := range []struct{ board, modes, current, custom, watts string }{
		{"nano", "MAXN 5W", "MAXN", "5W=1", "3.000"},
		{"xavier-nx", "MODE_15W MODE_15W_4CORE MODE_15W_6CORE MODE_10W_2CORE MODE_20W_6CORE", "MODE_20W_6CORE",
			"MODE_20W_6CORE=8", "7.500"},
		{"orin-nano", "15W 25W MAXN_SUPER 7W gate-night.2", "25W", "gate-night.2=12", "6.000"},
		{"agx-orin", "MAXN MODE_15W MODE_30W MODE_50W", "MODE_30W", "MODE_50W=3", "10.700"},
		{"pc", "clock-100 clock-75 clock-50", "clock-100", "clock-50=2", "absent"},
	} {
		t.Run(tt.board, func(t *testing.T) {
			p := power.New(mustFake(t, tt.board).root)
			for _, when := range []string{"by its files", "asked"} {
				m := p.Modes()
				if got := strings.Join(m.Names, " "); got != tt.modes || m.Current != tt.current || m.Governor != "schedutil" {
					t.Errorf("%s: got %s in %s, governor %s; want %s in %s", when, got, m.Current, m.Governor, tt.modes, tt.current)
				}
				if differs := p.Ask(t.Context()); differs != "" {
					t.Errorf("got %q, want both to agree", differs)
				}
			}
			name, number, _ := strings.Cut(tt.custom, "=")
			if id, ok := p.Modes().ID(name); !ok || strconv.Itoa(id) != number {
				t.Errorf("%s: got the number %d, %t; want %s", name, id, ok, number)
			}
			if r := p.Read(time.Now()); show(r.Watts) != tt.watts || r.ClockPercent == nil {
				t.Errorf("got %s W, want %s", show(r.Watts), tt.watts)
			}
		})
	}
}

func TestWhatNvpmodelSaysCountsUntilItsStatusFileChanges(t *testing.T) {
	b := mustFake(t, "xavier-nx")
	p := power.New(b.root)
	b.write("fake/live", 1)
	const says = "nvpmodel -q says that the power mode is MODE_15W_4CORE, and /var/lib/nvpmodel/status that it is " +
		"MODE_20W_6CORE: the former counts"
	if differs := p.Ask(t.Context()); differs != says || p.Modes().Current != "MODE_15W_4CORE" {
		t.Errorf("got %q and %s, want %q", differs, p.Modes().Current, says)
	}
	b.write("var/lib/nvpmodel/status", "pmode:0002") // by somebody on the device
	if got := p.Modes().Current; got != "MODE_15W_6CORE" {
		t.Errorf("got %s, want what the file says", got)
	}
	b.write("fake/live", 7) // which is none
	if differs := p.Ask(t.Context()); differs != "" || p.Modes().Current != "MODE_15W_6CORE" {
		t.Errorf("got %q and %s, want what the file says", differs, p.Modes().Current)
	}
}

func TestABoardWhoseToolDoesNotAnswerIsReadByItsFiles(t *testing.T) {
	t.Parallel()
	b := mustFake(t, "xavier-nx")
	b.write("fake/asked")
	p, began := power.New(b.root), time.Now()
	differs := p.Ask(t.Context())
	if took := time.Since(began); differs != "" || p.Modes().Current != "MODE_20W_6CORE" || took < 5*time.Second || took > 9*time.Second {
		t.Errorf("got %q and %s after %v, want the file's after 5s", differs, p.Modes().Current, took)
	}
	b.remove("usr/sbin/nvpmodel")
	if differs := p.Ask(t.Context()); differs != "" || p.Modes().Current != "MODE_20W_6CORE" {
		t.Errorf("without a tool: got %q and %s", differs, p.Modes().Current)
	}
}
