package brokercheck

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/limber-edge/limber/agent/mqtt"
)

func qos1(ctx context.Context, p probe) (string, error) {
	job := topic("qos1", "job/1")
	c, err := p.open(ctx, "qos1", subscribed(job))
	if err != nil {
		return "", err
	}
	defer c.close()
	if err := c.Publish(ctx, mqtt.Message{Topic: job, QoS: 1, Payload: []byte("1")}); err != nil {
		return "", fmt.Errorf("not acknowledged: %w", err)
	}
	m, err := c.await(ctx, job)
	if err == nil && m.QoS != 1 {
		err = fmt.Errorf("delivered with QoS %d", m.QoS)
	}
	return "acknowledged, and delivered with QoS 1", err
}

func retain(ctx context.Context, p probe) (string, error) {
	state := topic("retain", "state")
	c, err := p.openClearing(ctx, "retain", state)
	if err != nil {
		return "", err
	}
	defer c.close()
	if err := c.retain(ctx, state, "online"); err != nil {
		return "", err
	}
	err = p.retains(ctx, state, "online")
	return "told to who subscribes later", errors.Join(err, c.retain(ctx, state, ""))
}

func retainClear(ctx context.Context, p probe) (string, error) {
	state := topic("retain_clear", "state")
	c, err := p.openClearing(ctx, "retain", state)
	if err != nil {
		return "", err
	}
	defer c.close()
	err = errors.Join(c.retain(ctx, state, "online"), c.retain(ctx, state, ""))
	if err != nil {
		return "", err
	}
	later, err := p.open(ctx, "later", subscribed(state, topic("mark", "job/#")))
	if err != nil {
		return "", err
	}
	defer later.close()
	came, err := later.pending(ctx)
	if slices.ContainsFunc(came, func(m mqtt.Message) bool { return m.Retained && m.Topic == state }) {
		err = errors.New("still told to who subscribes later")
	}
	return "gone after an empty one", err
}

func will(ctx context.Context, p probe) (string, error) {
	state := topic("will", "state")
	w, err := p.openClearing(ctx, "watcher", state, subscribed(state))
	if err != nil {
		return "", err
	}
	defer w.close()
	lost := withWill(mqtt.Message{Topic: state, Payload: []byte("lost"), QoS: 1, Retained: true})
	leaving, err := p.open(ctx, "device", lost)
	if err != nil {
		return "", err
	}
	leaving.close()
	if err := w.none(ctx, state); err != nil {
		return "", errors.Join(errors.New("published after a DISCONNECT"), w.retain(ctx, state, ""))
	}
	dying, err := p.open(ctx, "device", lost)
	if err != nil {
		return "", err
	}
	dying.cut()
	if _, err := w.await(ctx, state); err != nil {
		return "", errors.New("not published after a cut")
	}
	err = p.retains(ctx, state, "lost")
	return "published and retained after a cut, not after a DISCONNECT", errors.Join(err, w.retain(ctx, state, ""))
}

// retain has the broker retain a text, or with an empty one forget it.
func (c *client) retain(ctx context.Context, topic, text string) error {
	err := c.Publish(ctx, mqtt.Message{Topic: topic, QoS: 1, Retained: true, Payload: []byte(text)})
	if err != nil {
		return fmt.Errorf("a retained message was not acknowledged: %w", err)
	}
	return nil
}

// retains complains unless a client that subscribes now is told the text as retained.
func (p probe) retains(ctx context.Context, topic, text string) error {
	later, err := p.open(ctx, "later", subscribed(topic))
	if err != nil {
		return err
	}
	defer later.close()
	m, err := later.await(ctx, topic)
	switch {
	case err != nil:
		return errors.New("not told to who subscribes later")
	case !m.Retained || string(m.Payload) != text:
		return fmt.Errorf("who subscribes later is told %q, retained %v", m.Payload, m.Retained)
	}
	return nil
}
