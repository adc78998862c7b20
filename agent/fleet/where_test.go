package fleet_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/limber-edge/limber/agent/fleet"
	"github.com/limber-edge/limber/agent/wire"
)

const digest = "sha256:0f1e2d3c0f1e2d3c0f1e2d3c0f1e2d3c0f1e2d3c0f1e2d3c0f1e2d3c0f1e2d3c"

// known is a device that has said all that an expression can ask for.
func known() fleet.Device {
	return fleet.Device{Name: "cam-17", State: &wire.State{State: wire.Online},
		Caps: &wire.Caps{Versions: wire.Versions{Agent: "v0.2.0", Runtime: "1.30.0"}, Groups: []string{wire.Everybody, "@gate"},
			Family: &wire.Family{Name: "yard", Digest: digest}, Machine: "8aa3a67914c853eb",
			Arch: "arm64", Release: &wire.Release{Version: "1.5.0", Digest: digest, Slot: "a"},
			Power: &wire.Power{Mode: "MODE_15W"}, LastUpdate: &wire.LastUpdate{State: wire.CommandFailed},
			Members: []wire.Member{{Name: "s", Top1: 0.7, P95MS: new(5.0)}, {Name: "m", Top1: 0.76, P95MS: new(20.0)},
				{Name: "l", Top1: 0.9}}},
		Reported: &wire.Reported{Mode: "fixed:m", Member: "m"}, Labels: map[string]string{"site": "berlin", "a.b": "x"}}
}

func TestADeviceFitsWhereAllConditionsHold(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		where         string
		known, silent bool // what fits: one that said all, and one that said nothing, cam-2
	}{
		{"", true, true},
		{" ", true, true},
		{"device=cam-17", true, false},
		{"device!=cam-17", false, true},
		{"device=cam-*", true, true},
		{"device=*-1*7", true, false},
		{"device=c*m*17", true, false},
		{"device=cam-17*", true, false},
		{"device=cam", false, false},
		{"device=*cam", false, false},
		{"device=*a*a*", false, false},
		{"group=@gate", true, false},
		{"group=gate", true, false},
		{"group=g*", true, false},
		{"group!=@gate", false, true},
		{"group=@all", true, true},
		{"label.site=berlin", true, false},
		{"label.site!=berlin", false, true},
		{"label.site=rome", false, false},
		{"label.site=*", true, false},
		{"label.site!=*", false, true},
		{"label.a.b=x", true, false},
		{"state=online", true, false},
		{"state!=online", false, true},
		{"state=lost", false, false},
		{"mode=fixed:m", true, false},
		{"mode=fixed:*", true, false},
		{"mode!=balanced", true, true},
		{"member=m", true, false},
		{"family=yard", true, false},
		{"family=" + digest, true, false},
		{"family=sha256:0f", true, false},
		{"family=0f1e2d", true, false},
		{"family=0f1e2", false, false},
		{"family=1e2d3c", false, false},
		{"family!=*", false, true},
		{"agent=v0.2.0", true, false},
		{"agent!=v0.2.*", false, true},
		{"machine=8aa3a67914c853eb", true, false},
		{"release=1.5.0", true, false},
		{"release=1.5.*", true, false},
		{"release=1.5", false, false},
		{"release!=1.5.0", false, true},
		{"release=" + digest, true, false},
		{"release=sha256:0f", true, false},
		{"release!=*", false, true},
		{"arch=arm64", true, false},
		{"arch!=arm64", false, true},
		{"runtime=1.30.*", true, false},
		{"power=MODE_15W", true, false},
		{"power!=MAXN", true, true},
		{"update=failed", true, false},
		{"update=trial", false, false},
		{"can=20ms@0.76", true, false},
		{"can=19.9ms@0.76", false, false},
		{"can=20ms@0.77", false, false},
		{"can!=20ms@0.77", true, true},
		{"can=1s@0.9", false, false}, // that member was not measured
		{"label.site=berlin,state=online,can=10ms@0.5", true, false},
		{"label.site=berlin,state!=online", false, false},
		{" label.site = berlin , state != lost ", true, false},
	} {
		w, err := fleet.ParseWhere(tt.where)
		if err != nil {
			t.Errorf("%s: got %v", tt.where, err)
			continue
		}
		if got := w.Fits(known()); got != tt.known {
			t.Errorf("%s: one that said all fits: %v, want %v", tt.where, got, tt.known)
		}
		if got := w.Fits(fleet.Device{Name: "cam-2"}); got != tt.silent {
			t.Errorf("%s: one that said nothing fits: %v, want %v", tt.where, got, tt.silent)
		}
	}
}

