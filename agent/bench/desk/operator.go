package desk

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/limber-edge/limber/agent/fleet"
	"github.com/limber-edge/limber/agent/mqtt"
)

// connectTime is how long a connection to a broker of this machine may take.
const connectTime = 5 * time.Second

// Connect runs work with a client that hears what the filters name, and
// disconnects.
func Connect(ctx context.Context, broker string, stderr io.Writer, filters []string,
	work func(context.Context, *fleet.Station) error) error {
	cfg := mqtt.Default()
	cfg.Broker, cfg.ClientID = broker, "limber-"+fleet.NewID()[:12]
	log := slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	s, err := fleet.Open(cfg, log, filters...)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	defer func() {
		cancel()
		<-done
	}()
	wait, stop := context.WithTimeout(ctx, connectTime)
	defer stop()
	if err := s.Ready(wait); err != nil {
		return fmt.Errorf("broker %s: %w", broker, err)
	}
	return work(ctx, s)
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
