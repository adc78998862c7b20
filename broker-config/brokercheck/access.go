package brokercheck

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/limber-edge/limber/agent/mqtt"
)

// another is the device whose topics are tried by a device that may not.
const another = "another"

// deniedSubscribe also has the device sent a job of its own: one that is sent
// nothing at all proves nothing.
func deniedSubscribe(ctx context.Context, p probe) (string, error) {
	own, foreign := topic(p.cfg.Name, "job/1"), topic(another, "job/1")
	d, err := p.openDevice(ctx, subscribed(topic(p.cfg.Name, "job/#"), topic(another, "job/#")))
	if err != nil {
		return "", fmt.Errorf("device %s: %w", p.cfg.Name, err)
	}
	defer d.close()
	o, err := p.open(ctx, "operator")
	if err != nil {
		return "", err
	}
	defer o.close()
	for _, t := range []string{foreign, own} {
		if err := o.Publish(ctx, mqtt.Message{Topic: t, QoS: 1, Payload: []byte("1")}); err != nil {
			return "", err
		}
	}
	return d.only(ctx, own, foreign, "a device is not sent the jobs of another",
		"a device is sent the jobs of another")
}

// deniedPublish likewise has it publish a state of its own.
func deniedPublish(ctx context.Context, p probe) (string, error) {
	own, foreign := topic(p.cfg.Name, "telemetry"), topic(another, "job/1")
	o, err := p.open(ctx, "operator", subscribed(own, foreign))
	if err != nil {
		return "", err
	}
	defer o.close()
	for _, t := range []string{foreign, own} { // a connection each: a broker may end the first
		d, err := p.openDevice(ctx)
		if err != nil {
			return "", fmt.Errorf("device %s: %w", p.cfg.Name, err)
		}
		d.Publish(ctx, mqtt.Message{Topic: t, QoS: 1, Payload: []byte("1")}) // the operator sees what it led to
		d.close()
	}
	return o.only(ctx, own, foreign, "a device cannot send another a job", "a device can send another a job")
}

// only says well when what is a client's own comes and the foreign does not, and
// else complains with ill.
func (c *client) only(ctx context.Context, own, foreign, well, ill string) (string, error) {
	settled := time.NewTimer(time.Hour)
	defer settled.Stop()
	for {
		select {
		case m := <-c.arrived:
			switch m.Topic {
			case foreign:
				return "", errors.New(ill)
			case own:
				settled.Reset(quiet)
			}
		case <-settled.C:
			return well, nil
		case <-ctx.Done():
			return "", fmt.Errorf("%s does not pass, which a device may", own)
		}
	}
}