func TestAnUpdateUnderWayCountsBeforeTheLastOne(t *testing.T) {
	t.Parallel()
	d := known()
	d.Caps.Update = &wire.UpdateStep{Step: wire.UpdateTrial}
	for where, want := range map[string]bool{"update=trial": true, "update=failed": false, "update=*": true} {
		w, err := fleet.ParseWhere(where)
		if err != nil || w.Fits(d) != want {
			t.Errorf("%s: got %v, %v; want %v", where, w.Fits(d), err, want)
		}
	}
}

func TestABadExpressionNamesThePositionAndWhatIsWanted(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		where string
		pos   int
		says  string
	}{
		{"state", 5, `want "=" or "!=" behind "state"`},
		{"state=online,mode", 17, `want "=" or "!="`},
		{"state=online,", 13, "a condition is missing"},
		{"state=online,,mode=x", 13, "a condition is missing"},
		{"state=", 6, "the value of state is missing"},
		{"state=online, colour=red", 14, `"colour" is none of device, group`},
		{"=red", 0, `"" is none of`},
		{"state=on", 6, `"on" is none of online, offline, lost`},
		{"state==online", 6, `"=online" is none of`},
		{"label.=x", 0, `the label "" is not`},
		{"label.a b=x", 0, `the label "a b" is not`},
		{"group=@", 6, "is no group"},
		{"group=@controller", 6, "is no group"},
		{"can=20ms", 4, "want a latency, @ and a top-1"},
		{"can=20@0.7", 4, "is not a duration"},
		{"can=-1ms@0.7", 4, "is not a duration over 0"},
		{"can=20ms@76", 9, "is not a fraction"},
		{"state=online,can=20ms@NaN", 22, "is not a fraction"},
		{strings.Repeat("x", fleet.MaxWhere+1), fleet.MaxWhere, "longer than 4096 bytes"},
	} {
		_, err := fleet.ParseWhere(tt.where)
		if bad, ok := errors.AsType[*fleet.WhereError](err); !ok || bad.Pos != tt.pos || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%.40s: got %v; want %q at %d", tt.where, err, tt.says, tt.pos)
		}
	}
}

// Whatever the expression: it is read or refused at a place within it, it fits a device
// or its opposite does, and spaces change nothing.
func FuzzParseWhere(f *testing.F) {
	for _, s := range []string{"", "device=cam-*,group!=@gate", "label.site=berlin", "can=20ms@0.76,state!=lost", "family=0f1e2d3c",
		"mode=**a*", "a,=", "state=online,"} {
		f.Add(s, "cam-17")
	}
	f.Fuzz(func(t *testing.T, s, name string) {
		d := known()
		d.Name = name
		w, err := fleet.ParseWhere(s)
		if err != nil {
			bad, ok := errors.AsType[*fleet.WhereError](err)
			if !ok || bad.Pos < 0 || bad.Pos > len(s) {
				t.Errorf("%q: got %v", s, err)
			}
			return
		}
		fits := w.Fits(d)
		spaced, err := fleet.ParseWhere(" " + strings.ReplaceAll(s, ",", " , ") + " ")
		if err == nil && spaced.Fits(d) != fits {
			t.Errorf("%q: with spaces around its conditions another fits", s)
		}
		if strings.Contains(s, ",") || strings.Count(s, "=") != 1 || strings.Contains(s, "!") {
			return
		}
		if opposite, err := fleet.ParseWhere(strings.Replace(s, "=", "!=", 1)); err != nil || opposite.Fits(d) == fits {
			t.Errorf("%q: its opposite: %v, which fits as well: %v", s, err, fits)
		}
	})
}
