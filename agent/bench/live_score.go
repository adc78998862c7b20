package bench

import (
	"slices"

	"github.com/limber-edge/limber/agent/governor/replay"
)

// settle notes how many frames of a phase it took to settle. The first member
// that ran tells which way the policy had to move: a refusal is no member. Where
// none ran at all there is no way to tell.
func (s *server) settle(worth []float64, choices []int) {
	first := slices.IndexFunc(choices, func(c int) bool { return c != refused })
	if first < 0 {
		return
	}
	n, move := replay.Settled(worth, choices[first:])
	switch {
	case move < 0:
		s.score.Down = append(s.score.Down, first+n)
	case move > 0:
		s.score.Up = append(s.score.Up, first+n)
	}
}

// lines are the figures of every policy with each deadline, and with all.
func (l *liveBench) lines() (lines []GovernorLine) {
	byName := map[string][]replay.Score{}
	var names []string
	for _, s := range l.servers {
		s.score.Switches, s.score.Steady = switchesOf(s.choices)
		best := 0.0
		for _, p := range l.phases {
			best += slices.Max(p.Worth(s.deadline-s.overhead, l.members)) / float64(len(l.phases))
		}
		if best > 0 {
			s.score.Regret = 1 - s.score.Accuracy/best
		}
		if byName[s.name] == nil {
			names = append(names, s.name)
		}
		byName[s.name] = append(byName[s.name], s.score)
		lines = append(lines, newGovernorLine(s.name, float64(s.deadline)/1e6, s.score))
	}
	for _, name := range names {
		lines = append(lines, newGovernorLine(name, 0, replay.Pool(byName[name])))
	}
	return lines
}

// switchesOf counts changes of member per frame, in all and from the fifth of a
// phase. A refusal is none: the member after it is held against the one before.
func switchesOf(phases [][]int) (all, steady float64) {
	frames, calm := 0.0, 0.0
	for _, choices := range phases {
		last := refused
		for i, c := range choices {
			switched := 0.0
			if c != refused {
				if last != refused && c != last {
					switched = 1
				}
				last = c
			}
			frames++
			all += switched
			if i >= 4 {
				calm++
				steady += switched
			}
		}
	}
	return all / max(frames, 1), steady / max(calm, 1)
}
