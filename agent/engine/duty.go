package engine

import "time"

// duty has work beside jobs rest after each of its steps while jobs come, for so long
// that fewer than one in twenty meets with a step: then the 95th percentile of what jobs
// take is of those that meet with none. On a device that is slow, or busy otherwise, it
// may spend its rest before the work is done: what is left is then done at once. It
// belongs to one goroutine.
type duty struct {
	answered func() uint64   // how many jobs were, up to now
	ended    <-chan struct{} // closed when nobody waits for the work any more

	left  time.Duration // that it may rest
	began time.Time     // the step that is done
	seen  uint64        // jobs answered
	came  time.Time     // when there was a new one of them; zero: there was none yet
}

const (
	restFactor = 25 // times as long as the step before
	restMost   = 5 * time.Second
	restIdle   = 250 * time.Millisecond // without a job, after which none are expected
	restPace   = 25 * time.Millisecond  // between two looks for jobs
)

func newDuty(rest time.Duration, ended <-chan struct{}, answered func() uint64) *duty {
	return &duty{answered: answered, ended: ended, left: rest, began: time.Now(), seen: answered()}
}

// begin notes that a step begins which none but time came before. After a rest it may
// be left out.
func (d *duty) begin() { d.began = time.Now() }

// rest ends a step. It returns when the next one may begin.
func (d *duty) rest() {
	defer d.begin()
	since := time.Now()
	most := min(restFactor*since.Sub(d.began), restMost, d.left)
	defer func() { d.left -= time.Since(since) }()
	for d.jobsCome() && time.Since(since) < most {
		select {
		case <-time.After(min(most-time.Since(since), restPace)):
		case <-d.ended:
			return
		}
	}
}

// jobsCome tells whether one was answered lately.
func (d *duty) jobsCome() bool {
	if n := d.answered(); n != d.seen {
		d.seen, d.came = n, time.Now()
	}
	return time.Since(d.came) < restIdle
}
