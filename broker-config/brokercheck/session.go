package brokercheck

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/limber-edge/limber/agent/mqtt"
)

const (
	kept    = 1000 // messages that wait for one that is away
	ordered = 200  // messages whose order is looked at, live and kept each
	window  = 100  // messages that are to come before the first is acknowledged
)

// away is the one client id whose session outlives its connection.
const away = "away"

// returning leaves a session behind that is subscribed, for others to publish to.
func (p probe) returning(ctx context.Context, filter string) error {
	if err := p.forget(ctx); err != nil {
		return err
	}
	c, err := p.open(ctx, away, persistent, subscribed(filter))
	if err == nil {
		c.close()
	}
	return err
}

// forget ends that session, with all that waits in it.
func (p probe) forget(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	c, err := p.open(ctx, away)
	if err == nil {
		c.close()
	}
	return err
}

func session(ctx context.Context, p probe) (string, error) {
	jobs := topic("session", "job/1")
	if err := p.returning(ctx, jobs); err != nil {
		return "", err
	}
	defer p.forget(ctx)
	got, err := p.sendAndReturn(ctx, jobs, kept)
	if err == nil && len(got) < kept {
		err = fmt.Errorf("%d of %d messages kept for one that is away", len(got), kept)
	}
	return fmt.Sprintf("%d of %d messages kept for one that is away", len(got), kept), err
}

// sendAndReturn publishes n messages to a session that is away, and returns what
// comes when it is back.
func (p probe) sendAndReturn(ctx context.Context, topic string, n int) ([]string, error) {
	s, err := p.open(ctx, "sender")
	if err != nil {
		return nil, err
	}
	defer s.close()
	if err := s.send(ctx, topic, n); err != nil {
		return nil, err
	}
	if err := s.settle(ctx); err != nil {
		return nil, err
	}
	c, err := p.open(ctx, away, persistent)
	if err != nil {
		return nil, err
	}
	defer c.close()
	if !c.remembered {
		return nil, errors.New("the session was forgotten")
	}
	return c.first(ctx, n), nil
}

func order(ctx context.Context, p probe) (string, error) {
	jobs := topic("order", "job/1")
	c, err := p.open(ctx, "order", subscribed(jobs))
	if err != nil {
		return "", err
	}
	defer c.close()
	if err := c.send(ctx, jobs, ordered); err != nil {
		return "", err
	}
	live := c.first(ctx, ordered)
	if err := p.returning(ctx, jobs); err != nil {
		return "", err
	}
	defer p.forget(ctx)
	late, err := p.sendAndReturn(ctx, jobs, ordered)
	switch {
	case err != nil:
		return "", err
	case !inOrder(live):
		return "", errors.New("another order than that of publishing")
	case !inOrder(late):
		return "", errors.New("another order than that of publishing for one that was away")
	}
	return "in the order of publishing", nil
}

// inOrder tells whether payloads are the numbers up to ordered.
func inOrder(payloads []string) bool {
	for i, p := range payloads {
		if p != strconv.Itoa(i+1) {
			return false
		}
	}
	return len(payloads) == ordered
}

func inflight(ctx context.Context, p probe) (string, error) {
	jobs := topic("inflight", "job/1")
	c, err := p.open(ctx, "inflight", subscribed(jobs), holding)
	if err != nil {
		return "", err
	}
	defer c.close()
	s, err := p.open(ctx, "sender")
	if err != nil {
		return "", err
	}
	defer s.close()
	if err := s.send(ctx, jobs, window); err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	got := len(c.first(ctx, window))
	if got < window {
		return "", fmt.Errorf("%d unacknowledged at once", got)
	}
	return fmt.Sprintf("%d unacknowledged at once", got), nil
}

func redelivery(ctx context.Context, p probe) (string, error) {
	job := topic("redelivery", "job/1")
	if err := p.forget(ctx); err != nil {
		return "", err
	}
	c, err := p.open(ctx, away, persistent, subscribed(job), holding)
	if err != nil {
		return "", err
	}
	defer p.forget(ctx)
	if err := c.Publish(ctx, mqtt.Message{Topic: job, QoS: 1, Payload: []byte("1")}); err != nil {
		c.close()
		return "", err
	}
	_, err = c.await(ctx, job)
	c.cut()
	began := time.Now()
	if err != nil {
		return "", errors.New("not delivered at all")
	}
	again, err := p.open(ctx, away, persistent)
	if err != nil {
		return "", err
	}
	defer again.close()
	m, err := again.await(ctx, job)
	switch {
	case err != nil:
		return "", errors.New("not delivered again after a cut")
	case !m.Duplicate:
		return "", errors.New("delivered again after a cut, but not marked as a duplicate")
	}
	return fmt.Sprintf("delivered again %.0f s after a cut, marked as a duplicate", time.Since(began).Seconds()), nil
}

func takeover(ctx context.Context, p probe) (string, error) {
	job := topic("takeover", "job/1")
	if err := p.forget(ctx); err != nil {
		return "", err
	}
	defer p.forget(ctx)
	first, err := p.open(ctx, away, persistent, subscribed(job))
	if err != nil {
		return "", err
	}
	defer first.close()
	second, err := p.open(ctx, away, persistent)
	if err != nil {
		return "", fmt.Errorf("the second client of an id: %w", err)
	}
	defer second.close()
	select {
	case <-first.lost:
	case <-ctx.Done():
		return "", errors.New("the first client of an id keeps its connection")
	}
	if err := second.Publish(ctx, mqtt.Message{Topic: job, QoS: 1, Payload: []byte("1")}); err != nil {
		return "", fmt.Errorf("the second client of an id is cut off: %w", err)
	}
	if _, err := second.await(ctx, job); err != nil {
		return "", errors.New("the second client of an id is not sent what the first subscribed to")
	}
	return "the second client of an id gets its session, the first is cut off", nil
}
