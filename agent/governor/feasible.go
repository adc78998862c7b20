package governor

import (
	"errors"
	"fmt"
)

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
	var errs []error
	if best := g.members[g.eligible.last()]; goal.Floor > best.Top1 {
		nearest.Floor = best.Top1
		errs = append(errs, fmt.Errorf("no member reaches a top-1 of %v; the most accurate, %s, has %.4f", goal.Floor, best.Name, best.Top1))
	}
	if least := g.members[g.atLeast(nearest.Floor).first()]; goal.Deadline > 0 && least.Latency > goal.Deadline {
		nearest.Deadline = least.Latency
		errs = append(errs, fmt.Errorf("%s%s takes %v unloaded, the deadline is %v", least.Name, fastestWith(nearest.Floor), least.Latency, goal.Deadline))
	}
	switch {
	case goal.Watts == 0:
	case g.power.Active <= 0:
		nearest.Watts = 0
		errs = append(errs, fmt.Errorf("this device cannot measure its power, so that %v W cannot be kept", goal.Watts))
	case goal.Watts <= g.power.Idle:
		nearest.Watts = g.power.Idle + g.power.Active
		errs = append(errs, fmt.Errorf("the device takes %.1f W when it does nothing, the goal is %v W", g.power.Idle, goal.Watts))
	}
	return nearest, errors.Join(errs...)
}

// fastestWith says of a member what it is the fastest of.
func fastestWith(floor float64) string {
	if floor == 0 {
		return ", the fastest member,"
	}
	return fmt.Sprintf(", the fastest member with a top-1 of %v,", floor)
}
