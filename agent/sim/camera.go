package sim

import (
	"context"
	"time"

	"github.com/limber-edge/limber/agent"
	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/wire"
)

// filmEvery is how often frames are handed out that became due.
const filmEvery = 20 * time.Millisecond

// film hands frames to the devices in turns, as if the broker had delivered them, until
// ctx ends. A camera is beside its device: one that is off misses its frames, and one
// whose link is broken does not.
func (f *Fleet) film(ctx context.Context) error {
	rate := f.cfg.Profile.FPS * float64(len(f.devices))
	if rate == 0 {
		return nil
	}
	tick := time.NewTicker(filmEvery)
	defer tick.Stop()
	began := time.Now()
	for shown := 0; ; {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		for due := int(time.Since(began).Seconds() * rate); shown < due; shown++ {
			if err := f.show(shown); err != nil {
				return err
			}
		}
	}
}

// show hands a device the next frame.
func (f *Fleet) show(n int) error {
	d := f.devices[n%len(f.devices)]
	a := d.filmed()
	if a == nil {
		return nil
	}
	payload, err := wire.JoinJob(wire.Header{Codec: wire.Gray, Width: side, Height: side,
		DeadlineMS: &f.cfg.Profile.DeadlineMS}, picture(n))
	if err != nil {
		return err
	}
	f.counts.frames.Add(1)
	a.Receive(mqtt.Message{Topic: d.camera, Payload: payload}, func() {})
	return nil
}

// filmed is the agent of a device from its first connection on, since when it takes
// what comes; nil before.
func (d *device) filmed() *agent.Agent {
	a := d.agent.Load()
	if a != nil && d.seen != a && a.Snapshot().Uplink.ConnSeq > 0 {
		d.seen = a
	}
	if a != d.seen {
		return nil
	}
	return a
}

// picture is the n-th; they repeat after 2^16.
func picture(n int) []byte {
	pixels := make([]byte, side*side)
	for i := range pixels {
		pixels[i] = byte(n>>8 + i*(n&0xff))
	}
	return pixels
}
