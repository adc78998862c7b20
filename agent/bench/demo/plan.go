package demo

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"time"

	"github.com/limber-edge/limber/agent/bench/camera"
	"github.com/limber-edge/limber/agent/bench/desk"
	"github.com/limber-edge/limber/agent/bench/load"
	"github.com/limber-edge/limber/agent/fleet"
	"github.com/limber-edge/limber/agent/wire"
)

const (
	mostCameras = 250  // of the sources that a device tells apart
	cameraShare = 0.7  // of the device's unloaded capacity with its largest member
	trials      = 5    // of fewer and fewer cameras: a machine with other work may never be calm
	calm        = 0.99 // of their frames are answered in time: the largest member can serve the cameras
	tooSlow     = 0.8  // of what the cameras send: the largest member clearly cannot keep up

	capacityTime   = 600 * time.Millisecond
	capacityWindow = 8 // frames under way: enough that the device never waits for one
)

// plan is what the demo will do on this machine.
type plan struct {
	members  []wire.Member // worth using on this machine, the largest last
	pictures *gallery
	jobs     [][]byte // the pictures, with the deadline
	boot     string   // of the agent
	cameras  []*source
	hogs     int
}

func (p *plan) largest() string { return p.members[len(p.members)-1].Name }

func (d *demo) plan(ctx context.Context, s *fleet.Mailbox, self wire.Address, p *plan) (err error) {
	tell := func(done int) { d.Progress.Tell("making pictures", done, images) }
	if p.pictures, err = newGallery(ctx, images, camera.VGA(), tell); err != nil {
		return err
	}
	if p.jobs, err = camera.Jobs(p.pictures.jpegs, jpegDue(d.Deadline)); err != nil {
		return err
	}
	c := capacity{client: desk.NewClient(s, self)}
	if c.jobs, err = camera.Jobs(p.pictures.jpegs, jpegDue(time.Minute)); err != nil { // nothing is to be refused here
		return err
	}
	// The load ends before the mode changes: the agent is not to find its place
	// under a load that is none of the demo's.
	if err := errors.Join(d.measure(ctx, c, p), d.hogs.Clear()); err != nil {
		return err
	}
	return desk.SetMode(ctx, s, self, "balanced")
}

// capacity measures what the device can do over the same way that the cameras'
// frames take: broker, agent, broker.
type capacity struct {
	client *desk.Client
	jobs   [][]byte // the cameras' pictures, with no deadline to speak of
}

// of is how many frames a second the device answers with one member. It is the
// better of two runs: whatever else the machine does only makes it less.
func (c capacity) of(ctx context.Context, member string) (float64, error) {
	if err := desk.SetMode(ctx, c.client.Mailbox, c.client.Self, "fixed:"+member); err != nil {
		return 0, err
	}
	best := 0
	for range 2 {
		answered := 0
		count := func(*wire.Result, time.Duration) { answered++ }
		if err := c.client.KeepUnderWay(ctx, c.jobs, capacityWindow, capacityTime, count); err != nil {
			return 0, err
		}
		best = max(best, answered)
	}
	return float64(best) / capacityTime.Seconds(), nil
}

// measure finds how many cameras the largest member can serve, and how many
// other programs it takes that it cannot any more while the smallest still can.
func (d *demo) measure(ctx context.Context, c capacity, p *plan) error {
	smallest, largest := p.members[0].Name, p.largest()
	d.Progress.Say("counting the frames a second that " + largest + " answers alone")
	rate, err := c.of(ctx, largest)
	if err != nil {
		return err
	}
	p.place(int(math.Round(rate / CameraRate)))
	if err := d.lighten(ctx, c, p); err != nil {
		return err
	}
	demand := float64(len(p.cameras) * CameraRate)
	for p.hogs = runtime.NumCPU(); p.hogs < 8*runtime.NumCPU(); p.hogs++ {
		d.Progress.Say(fmt.Sprintf("counting the frames a second that %s answers beside %d other programs", largest,
			p.hogs))
		if err := d.hogs.Set(load.CPU, p.hogs); err != nil {
			return err
		}
		if rate, err = c.of(ctx, largest); err != nil {
			return err
		}
		if rate < tooSlow*demand {
			break
		}
	}
	if rate, err = c.of(ctx, smallest); err != nil {
		return err
	}
	if rate < demand {
		d.Log.Warn("even the smallest member may not keep up", "hogs", p.hogs)
	}
	return nil
}

// lighten takes cameras away until the member in use carries the rest, and of these
// all but their share. Capacity is measured with a frame for each answer, so that its frames
// share what wakes the machine; cameras do not. They are carried if answers take
// half of the deadline at most: a queue that grows slowly shows within a trial.
func (d *demo) lighten(ctx context.Context, c capacity, p *plan) (err error) {
	trial := *p
	if trial.jobs, err = camera.Jobs(p.pictures.jpegs, jpegDue(d.Deadline/2)); err != nil {
		return err
	}
	t := &traffic{mailbox: c.client.Mailbox, self: c.client.Self, plan: &trial}
	for range trials {
		n := len(trial.cameras)
		d.Progress.Say(fmt.Sprintf("trying %d cameras", n))
		rec, err := t.practise(ctx, d.Deadline, "trial")
		if err != nil {
			return err
		}
		carried := rec.summary().Met
		if carried >= calm || n == 1 {
			break
		}
		trial.cameras = trial.cameras[:fewer(n, carried)]
	}
	p.cameras = trial.cameras[:max(1, int(math.Round(cameraShare*float64(len(trial.cameras)))))]
	return nil
}

// fewer is how many of n cameras may be carried if this share of their frames was.
func fewer(n int, carried float64) int { return max(1, min(n-1, int(carried*float64(n)))) }

// place sets up so many cameras, but one at least. They are not to be replaced by
// others of their names: the device would go on counting.
func (p *plan) place(cameras int) {
	p.cameras = nil
	for i := range min(max(1, cameras), mostCameras) {
		p.cameras = append(p.cameras, &source{name: fmt.Sprintf("camera-%d", i+1), boot: p.boot})
	}
}
