package governor

import "fmt"

// Feasible tells whether an unloaded device can have what a mode asks for, and
// if not, the goal of figures nearest to it that it can have, with the reason.
// Members that are not eligible do not count.
func (g *Governor) Feasible(m Mode) (nearest Goal, err error) {
	if m.kind == fixed {
		_, err := g.find(m.member)
		return Goal{}, err
	}
	goal := m.goal
	nearest = goal
	best := g.eligible.last()
	if goal.Floor > g.members[best].Top1 {
		nearest.Floor = g.members[best].Top1
		err = fmt.Errorf("no member reaches a top-1 of %v; the most accurate, %s, has %.4f", goal.Floor, g.members[best].Name, nearest.Floor)
	}
	least := g.atLeast(nearest.Floor).first()
	if takes := g.members[least].Latency; goal.Deadline > 0 && takes > goal.Deadline {
		nearest.Deadline = takes
		err = fmt.Errorf("%s, the fastest member with a top-1 of %v, takes %v unloaded, the deadline is %v", g.members[least].Name, nearest.Floor, takes, goal.Deadline)
	}
	switch {
	case goal.Watts == 0:
	case g.power.Active <= 0:
		nearest.Watts = 0
		err = fmt.Errorf("this device cannot measure its power, so that %v W cannot be kept", goal.Watts)
	case goal.Watts <= g.power.Idle:
		nearest.Watts = g.power.Idle + g.power.Active
		err = fmt.Errorf("the device takes %.1f W when it does nothing, the goal is %v W", g.power.Idle, goal.Watts)
	}
	return nearest, err
}
