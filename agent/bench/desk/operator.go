package desk

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"github.com/limber-edge/limber/agent/fleet"
	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/wire"
)

// Connect runs work with a mailbox that hears what the filters name, and
// disconnects.
func Connect(ctx context.Context, broker string, stderr io.Writer, filters []string,
	work func(context.Context, *fleet.Mailbox) error) error {
	cfg := mqtt.Default()
	cfg.Broker, cfg.ClientID = broker, "limber-"+fleet.NewID()[:12]
	log := slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	b, err := fleet.OpenMailbox(cfg, log, filters...)
	if err != nil {
		return err
	}
	return b.While(ctx, "", func(ctx context.Context) error { return work(ctx, b) })
}

// How long a device may take.
const (
	Silence   = 10 * time.Second // without a word, before it is given up
	StartTime = 2 * time.Minute  // to measure its members and connect
)

// SetMode sets a device's mode and waits until it did; the mailbox hears the
// acknowledgements.
func SetMode(ctx context.Context, b *fleet.Mailbox, self wire.Address, mode string) error {
	command, err := json.Marshal(wire.Command{Mode: mode, TTLMS: new(5000.0)})
	if err != nil {
		return err
	}
	m := mqtt.Message{Topic: self.Cmd(wire.VerbMode, fleet.NewID()), Payload: command, QoS: 1}
	if err := b.Publish(ctx, m); err != nil {
		return err
	}
	for {
		ack, err := awaitAck(ctx, b)
		switch {
		case err != nil || ack.State == wire.CommandSucceeded:
			return err
		case ack.State.Final():
			return fmt.Errorf("mode %s: %s %s", mode, ack.State, ack.Detail)
		}
	}
}

// awaitAck waits for an acknowledgement and drops all other messages.
func awaitAck(ctx context.Context, b *fleet.Mailbox) (ack wire.Ack, err error) {
	ctx, cancel := context.WithTimeout(ctx, Silence)
	defer cancel()
	for {
		m, err := b.Next(ctx)
		if err != nil {
			return ack, fmt.Errorf("the device does not answer: %w", err)
		}
		if t, err := wire.ParseTopic(m.Topic); err == nil && t.Kind == wire.KindAck {
			return ack, wire.Decode(m.Payload, &ack)
		}
	}
}

// AwaitMembers waits until a device, whose state and capabilities the mailbox hears,
// has members in use. The error says why it cannot have any.
func AwaitMembers(ctx context.Context, b *fleet.Mailbox, self wire.Address) (s wire.State, c wire.Caps, err error) {
	for s.BootID == "" || len(c.Members) == 0 {
		m, err := b.Next(ctx)
		if err != nil {
			return s, c, fmt.Errorf("the agent did not come up: %w", err)
		}
		switch m.Topic {
		case self.Caps():
			err = wire.Decode(m.Payload, &c)
		case self.State():
			if err = wire.Decode(m.Payload, &s); err == nil && s.Detail != "" && !strings.HasPrefix(s.Detail, "preparing") {
				err = fmt.Errorf("the agent can use no member on this machine: %s", s.Detail)
			}
		}
		if err != nil {
			return s, c, err
		}
	}
	return s, c, nil
}

// Sent is the error of a message that could not even be sent; whether the broker
// has it is not waited for.
func Sent(outcome <-chan error) error {
	select {
	case err := <-outcome:
		return err
	default:
		return nil
	}
}

// Wait waits for a moment, such as that of the next frame.
func Wait(ctx context.Context, until time.Time) error {
	t := time.NewTimer(time.Until(until))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
