package mqtt

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"syscall"
	"time"
)

// How a row of hang-ups is recognised: so many connections, one after the other,
// that were accepted, did not last for so long, and were ended by the broker.
const (
	rowOfHangUps = 5
	brief        = 10 * time.Second
)

// maxHangUpPause is the ceiling of the pauses behind a row of hang-ups.
const maxHangUpPause = 30 * time.Second

// errStranger is the end of a connection on which a state of another client with
// this id was seen.
var errStranger = errors.New("the broker keeps the state of another client with this id")

// pauses say how long a link keeps away after each attempt. The brokers of a list
// are tried one behind the other without one: the pause grows by the round.
type pauses struct {
	brokers int // in a round
	failed  int // attempts in a row that did not lead to a connection
	round   backoff

	hangUps int     // see countHangUps
	slow    backoff // for a broker that hangs up again and again
	rival   time.Duration
}

func newPauses(cfg Config, brokers int) *pauses {
	return &pauses{
		brokers: brokers,
		round:   backoff{min: cfg.BackoffMin, max: cfg.BackoffMax},
		slow:    backoff{min: cfg.BackoffMax, max: max(cfg.BackoffMax, maxHangUpPause)},
		rival:   cfg.RivalPause,
	}
}

// suspicious tells whether the next connection may complete a row of hang-ups.
func (p *pauses) suspicious() bool { return p.hangUps >= rowOfHangUps-1 }

// next is the pause behind an attempt, with its end as the owner is to hear it.
func (p *pauses) next(lived time.Duration, end error) (time.Duration, error) {
	p.failed++
	if lived > 0 {
		p.failed = 0
	}
	before := p.hangUps
	if p.hangUps = countHangUps(before, lived, end); p.hangUps == 0 {
		p.slow.ceiling = 0
	}
	switch {
	case p.hangUps >= rowOfHangUps && errors.Is(end, errStranger):
		p.hangUps = 0
		away := p.rival + rand.N(p.rival) // the other one may do the same
		return away, fmt.Errorf("%w; the next attempt is in %v: %w", ErrRival, away.Round(time.Second), end)
	case p.hangUps == rowOfHangUps && before < rowOfHangUps:
		return p.slow.next(0), fmt.Errorf("%w: %w", ErrHangsUp, end)
	case p.hangUps >= rowOfHangUps && lived > 0:
		return p.slow.next(0), end
	case p.failed%p.brokers != 0:
		return 0, end
	}
	return p.round.next(lived), end
}

// countHangUps counts the brief connections in a row that the broker ended. A
// reset, which a link in between may send, and an end before the subscription say
// nothing about it.
func countHangUps(n int, lived time.Duration, err error) int {
	switch {
	case lived >= brief:
		return 0
	case errors.Is(err, syscall.ECONNRESET):
		return n
	case !errors.Is(err, io.EOF) && !errors.Is(err, errDismissed):
		return 0
	case lived == 0:
		return n
	}
	return n + 1
}

// backoff is exponential with full jitter: a fleet that lost its broker comes
// back spread out. The ceiling falls back to min once a connection outlived
// it, so a broker that accepts and hangs up is not hammered, while a link that
// breaks now and then is taken up again at once.
type backoff struct {
	min, max, ceiling time.Duration
}

func (b *backoff) next(lived time.Duration) time.Duration {
	if lived > b.ceiling {
		b.ceiling = b.min
	} else {
		b.ceiling = max(b.min, min(2*b.ceiling, b.max))
	}
	return rand.N(b.ceiling) + 1
}
