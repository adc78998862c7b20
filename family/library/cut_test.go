package library

import (
	"fmt"
	"testing"

	"github.com/limber-edge/limber/family"
)

// A cut ends an operation after some of its steps. After the start that follows, a
// family is in use that is whole; repeating the operation ends where it would have
// ended; and where the operation is given up instead, the way back is open.
func TestAPowerCutAfterEveryStepIsRepeated(t *testing.T) {
	stock, mine, next := mustFamily(t, "stock", "1"), mustFamily(t, "mine", "2"), mustFamily(t, "next", "3")
	staged := func(t *testing.T, d *device) {
		must(t, d.Stage(&mine.Family, mine))
	}
	onTrial := func(t *testing.T, d *device) {
		staged(t, d)
		must(t, d.Activate())
	}
	names := func(t *testing.T, d *device) Names {
		n, err := d.Names()
		must(t, err)
		return n
	}
	for _, op := range []struct {
		name   string
		before func(*testing.T, *device)
		steps  func(*testing.T, *device) []step
		repeat func(*device) error
		want   [3]string // current, staged, before
		gone   *family.Folder
	}{
		{"stage", func(*testing.T, *device) {}, func(_ *testing.T, d *device) []step { return d.staging(&mine.Family, mine) },
			func(d *device) error { return d.Stage(&mine.Family, mine) }, [3]string{"stock", "mine", ""}, nil},
		{"unstage", staged, func(_ *testing.T, d *device) []step { return d.unstaging() },
			func(d *device) error { return d.Unstage() }, [3]string{"stock", "", ""}, mine},
		{"activate", staged, func(t *testing.T, d *device) []step { return d.activation(names(t, d)) },
			func(d *device) error { return d.Activate() }, [3]string{"mine", "", "stock"}, nil},
		{"commit", onTrial, func(t *testing.T, d *device) []step { return d.commitment(names(t, d)) },
			func(d *device) error { return d.Commit() }, [3]string{"mine", "", ""}, stock},
		{"revert", onTrial, func(t *testing.T, d *device) []step { return d.reversal(names(t, d)) },
			func(d *device) error { return d.Revert() }, [3]string{"stock", "", ""}, mine},
		{"install", onTrial, func(_ *testing.T, d *device) []step { return d.installation(next) },
			func(d *device) error { return do(d.installation(next)) }, [3]string{"next", "", ""}, mine},
	} {
		for cut, all := 0, 1; cut <= all; cut++ {
			t.Run(fmt.Sprintf("%s after %d steps", op.name, cut), func(t *testing.T) {
				d := mustDevice(t, stock)
				op.before(t, d)
				steps := op.steps(t, d)
				all = len(steps)
				must(t, do(steps[:cut]))
				d.restart(t)
				n := names(t, d)
				d.want(t, nameOf(n.Current), nameOf(n.Staged), nameOf(n.Before))
				for range 2 { // and again, by who does not know that it is done
					must(t, op.repeat(d))
					d.restart(t)
					d.want(t, op.want[0], op.want[1], op.want[2])
				}
				if op.gone != nil {
					d.wantGone(t, op.gone)
				}
			})
		}
	}
}

func nameOf(f *family.Family) string {
	if f == nil {
		return ""
	}
	return f.Name
}

func TestATrialThatWasCutWhileItBeganCanBeReverted(t *testing.T) {
	stock, mine := mustFamily(t, "stock", "1"), mustFamily(t, "mine", "2")
	for cut := range 4 {
		d := mustDevice(t, stock)
		must(t, d.Stage(&mine.Family, mine))
		n, err := d.Names()
		must(t, err)
		must(t, do(d.activation(n)[:cut]))
		d.restart(t)
		must(t, d.Revert())
		d.restart(t)
		staged := ""
		if cut < 2 { // it was never in use
			staged = "mine"
		}
		d.want(t, "stock", staged, "")
	}
}

// The start after a cut is one of a newer program, whose family takes the place of
// the one in use.
func TestANewerProgramAfterACutLeavesNoTrialOfItsOwnFamily(t *testing.T) {
	stock, mine := mustFamily(t, "stock", "1"), mustFamily(t, "mine", "2")
	for cut := range 6 {
		d := mustDevice(t, stock)
		must(t, d.Stage(&mine.Family, mine))
		n, err := d.Names()
		must(t, err)
		must(t, do(d.activation(n)[:1]))
		d.carried = mustFamily(t, "stock", "3")
		opening := &Library{store: d.st, carried: d.carried}
		must(t, do(opening.restocking()[:cut]))
		d.restart(t)
		d.want(t, "stock", "mine", "")
		must(t, d.Activate())
		d.want(t, "mine", "", "stock")
		must(t, d.Commit())
		d.wantGone(t, stock)
		d.wantGone(t, d.carried)
	}
}
