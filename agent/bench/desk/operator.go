package desk

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"github.com/limber-edge/limber/agent/fleet"
	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/wire"
)

// connectTime is how long a connection to a broker of this machine may take.
const connectTime = 5 * time.Second

// Connect runs work with a mailbox that hears what the filters name, and
// disconnects.
func Connect(ctx context.Context, broker string, stderr io.Writer, filters []string,
	work func(context.Context, *fleet.Mailbox) error) error {
	b, err := fleet.OpenMailbox(link(broker), errorsTo(stderr), filters...)
	if err != nil {
		return err
	}
	return connected(ctx, broker, b, func(ctx context.Context) error { return work(ctx, b) })
}

// Operate runs work with an operator's client, and disconnects.
func Operate(ctx context.Context, broker string, stderr io.Writer, filters []string,
	work func(context.Context, *fleet.Client) error) error {
	c, err := fleet.Open(link(broker), errorsTo(stderr), filters...)
	if err != nil {
		return err
	}
	return connected(ctx, broker, c, func(ctx context.Context) error { return work(ctx, c) })
}

func link(broker string) mqtt.Config {
	cfg := mqtt.Default()
	cfg.Broker, cfg.ClientID = broker, "limber-"+fleet.NewID()[:12]
	return cfg
}

func errorsTo(stderr io.Writer) *slog.Logger {
	return slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: slog.LevelError}))
}

func connected(ctx context.Context, broker string, c fleet.Connection, work func(context.Context) error) error {
	return fleet.Connected(ctx, c, connectTime, work, func(err error) error { return fmt.Errorf("broker %s: %w", broker, err) })
}

// AwaitMembers waits until a device, whose state and capabilities the mailbox hears,
// has members in use. The error says why it cannot have any.
func AwaitMembers(ctx context.Context, b *fleet.Mailbox, self wire.Address) (caps wire.Caps, err error) {
	for {
		m, err := b.Next(ctx)
		if err != nil {
			return caps, fmt.Errorf("the agent did not come up: %w", err)
		}
		var s wire.State
		switch m.Topic {
		case self.Caps():
			if err := wire.Decode(m.Payload, &caps); err != nil || len(caps.Members) > 0 {
				return caps, err
			}
		case self.State():
			if err := wire.Decode(m.Payload, &s); err != nil {
				return caps, err
			}
			if s.Detail != "" && !strings.HasPrefix(s.Detail, "preparing") {
				return caps, fmt.Errorf("the agent can use no member on this machine: %s", s.Detail)
			}
		}
	}
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
