package fleet

import (
	"fmt"
	"time"

	"github.com/limber-edge/limber/agent/wire"
)

// ListHead is the head of a list of devices: what their Cells are.
func ListHead() []string {
	return []string{"DEVICE", "STATE", "FOR", "MODE", "MEMBER", "FAMILY", "TOP-1 %", "P50 MS", "AGENT"}
}

// Where some of the cells are.
const (
	cellState  = 1
	cellFor    = 2
	cellMode   = 3
	cellMember = 4
	cellFamily = 5
	cellAgent  = 8
)

// Cells is a device in a list; what it never said is a dash.
func (d Device) Cells(now time.Time) []string {
	state, since, mode, member, family, top1, p50, version := "-", "-", "-", "-", "-", "-", "-", "-"
	if s := d.State; s != nil {
		state = string(s.State)
		if s.State != wire.Lost { // its time is that of the connection, with which the will was left
			since = Age(now.Sub(s.TS.Time))
		}
	}
	if r := d.Reported; r != nil && r.Mode != "" {
		mode, member = r.Mode, r.Member
	}
	if c := d.Caps; c != nil {
		version = c.Versions.Agent
		if c.Family != nil {
			family = c.Family.Name
		}
		if n := len(c.Members); n > 0 {
			first, last := c.Members[0], c.Members[n-1]
			top1 = fmt.Sprintf("%.1f-%.1f", 100*first.Top1, 100*last.Top1)
			if first.P50MS != nil && last.P50MS != nil {
				p50 = fmt.Sprintf("%.2f-%.2f", *first.P50MS, *last.P50MS)
			}
		}
	}
	cells := []string{d.Name, state, since, mode, member, family, top1, p50, version}
	for i, cell := range cells {
		cells[i] = Printable(cell)
	}
	return cells
}
