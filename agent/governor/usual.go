package governor

import (
	"math"
	"time"
)

// usualMemory is the time constant with which the usual slack shrinks.
const usualMemory = 5 * time.Second

// usual is the slack of a job that finds the device free: the deadline less
// what decoding takes. It grows at once and shrinks slowly, so that neither a
// queue nor a few hurried jobs move the operating member.
type usual struct {
	slack time.Duration // 0 before the first job that had any
	at    time.Duration
}

func (u *usual) known() bool { return u.slack > 0 }

func (u *usual) meet(now, slack time.Duration) {
	if slack <= 0 {
		return
	}
	gone := 1 - math.Exp(-float64(max(0, now-u.at))/float64(usualMemory))
	u.at = now
	u.slack = max(slack, u.slack-time.Duration(gone*float64(u.slack-slack)))
}

// like reports that slack is the usual one, give or take a tenth.
func (u *usual) like(slack time.Duration) bool { return slack >= u.slack/10*9 }
